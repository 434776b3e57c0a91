/** Checks of credentials and permissions for `agent-swarm init`: rows that are tried for real, and change nothing outside. */
import { type Finding, ok, problem } from '../check.ts'
import { MAKE_SECRET, MIN_SECRET_LENGTH } from '../config/secrets.ts'

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
