/** What a build does inside its machines, the same with every hypervisor: set-up, seal, proof. */
import { fail } from '../src/errors.ts'
import type { BaseManifest } from '../src/schema/machine.ts'
import { baseScript, type Profile, type SetupOptions, setupScript, verifyScript } from './scripts.ts'

/** Runs a script as root in the machine. However the script ends is an answer. `deadline`: milliseconds. */
export type InGuest = (
  script: string,
  options: { deadline: number; onLine?: (line: string) => void },
) => Promise<{ stdout: string; stderr: string; exitCode: number }>

type Proof = Pick<BaseManifest, 'proven' | 'unproven'>
type Build = { name: string; setup: SetupOptions; onPhase: (phase: string) => void }

/** Under software emulation, most of the time is the package manager's. */
const SETUP_DEADLINE_MS = { minimal: 20 * 60_000, full: 120 * 60_000 }
const VERIFY_DEADLINE_MS = { minimal: 10 * 60_000, full: 60 * 60_000 }
const SEAL_DEADLINE_MS = 10 * 60_000
const LIST_DEADLINE_MS = 60_000
const ASK_DEADLINE_MS = 60_000

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
  { name, onPhase }: Pick<Build, 'name' | 'onPhase'>,
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

/** Sets the machine up and seals it. Returns its packages. It must be stopped next. */
export const prepareGuest = async (inGuest: InGuest, { name, setup, onPhase }: Build): Promise<string[]> => {
  await setUpGuest(inGuest, setup, { name, onPhase })
  const contents = await listContents(inGuest, name)
  onPhase('seal')
  await sealGuest(inGuest, name)
  return contents
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

const answered = (name: string, text: string) => fail('unknown', `proving ${name}: the machine answered "${text}"`)

/** What a script prints in the machine that proves the image. */
export const askProver = async (inGuest: InGuest, name: string, script: string): Promise<string> => {
  const { stdout, stderr, exitCode } = await inGuest(script, { deadline: ASK_DEADLINE_MS })
  if (exitCode !== 0) throw answered(name, (stderr || stdout).slice(-200))
  return stdout
}

/** A machine cloned from the image, which has answered with its own key, must have taken its own name, and work. */
export const proveMachine = async (inGuest: InGuest, vmId: string, { name, setup, onPhase }: Build): Promise<Proof> => {
  const identity = await askProver(inGuest, name, 'cat /etc/machine-id && hostname')
  if (!identity.includes(vmId)) throw answered(name, identity.slice(0, 200))
  onPhase('verify')
  return proveGuest(inGuest, name, setup.profile)
}
