/** How the checks of `agent-swarm doctor` run: at the same time, and each with a deadline. */
import { setTimeout as delay } from 'node:timers/promises'
import { type Check, type Finding, failed, problem } from '../check.ts'
import { failureOf } from '../errors.ts'

/** `subject`: in place of the row's. */
export type DoctorFinding = Finding & Partial<Pick<Check, 'subject'>>
type Findings = DoctorFinding | null | readonly (DoctorFinding | null)[]
/** A check that does not apply gives null. */
export type Row = {
  /** What is checked, for example `Hypervisor`. */
  subject: string
  /** Begins the text when it throws or does not end: `listing base images`. */
  doing: string
  /** What to do when it throws something without a remedy. */
  remedy?: string
  /** 20 s by default. */
  deadlineMs?: number
  run(signal: AbortSignal): Findings | Promise<Findings>
}

const DEADLINE_MS = 20_000

const runRow = async (
  { doing, remedy, deadlineMs = DEADLINE_MS, run }: Row,
  signal: AbortSignal,
): Promise<DoctorFinding[]> => {
  const ending = new AbortController()
  const both = AbortSignal.any([signal, ending.signal])
  const tooLong = problem(
    `${doing}: no answer after ${deadlineMs / 1000} s`,
    remedy ?? 'Try again. If it stays, see what hangs: ps axf',
  )
  const work = async (): Promise<Findings> => run(both)
  const ended = delay(deadlineMs, tooLong, { signal: both, ref: true })
  try {
    const findings = await Promise.race([work(), ended])
    return [findings].flat().filter(finding => finding !== null)
  } catch (error) {
    return [failed(failureOf(error, doing), remedy)]
  } finally {
    ending.abort()
    ended.catch(() => {})
  }
}

/** In the order of the rows. `signal` ends them. */
export const runRows = async (rows: readonly Row[], signal: AbortSignal): Promise<Check[]> =>
  (
    await Promise.all(
      rows.map(async row =>
        (
          await runRow(row, signal)
        ).map(({ subject = row.subject, status, text, remedy }): Check => {
          return { subject, status, text, remedy }
        }),
      ),
    )
  ).flat()
