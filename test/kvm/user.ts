/** Tests as an ordinary user: the process of a test file gives up root for good, and so does everything that it starts. */
import { chownSync, copyFileSync, mkdirSync, mkdtempSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { kvm } from '../../providers/kvm/description.ts'
import { openKvm } from '../../providers/kvm/index.ts'
import { type KvmSettings, kvmSettings } from '../../providers/kvm/settings.ts'
import type { Provider } from '../../providers/provider.ts'
import { openRun, type Run } from '../../src/exec.ts'
import { runInGuest, waitForGuest } from '../../src/runner/ssh/guest.ts'
import { loginKey, pinnedHostKey } from '../../src/runner/ssh/keys.ts'
import type { TestBench } from '../providers/conformance.ts'

/** Debian's `nobody`. */
export const USER = 65_534

/** A folder of the user's, with what a login gives. Its name is short, because the paths of sockets are. */
export const userFolder = () => {
  const folder = mkdtempSync(join(tmpdir(), 'as-'))
  const [home, runtime] = [join(folder, 'state'), join(folder, 'run')]
  mkdirSync(home)
  mkdirSync(runtime, { mode: 0o700 })
  return { folder, home, environment: { PATH: process.env.PATH, HOME: folder, XDG_RUNTIME_DIR: runtime } }
}

/** Gives the folder to the user, and becomes that user. */
export const becomeUser = async (folder: string, groups: number[]): Promise<void> => {
  for (const name of ['', ...readdirSync(folder, { recursive: true, encoding: 'utf8' })])
    chownSync(join(folder, name), USER, USER)
  // execa is loaded with the first command, and this user may not read where it is installed.
  await import('execa')
  process.setgroups?.(groups)
  process.setgid?.(USER)
  process.setuid?.(USER)
}

const defaults = Object.fromEntries(
  Object.entries(kvmSettings).map(([name, row]) => [name, row.default]),
) as unknown as KvmSettings

type User = ReturnType<typeof userFolder>
export const openAs = (
  { environment, home }: User,
  settings: Partial<KvmSettings> = {},
  homeId = '00112233445566ff',
): { provider: Provider; run: Run } => {
  const run = openRun(environment, { passOn: kvm.environment })
  const knows = () => false
  return { run, provider: openKvm({ run, home, homeId, knows, settings: { ...defaults, ...settings } }) }
}

/** What the conformance tests need, as this user. */
export const benchAs = (user: User, settings: Partial<KvmSettings>, baseImage: string): Omit<TestBench, 'close'> => {
  const { home } = user
  const { provider, run } = openAs(user, settings)
  return {
    provider,
    otherHome: openAs(user, settings, 'ffff000011112222').provider,
    baseImage,
    options: async vmId => ({
      vmId,
      cpus: 1,
      memoryMiB: 768,
      diskGiB: 6,
      publicKey: await loginKey(run, home),
      hostKey: await pinnedHostKey(run, home, vmId),
    }),
    ready: async vmId => void (await waitForGuest({ run, home }, provider, vmId, { deadline: 600_000 })),
    script: async (vmId, text) =>
      (await runInGuest({ run, home }, provider, vmId, text, { deadline: 60_000 })).stdout.trimEnd(),
  }
}

/** Copies files into the user's folder. */
export const copyInto = (folder: string, files: readonly string[], from: string): void => {
  mkdirSync(folder, { recursive: true })
  for (const file of files) copyFileSync(join(from, file), join(folder, file))
}
