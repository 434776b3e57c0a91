/** A bench of machines of the stand-in's Hyper-V, in a home of its own. A guest's script runs in the content of its disk. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { openHyperv } from '../../../providers/hyperv/index.ts'
import type { HypervSettings } from '../../../providers/hyperv/settings.ts'
import type { CreateOptions, Provider } from '../../../providers/provider.ts'
import { homeId, registryFile } from '../../../src/config/home.ts'
import { openRun } from '../../../src/exec.ts'
import { openRegistry } from '../../../src/registry/registry.ts'
import type { TestBench } from '../../providers/conformance.ts'
import { until } from '../wait.ts'
import { type HypervStandIn, openHypervStandIn, type StandInState } from './stand-in.ts'

export const HOME_ID = '00112233445566ff'
const OTHER_HOME_ID = 'ffff000011112222'
export const IMAGE = 'base'

const settings: HypervSettings = { hypervSwitch: 'agent-swarm', hypervNameservers: ['1.1.1.1'], hypervAllow: [] }

export const hypervOptions = (vmId: string): CreateOptions => ({
  ...{ vmId, cpus: 2, memoryMiB: 2048, diskGiB: 8, publicKey: 'ssh-ed25519 AAAA test' },
  hostKey: { privateKey: 'the private host key', publicKey: 'ssh-ed25519 BBBB host' },
})

/** Makes `count` machines of one, with names and marks of their own. */
export const multiplyMachine = (standIn: HypervStandIn, vmId: string, count: number): void =>
  standIn.change(({ vms }) => {
    const [first] = vms
    if (first === undefined) throw new Error('there is no machine')
    for (let n = 1; n < count; n += 1) {
      const name = `as-ab-1-${n.toString(16).padStart(8, '0').replace('0', 'f')}`
      const id = `00000000-0000-0000-0000-${n.toString().padStart(12, '0')}`
      vms.push({ ...first, id, name, notes: first.notes.replace(vmId, name) })
    }
  })

/** Fills a home: `count` machines of the stand-in, each with its environment. */
export const fillHypervHome = async (standIn: HypervStandIn, home: string, count: number): Promise<void> => {
  mkdirSync(home, { recursive: true })
  putImage(home)
  const first = 'as-ab-1-0000000a'
  await openHypervIn(standIn, home, { homeId: await homeId(home) }).createVm('AB-1', IMAGE, hypervOptions(first))
  multiplyMachine(standIn, first, count)
  const registry = openRegistry(registryFile(home))
  const by = { via: 'cli', who: null } as const
  for (const [n, { name: vmId }] of standIn.state().vms.entries()) {
    const ticket = `AB-${n + 1}`
    const at = '2026-01-01T00:00:00.000Z'
    const operation = registry.startOperation({ actionId: null, correlation: null, ticket, kind: 'create', by, at })
    registry.begin({ ticket, provider: 'hyperv', vmId, baseImage: IMAGE, by, operation })
    registry.setStatus(ticket, 'stopped')
    registry.endOperation(operation, at, 'done', null)
  }
  registry.close()
}

/**
 * Gives the guest a boot id and, at the first boot with its seed, what the seed names: its host name, and its machine-id where there is
 * one. A guest made of an image gets a random machine-id.
 */
const bootGuest = (standIn: HypervStandIn, vmId: string): void => {
  const seed = readFileSync(standIn.vm(vmId).dvd ?? '', 'latin1')
  const seedOf = (name: string) => seed.match(new RegExp(`[\\0\\n]${name} (.*)\\n`))?.[1] ?? null
  const at = (name: string) => join(standIn.contentOf(vmId), `.guest-${name}`)
  const textOf = (name: string) => (existsSync(at(name)) ? readFileSync(at(name), 'utf8') : null)
  writeFileSync(at('boot'), standIn.vm(vmId).boot ?? '')
  if (textOf('instance') === seedOf('instance')) return
  writeFileSync(at('machine-id'), seedOf('machine-id') ?? textOf('machine-id') ?? randomBytes(16).toString('hex'))
  for (const name of ['hostname', 'instance']) writeFileSync(at(name), seedOf(name) ?? '')
}
/** A guest has these, and not the host's. */
const GUEST = `hostname() { cat "$HOME/.guest-hostname"; echo; }
cat() { [ $# -gt 0 ] || command cat; for file; do case $file in /etc/machine-id) command cat "$HOME/.guest-machine-id"; echo ;; /proc/sys/kernel/random/boot_id) command cat "$HOME/.guest-boot"; echo ;; *) command cat "$file" ;; esac; done; }
`

/** `warm`: see openHypervStandIn. */
type More = { homeId?: string; settings?: Partial<HypervSettings>; warm?: boolean }

export const openHypervIn = (standIn: HypervStandIn, home: string, more: More = {}): Provider =>
  openHyperv({
    // What a shell of PowerShell 7 has, and its children must not get.
    run: openRun({ ...standIn.environment, HOME: home, PSModulePath: '/of/powershell/7' }),
    home,
    homeId: more.homeId ?? HOME_ID,
    knows: () => false,
    settings: { ...settings, ...more.settings },
  })

/** Puts a base image into the home. */
export const putImage = (home: string, name = IMAGE): void => {
  const folder = join(home, 'hyperv', 'images')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, `${name}.vhdx`), 'vhdxfile')
  chmodSync(join(folder, `${name}.vhdx`), 0o444)
  const manifest = {
    ...{ name, provider: 'hyperv', sha256: '', source: 'test', contents: [], homeId: HOME_ID, sizeBytes: 8 },
    createdAt: '2026-11-29T00:00:00.000Z',
  }
  writeFileSync(join(folder, `${name}.manifest.json`), JSON.stringify(manifest))
}

export const openHypervHome = async (state: Partial<StandInState> = {}, more: More = {}) => {
  const home = await mkdtemp(join(tmpdir(), 'swarm-hyperv-'))
  const standIn = openHypervStandIn(state, more.warm === undefined ? {} : { warm: more.warm })
  putImage(home)
  return {
    home,
    standIn,
    provider: openHypervIn(standIn, home, more),
    otherHome: openHypervIn(standIn, home, { ...more, homeId: OTHER_HOME_ID }),
    /** Runs a script in the guest. */
    script: async (vmId: string, text: string): Promise<string> => {
      bootGuest(standIn, vmId)
      const { stdout } = await promisify(execFile)('/bin/sh', ['-c', `${GUEST}${text}`], {
        env: { PATH: process.env.PATH, HOME: standIn.contentOf(vmId) },
      })
      return stdout.trimEnd()
    },
    machineFolders: () => readdirSync(join(home, 'hyperv')).filter(name => name.startsWith('as-')),
    close: () => {
      standIn.close()
      rmSync(home, { recursive: true, force: true })
    },
  }
}

/** `close` fails when anything is left of a machine, or anything was done that Windows does not forgive. */
export const openHypervBench = async (): Promise<TestBench> => {
  const { home, standIn, provider, otherHome, script, machineFolders, close } = await openHypervHome()
  return {
    ...{ provider, otherHome, script, baseImage: IMAGE },
    options: async vmId => hypervOptions(vmId),
    ready: async vmId => {
      await until(`an address of ${vmId}`, () =>
        provider.sshInfo(vmId).then(
          () => true,
          () => false,
        ),
      )
    },
    close: async () => {
      const { vms, snapshots } = standIn.state()
      const left = [...machineFolders(), ...vms.map(({ name }) => name), ...snapshots.map(({ name }) => name)]
      const violations = await standIn.violations().finally(close)
      if (left.length > 0) throw new Error(`left behind in ${home}: ${left}`)
      if (violations !== '') throw new Error(violations)
    },
  }
}
