/** A bench of Tart's machines on the stand-in, in a home of its own. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { CreateOptions, Provider } from '../../../providers/provider.ts'
import { openTart } from '../../../providers/tart/index.ts'
import { isFailure } from '../../../src/errors.ts'
import { type OnCommand, openRun, type Run } from '../../../src/exec.ts'
import type { TestBench } from '../../providers/conformance.ts'
import { until } from '../wait.ts'
import { type Mac, openMac } from './install.ts'

/** Random: processes of machines are found by it, and other tests have theirs at the same time. */
export const HOME_ID = randomBytes(8).toString('hex')
const OTHER_HOME_ID = 'ffff000011112222'
export const IMAGE = 'golden'
export const imageVm = (name = IMAGE, homeId = HOME_ID): string => `agent-swarm-base.${name}.${homeId}`

export const tartOptions = (vmId: string): CreateOptions => ({
  ...{ vmId, cpus: 2, memoryMiB: 1024, diskGiB: 4, publicKey: 'ssh-ed25519 AAAA test' },
  hostKey: { privateKey: 'PRIVATE\n', publicKey: 'ssh-ed25519 BBBB host' },
})

/** `tartAllow`: ranges. */
type More = {
  homeId?: string
  onCommand?: OnCommand
  tartAllow?: string[]
  homebrew?: string
  graceMs?: number
  wrap?: (run: Run) => Run
  environment?: Record<string, string | undefined>
}
export const openTartOn = (mac: Mac, home: string, more: More = {}): Provider => {
  const {
    homeId = HOME_ID,
    onCommand,
    tartAllow = [],
    wrap = run => run,
    environment = mac.environment,
    graceMs = 60_000,
  } = more
  const run = wrap(openRun(environment, onCommand === undefined ? {} : { onCommand }))
  return openTart(
    { run, home, homeId, knows: () => false, settings: { tartHome: mac.tartHome, tartAllow } },
    { homebrew: more.homebrew ?? join(home, 'no-homebrew'), leases: join(mac.tartHome, 'dhcpd_leases'), graceMs },
  )
}

export const openTartBench = () => {
  const root = mkdtempSync(join(tmpdir(), 'agent-swarm-tart-'))
  const home = join(root, 'home')
  const mac = openMac(root)
  mac.makeImage(imageVm())
  const vmOf = (vmId: string): string => {
    const [name] = mac.vms().filter(each => each.startsWith(`${vmId}.`) && each.split('.').length === 3)
    if (name === undefined) throw new Error(`${vmId} has no VM: ${mac.vms()}`)
    return name
  }
  const guest = (vmId: string): string => {
    const folder = mac.guestOf(vmOf(vmId))
    if (folder === null) throw new Error(`${vmId} has no system`)
    return folder
  }
  return {
    ...{ mac, home, vmOf, guest },
    provider: openTartOn(mac, home),
    open: (more: More) => openTartOn(mac, home, more),
    /** Runs a script in the guest, which must answer. */
    script: (vmId: string, text: string): Promise<string> => {
      const folder = guest(vmId)
      if (!existsSync(join(folder, 'up'))) throw new Error(`${vmId} does not answer`)
      const cwd = join(folder, 'home')
      // Its own name and machine-id, and not those of this host.
      const own = `hostname() { cat ../hostname; }\n${text.replaceAll('/etc/machine-id', '../machine-id')}`
      return new Promise((resolve, reject) => {
        const env = { PATH: process.env.PATH, HOME: cwd }
        execFile('/bin/sh', ['-c', own], { cwd, env, encoding: 'utf8' }, (error, stdout) =>
          error === null ? resolve(stdout.trimEnd()) : reject(error),
        )
      })
    },
    close: () => {
      mac.reboot()
      mac.close()
    },
  }
}
export type TartBench = ReturnType<typeof openTartBench>

/** Waits until the machine answers. */
export const ready = ({ provider, guest }: Pick<TartBench, 'provider' | 'guest'>, vmId: string): Promise<unknown> =>
  until(`${vmId} answers`, async () => {
    if (!existsSync(join(guest(vmId), 'up'))) return false
    return (await provider.sshInfo(vmId).catch(error => (isFailure(error) ? null : Promise.reject(error)))) !== null
  })

/** For the promises. `close` fails when anything is left of a machine. */
export const openPromiseBench = async (): Promise<TestBench> => {
  const bench = openTartBench()
  const { mac, home } = bench
  return {
    provider: bench.provider,
    otherHome: bench.open({ homeId: OTHER_HOME_ID }),
    baseImage: IMAGE,
    options: async vmId => tartOptions(vmId),
    ready: async vmId => void (await ready(bench, vmId)),
    script: (vmId, text) => bench.script(vmId, text),
    close: async () => {
      const machines = join(home, 'tart', 'machines')
      const left = [...mac.vms(), ...(existsSync(machines) ? readdirSync(machines) : [])]
      const guests = readdirSync(join(mac.tartHome, 'guests')).length
      bench.close()
      if (left.length !== 1 || guests !== 1) throw new Error(`left behind: ${left} (${guests} disks)`)
    },
  }
}
