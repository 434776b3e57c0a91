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

const machineIdIn = (output: string): string | null => output.match(/^machine-id ([0-9a-f]{32})$/m)?.[1] ?? null

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

/** Removes what belongs to this one machine. It must be stopped next. Returns the machine-id that it had. */
export const sealGuest = async (inGuest: InGuest, name: string): Promise<string> => {
  const doing = `building ${name}: sealing it`
  const machineId = machineIdIn(await run(inGuest, doing, baseScript('seal.sh'), SEAL_DEADLINE_MS))
  if (machineId === null) throw fail('unknown', `${doing}: the machine has no machine-id`)
  return machineId
}

/** Sets the machine up and seals it. Returns its packages, and the machine-id that it had. It must be stopped next. */
export const prepareGuest = async (
  inGuest: InGuest,
  { name, setup, onPhase }: Build,
): Promise<{ contents: string[]; machineId: string }> => {
  await setUpGuest(inGuest, setup, { name, onPhase })
  const contents = await listContents(inGuest, name)
  onPhase('seal')
  return { contents, machineId: await sealGuest(inGuest, name) }
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

/** What a script prints in the machine that proves the image. */
export const askProver = async (inGuest: InGuest, name: string, script: string): Promise<string> => {
  const { stdout, stderr, exitCode } = await inGuest(script, { deadline: ASK_DEADLINE_MS })
  if (exitCode !== 0)
    throw fail('unknown', `proving ${name}: the machine answered ${JSON.stringify((stderr || stdout).slice(-200))}`)
  return stdout
}

/** Prints a name and a value a line. */
const IDENTITY = `echo "machine-id $(cat /etc/machine-id)"
echo "hostname $(hostname)"
echo "host-keys $(ls /etc/ssh/ssh_host_*_key | wc -l)"
echo "login-keys $(cat /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys 2>/dev/null | grep -c '^[^#[:space:]]')"
`

/** Why the machine is not only itself; null when it is. */
const identityFault = (answer: string, vmId: string, builderId: string | null): string | null => {
  const textOf = (name: string) => answer.match(new RegExp(`^${name} +(\\S+)$`, 'm'))?.[1]
  const machineId = machineIdIn(answer)
  if (textOf('hostname')?.split('.')[0] !== vmId) return `answered ${JSON.stringify(answer.slice(0, 200))}`
  if (machineId === null) return 'has no machine-id'
  if (machineId === builderId) return 'has the machine-id of the machine that became the image'
  if (textOf('host-keys') !== '1') return `has ${textOf('host-keys')} host keys, and not its own alone`
  if (textOf('login-keys') !== '1') return `lets ${textOf('login-keys')} keys log in, and not one alone`
  return null
}

/**
 * A machine cloned from the image must have an identity of its own, and work. That it answers proves its host key: the machine that
 * became the image had another one. `builderId`: the machine-id of that machine; null when it is not known.
 */
export const proveMachine = async (
  inGuest: InGuest,
  vmId: string,
  { name, setup, onPhase }: Build,
  builderId: string | null,
): Promise<Proof> => {
  const fault = identityFault(await askProver(inGuest, name, IDENTITY), vmId, builderId)
  if (fault !== null) throw fail('unknown', `proving ${name}: the machine ${fault}`, 'The image is not kept.')
  onPhase('verify')
  return proveGuest(inGuest, name, setup.profile)
}
