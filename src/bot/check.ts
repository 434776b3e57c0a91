/**
 * Checks of credentials and permissions for `agent-swarm init`: tables of rows that are tried for real. A check changes
 * nothing outside.
 */
import type { Config } from '../config/config.ts'
import type { SettingName } from '../config/settings.ts'
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
type Finding = Omit<Check, 'subject'> & { correction?: readonly ['jiraHost', string]; next?: string }

export const ok = (text: string): Finding => ({ status: 'ok', text, remedy: null })
export const warning = (text: string, remedy: string | null = null): Finding => ({ status: 'warning', text, remedy })
export const problem = (text: string, remedy: string | null): Finding => ({ status: 'error', text, remedy })
/** `remedy` is used when the failure has none. */
export const failed = (failure: Failure, remedy: string | null = null): Finding =>
  problem(failure.message, failure.remedy ?? remedy)

export const hasError = (findings: readonly Pick<Check, 'status'>[]) => findings.some(row => row.status === 'error')
type Findings = Finding | null | readonly (Finding | null)[]

type CheckRow<Context> = {
  /** Says what is being done, and begins the text when the row throws. */
  name: string
  /** The answers that the row relies on. It runs when all of them are known and none of them has failed. */
  needs: readonly SettingName[]
  run(context: Context): Findings | Promise<Findings>
}
type CheckTable<Context> = {
  subject: string
  /** Null when the configuration is not complete enough to check anything. `signal` ends outside commands. */
  open(config: Config, signal: AbortSignal): Promise<Context | null>
  /** Run in this order. A row that throws is the last. */
  rows: readonly CheckRow<Context>[]
  explain(error: unknown, doing: string, context: Context): Finding
  /** Values that a setting could have, to offer them in its question. */
  suggestions?: Readonly<Partial<Record<SettingName, (context: Context) => Promise<string[]>>>>
}
export type Checks = ReturnType<typeof defineChecks>

/** Hides the context of a table, so that tables of several kinds fit into one list. */
export const defineChecks = <Context>({ subject, open, rows, explain, suggestions = {} }: CheckTable<Context>) => ({
  subject,
  /** Runs the rows that rely on an answer of `answered`, and on none outside `usable`. */
  run: async (
    config: Config,
    answered: readonly SettingName[],
    usable: readonly SettingName[] = answered,
    signal: AbortSignal = new AbortController().signal,
  ): Promise<Finding[]> => {
    const context = await open(config, signal)
    const findings: Finding[] = []
    for (const { name, needs, run } of context === null ? [] : rows) {
      if (!needs.some(need => answered.includes(need)) || !needs.every(need => usable.includes(need))) continue
      try {
        findings.push(...[await run(context as Context)].flat().filter(finding => finding !== null))
      } catch (error) {
        return [...findings, explain(error, name, context as Context)]
      }
    }
    return findings
  },
  suggest: async (config: Config, setting: SettingName, signal: AbortSignal): Promise<string[]> => {
    const list = suggestions[setting]
    const context = list === undefined ? null : await open(config, signal)
    return context === null ? [] : ((await list?.(context).catch(() => [])) ?? [])
  },
})

/** Whoever sees one signed delivery can guess a shorter secret. */
const MIN_SECRET_LENGTH = 16
export const checkSecret = (secret: string): Finding =>
  secret.length >= MIN_SECRET_LENGTH && new Set(secret).size > 4
    ? ok('the webhook secret is long enough')
    : problem(
        `the webhook secret is easy to guess: it has ${secret.length} characters`,
        'Use a long random one, for example from: openssl rand -hex 32',
      )
