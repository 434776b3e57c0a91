/** What a build does inside its machines, the same with every hypervisor: set-up, seal, proof. */
import { fail } from '../src/errors.ts'
import type { BaseManifest } from '../src/schema/machine.ts'
import { baseScript, type Profile, type SetupOptions, setupScript, verifyScript } from './scripts.ts'

/** Runs a script as root in the machine. However the script ends is an answer. */
type InGuest = (
  script: string,
  options: { deadline: number; onLine?: (line: string) => void },
) => Promise<{ stdout: string; stderr: string; exitCode: number }>

type Proof = Pick<BaseManifest, 'proven' | 'unproven'>

/** Under software emulation, most of the time is the package manager's. */
const SETUP_DEADLINE_MS = { minimal: 20 * 60_000, full: 120 * 60_000 }
const VERIFY_DEADLINE_MS = { minimal: 10 * 60_000, full: 60 * 60_000 }
const SEAL_DEADLINE_MS = 10 * 60_000
const LIST_DEADLINE_MS = 60_000

/** What a guest prints is hostile: only lines of this form mean something. */
const STEP = /^step ([a-z0-9][a-z0-9._-]{0,40})$/
const PIECE = /^(proven|unproven) ([a-z0-9][a-z0-9._+-]{0,40}) (\S.{0,300})$/
const MOST_STEPS = 200
const MOST_PIECES = 100
/** Characters of an error: the reason is at its end. */
const MAX_REASON = 2_000

const withoutControls = (text: string) => text.replaceAll(/[\p{Cc}\p{Cf}]/gu, '?')
/** The end of what a script printed on standard error, or on standard output when it printed nothing there. */
const reasonOf = ({ stdout, stderr }: { stdout: string; stderr: string }): string =>
  (stderr.trim() || stdout.trim()).slice(-MAX_REASON).split('\n').map(withoutControls).join('\n') ||
  'it ended without a message'

const run = async (inGuest: InGuest, doing: string, script: string, deadline: number): Promise<string> => {
  const answer = await inGuest(script, { deadline })
  if (answer.exitCode !== 0) throw fail('unknown', `${doing}: ${reasonOf(answer)}`)
  return answer.stdout
}

/** Sets the system up. Calls `onPhase` as each step begins; a failure names the step that failed. */
export const setUpGuest = async (
  inGuest: InGuest,
  setup: SetupOptions,
  { name, onPhase }: { name: string; onPhase: (phase: string) => void },
): Promise<void> => {
  onPhase('set up')
  let step: string | null = null
  let steps = 0
  const onLine = (line: string) => {
    const next = line.match(STEP)?.[1]
    if (next === undefined || steps >= MOST_STEPS) return
    steps += 1
    step = next
    onPhase(`set up: ${next}`)
  }
  const answer = await inGuest(setupScript(setup), { deadline: SETUP_DEADLINE_MS[setup.profile], onLine })
  if (answer.exitCode !== 0)
    throw fail(
      'unknown',
      `building ${name}: ${step === null ? 'the set-up' : `the step ${step}`} failed: ${reasonOf(answer)}`,
    )
}

/** The packages of the machine, `name version`, sorted. */
export const listContents = async (inGuest: InGuest, name: string): Promise<string[]> =>
  (await run(inGuest, `building ${name}: listing its packages`, baseScript('contents.sh'), LIST_DEADLINE_MS))
    .split('\n')
    .filter(line => /^\S+ \S+$/.test(line))
    .sort()

/** Removes what belongs to this one machine. It must be stopped next. */
export const sealGuest = async (inGuest: InGuest, name: string): Promise<void> => {
  await run(inGuest, `building ${name}: sealing it`, baseScript('seal.sh'), SEAL_DEADLINE_MS)
}

/** What the lines of the check mean. */
export const readProof = (output: string): Proof => {
  const rows = output.split('\n').flatMap(line => {
    const [, verdict, piece = '', text = ''] = line.match(PIECE) ?? []
    return verdict === undefined ? [] : [{ verdict, piece, text: withoutControls(text).trim() }]
  })
  const of = (verdict: string) => rows.filter(row => row.verdict === verdict).slice(0, MOST_PIECES)
  return {
    proven: of('proven').map(({ piece, text }) => ({ piece, how: text })),
    unproven: of('unproven').map(({ piece, text }) => ({ piece, why: text })),
  }
}

/** Uses each piece of the image in a machine that was cloned from it. Fails when one does not work. */
export const proveGuest = async (inGuest: InGuest, name: string, profile: Profile): Promise<Proof> => {
  const answer = await inGuest(verifyScript(profile), { deadline: VERIFY_DEADLINE_MS[profile] })
  const proof = readProof(answer.stdout)
  if (answer.exitCode === 0) return proof
  const failed = proof.unproven.map(({ piece, why }) => `${piece}: ${why}`).join('; ')
  throw fail(
    'unknown',
    `proving ${name}: ${[failed, answer.stderr.trim() === '' ? '' : reasonOf(answer)].filter(Boolean).join('\n') || reasonOf(answer)}`,
    'The image is not kept.',
  )
}
