/** Checks of credentials and permissions for `agent-swarm init`: rows that are tried for real, and change nothing outside. */
import { MAKE_SECRET, MIN_SECRET_LENGTH } from '../config/secrets.ts'
import type { Failure } from '../schema/failure.ts'

export type Check = {
  /** The side that was checked, for example `GitHub`. */
  subject: string
  /** `error`: something will not work. `warning`: it works, but somebody should know. */
  status: 'ok' | 'warning' | 'error'
  text: string
  remedy: string | null
}
/** `correction`: the value that a setting should have instead. `next`: a command to run after init. */
export type Finding = Omit<Check, 'subject'> & { correction?: readonly ['jiraHost', string]; next?: string }

export const ok = (text: string): Finding => ({ status: 'ok', text, remedy: null })
export const warning = (text: string, remedy: string | null = null): Finding => ({ status: 'warning', text, remedy })
export const problem = (text: string, remedy: string | null): Finding => ({ status: 'error', text, remedy })
/** `remedy` is used when the failure has none. */
export const failed = (failure: Failure, remedy: string | null = null): Finding =>
  problem(failure.message, failure.remedy ?? remedy)

export const hasError = (findings: readonly Pick<Check, 'status'>[]) => findings.some(row => row.status === 'error')
type Findings = Finding | null | readonly (Finding | null)[]
/** `doing` says what is being done, and begins the text of a check that throws. */
type CheckRow<Context> = readonly [doing: string, run: (context: Context) => Findings | Promise<Findings>]

/** Runs checks in this order. The first that throws is the last. */
export const runChecks = async <Context>(
  context: Context,
  rows: readonly CheckRow<Context>[],
  explain: (error: unknown, doing: string, context: Context) => Finding,
): Promise<Finding[]> => {
  const findings: Finding[] = []
  for (const [doing, run] of rows) {
    try {
      findings.push(...[await run(context)].flat().filter(finding => finding !== null))
    } catch (error) {
      return [...findings, explain(error, doing, context)]
    }
  }
  return findings
}

export const checkSecret = (name: string, secret: string): Finding =>
  secret.length >= MIN_SECRET_LENGTH && new Set(secret).size > 4
    ? ok(`the ${name} is long enough`)
    : problem(
        `the ${name} is easy to guess: it has ${secret.length} characters`,
        `Use a long random one. ${MAKE_SECRET}`,
      )
