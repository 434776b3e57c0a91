/** What a check found, of `init`, `doctor` and the providers. Pure. */
import type { Failure } from './schema/failure.ts'

export type Check = {
  /** The side that was checked, for example `GitHub`. */
  subject: string
  /** `error`: something will not work. `warning`: it works, but somebody should know. */
  status: 'ok' | 'warning' | 'error'
  text: string
  remedy: string | null
}
type Result = Omit<Check, 'subject'>
/** `correction`: the value that a setting should have instead. `next`: a command to run after init. */
export type Finding = Result & { correction?: readonly ['jiraHost', string]; next?: string }

export const ok = (text: string): Result => ({ status: 'ok', text, remedy: null })
export const warning = (text: string, remedy: string | null = null): Result => ({ status: 'warning', text, remedy })
export const problem = (text: string, remedy: string | null): Result => ({ status: 'error', text, remedy })
/** `remedy` is used when the failure has none. */
export const failed = (failure: Failure, remedy: string | null = null): Result =>
  problem(failure.message, failure.remedy ?? remedy)

export const hasError = (findings: readonly Pick<Check, 'status'>[]) => findings.some(row => row.status === 'error')
