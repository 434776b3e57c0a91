/**
 * Each trap of Tart has a row: what Tart does, and a test that springs it. The stand-in notes what was sprung; the last test finds a
 * trap without a row, and a row without a trap.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { seedImage } from '../../../base-image/seed.ts'
import {
  HOME_ID,
  IMAGE,
  imageVm,
  openTartBench,
  openTartOn,
  ready,
  type TartBench,
  tartOptions,
} from '../../support/tart/bench.ts'
import { direct, runDirect } from '../../support/tart/direct.ts'

const ID = 'as-drop-1-0000000a'
const OTHER = 'as-drop-2-0000000b'
const VM = `${ID}.DROP-1.${HOME_ID}`

type Row = { trap: string; says: string; spring: (bench: TartBench) => Promise<unknown> }

const created = async ({ provider }: TartBench, id = ID, ticket = 'DROP-1'): Promise<void> =>
  void (await provider.createVm(ticket, IMAGE, tartOptions(id)))
const started = async (bench: TartBench, id = ID, ticket = 'DROP-1'): Promise<void> => {
  await created(bench, id, ticket)
  await bench.provider.startVm(id)
  await ready(bench, id)
}
/** A whole life. */
const lived = async (bench: TartBench): Promise<void> => {
  const { provider } = bench
  await started(bench)
  await provider.checkpoint(ID, 'one')
  await provider.restore(ID, 'one')
  await provider.assign?.(ID, 'DROP-9')
  await provider.stopVm(ID)
  await provider.deleteVm(ID)
}
/** The traps that a whole life springs. */
const inLife = new Set<string>()
/** What the provider's life never springs, though a person may. */
const never = async (trap: string, spring: () => unknown): Promise<void> => {
  expect(inLife.size).toBeGreaterThan(0)
  expect([...inLife]).not.toContain(trap)
  await spring()
}
const kind = (failure: string) => ({ failure: { kind: failure } })
const config = ({ mac }: TartBench, name: string) =>
  JSON.parse(readFileSync(join(mac.tartHome, 'vms', name, 'config.json'), 'utf8')) as { macAddress: string }
const seed = (bench: TartBench, name: string, bytes: Buffer): string => {
  const path = join(bench.home, name)
  mkdirSync(bench.home, { recursive: true })
  writeFileSync(path, bytes)
  return path
}
const seedFor = (mac: string) =>
  seedImage({ hostname: 'x', publicKey: 'k', hostKey: { privateKey: '', publicKey: '' }, network: { by: 'mac', mac } })

const rows: readonly Row[] = [
  {
    trap: 'a command that Tart does not have is refused',
    says: 'there is no `tart snapshot`; a wrong command line ends with 64, `Error: TEXT` and a usage text',
    spring: bench =>
      never('a command that Tart does not have is refused', () => {
        const { code, stderr } = direct(bench.mac, ['snapshot', 'x'])
        expect([code, stderr]).toEqual([
          64,
          expect.stringMatching(/^Error: Unexpected argument 'snapshot'\nUsage: tart /),
        ])
      }),
  },
  {
    trap: 'a flag that Tart does not have is refused',
    says: 'an unknown flag ends with 64',
    spring: bench =>
      never('a flag that Tart does not have is refused', () => {
        const { code, stderr } = direct(bench.mac, ['clone', 'a', 'b', '--overwrite'])
        expect([code, stderr]).toEqual([64, expect.stringMatching(/^Error: Unknown option '--overwrite'\nUsage: /)])
      }),
  },
  {
    trap: 'images of Cirrus Labs ignore every seed',
    says: 'their cloud-init has the datasource None',
    spring: async bench => {
      bench.mac.makeImage(imageVm('cirrus'), 'datasource_list: [ None ]')
      await bench.provider.createVm('DROP-1', 'cirrus', tartOptions(ID))
      await bench.provider.startVm(ID)
      await expect(bench.provider.sshInfo(ID)).rejects.toMatchObject(kind('no-address-yet'))
    },
  },
  {
    trap: 'a clone has another MAC',
    says: 'in both directions, hence another address: a restore looks it up anew',
    spring: async bench => {
      await started(bench)
      const { provider } = bench
      const [mac, { host }] = [config(bench, VM).macAddress, await provider.sshInfo(ID)]
      await provider.checkpoint(ID, 'one')
      await provider.restore(ID, 'one')
      await ready(bench, ID)
      expect(config(bench, VM).macAddress).not.toBe(mac)
      expect((await provider.sshInfo(ID)).host).not.toBe(host)
    },
  },
  {
    trap: 'a seed that names a MAC fits no clone',
    says: 'the network part of the seed must match by name',
    spring: bench =>
      never('a seed that names a MAC fits no clone', async () => {
        bench.mac.tart('clone', imageVm(), 'by-mac')
        const path = seed(bench, 'by-mac.iso', seedFor('52:54:00:00:00:01'))
        await runDirect(bench.mac, 'by-mac', ['--disk', `${path}:ro`])
        expect(direct(bench.mac, ['ip', 'by-mac'])).toMatchObject({ code: 1, stderr: 'no IP address found\n' })
      }),
  },
  {
    trap: 'the client id of Debian and Ubuntu hides the MAC',
    says: 'the lease has hw_address=ff,…, unless the seed has dhcp-identifier: mac',
    spring: bench =>
      never('the client id of Debian and Ubuntu hides the MAC', async () => {
        bench.mac.tart('clone', imageVm(), 'hidden')
        const text = seedFor(config(bench, 'hidden').macAddress).toString('latin1')
        const bytes = Buffer.from(text.replace('"dhcp-identifier":"mac"', '"dhcp-identifier":"xyz"'), 'latin1')
        await runDirect(bench.mac, 'hidden', ['--disk', `${seed(bench, 'hidden.iso', bytes)}:ro`])
        expect(direct(bench.mac, ['ip', 'hidden']).code).toBe(1)
      }),
  },
  {
    trap: 'a disk is attached for one run',
    says: '`--disk` is not stored: the seed is given at every start, with the same instance id',
    spring: bench =>
      never('a disk is attached for one run', async () => {
        await started(bench)
        await bench.provider.stopVm(ID)
        await bench.provider.startVm(ID)
        await ready(bench, ID)
        expect(readFileSync(join(bench.guest(ID), 'first-boots'), 'utf8')).toBe(`${ID}\n`)
        bench.mac.tart('clone', imageVm(), 'bare')
        await runDirect(bench.mac, 'bare')
        expect(direct(bench.mac, ['ip', 'bare']).code).toBe(1)
      }),
  },
  {
    trap: 'a disk without ro is locked',
    says: 'a second VM does not start with it: `disk PATH seems to be already in use`',
    spring: bench =>
      never('a disk without ro is locked', async () => {
        const path = seed(bench, 'shared.iso', seedFor('52:54:00:00:00:01'))
        for (const name of ['one', 'two']) bench.mac.tart('clone', imageVm(), name)
        await runDirect(bench.mac, 'one', ['--disk', path])
        expect(direct(bench.mac, ['run', 'two', '--disk', path])).toMatchObject({
          code: 1,
          stderr: `disk ${path} seems to be already in use, unmount it first in Finder\n`,
        })
      }),
  },
  {
    trap: 'a relative path of a disk is taken for an image of a registry',
    says: '`seed/x.iso` is an OCI name with the host `seed`',
    spring: bench =>
      never('a relative path of a disk is taken for an image of a registry', () => {
        bench.mac.tart('clone', imageVm(), 'relative')
        expect(direct(bench.mac, ['run', 'relative', '--disk', 'seed/x.iso:ro']).code).toBe(1)
      }),
  },
  {
    trap: 'a disk for another processor is refused',
    says: 'a `--disk` that ends in -amd64.iso',
    spring: bench =>
      never('a disk for another processor is refused', () => {
        bench.mac.tart('clone', imageVm(), 'other')
        expect(direct(bench.mac, ['run', 'other', '--disk', '/x-amd64.iso']).code).toBe(64)
      }),
  },
  {
    trap: 'a MAC of a VM that runs is drawn anew',
    says: '`tart run` gives the VM another MAC, and drops a saved state',
    spring: async bench => {
      await started(bench)
      await created(bench, OTHER, 'DROP-2')
      const name = bench.vmOf(OTHER)
      const text = JSON.stringify({ ...config(bench, name), macAddress: config(bench, VM).macAddress })
      writeFileSync(join(bench.mac.tartHome, 'vms', name, 'config.json'), text)
      await bench.provider.startVm(OTHER)
      await ready(bench, OTHER)
      const [one, other] = await Promise.all([ID, OTHER].map(id => bench.provider.sshInfo(id)))
      expect(one?.host).not.toBe(other?.host)
    },
  },
  {
    trap: 'the exit code of run says nothing',
    says: 'after the guest ran it may be 1',
    spring: lived,
  },
  {
    trap: 'a Linux guest cannot be suspended',
    says: '`--suspendable` and a saved state refuse Linux: `You can only suspend macOS VMs`',
    spring: bench =>
      never('a Linux guest cannot be suspended', () => {
        bench.mac.tart('clone', imageVm(), 'x')
        const { code, stderr } = direct(bench.mac, ['run', 'x', '--suspendable'])
        expect([code, stderr]).toEqual([64, expect.stringMatching(/^Error: You can only suspend macOS VMs\n/)])
      }),
  },
  {
    trap: 'suspend kills a Linux guest',
    says: '`tart run` ends with 1: `Failed to suspend the VM`',
    spring: bench =>
      never('suspend kills a Linux guest', async () => {
        bench.mac.tart('clone', imageVm(), 'x')
        const { ended } = await runDirect(bench.mac, 'x')
        bench.mac.tart('suspend', 'x')
        expect(await ended).toBe(1)
      }),
  },
  {
    trap: 'stop drops the state of a suspended VM',
    says: 'a machine that somebody suspended starts all the same',
    spring: async bench => {
      await created(bench)
      writeFileSync(join(bench.mac.tartHome, 'vms', VM, 'state.vzvmsave'), '')
      expect(await bench.provider.status(ID)).toBe('stopped')
      await bench.provider.startVm(ID)
      await ready(bench, ID)
    },
  },
  {
    trap: 'a VM starts only while the keychain is unlocked',
    says: 'since macOS 15; it fails after Tart has locked the VM',
    spring: async bench => {
      await created(bench)
      bench.mac.knobs({ keychainLocked: true })
      await expect(bench.provider.startVm(ID)).rejects.toMatchObject({
        failure: { kind: 'permission', remedy: expect.stringContaining('security unlock-keychain') },
      })
      expect(await bench.provider.status(ID)).toBe('stopped')
    },
  },
  {
    trap: 'a guest that boots or hangs ignores its power button',
    says: 'SIGUSR2 asks the guest; after the grace it is powered off',
    spring: async bench => {
      await started(bench)
      bench.mac.knobs({ ignoresButton: true })
      await bench.open({ graceMs: 1_000 }).stopVm(ID)
      expect(await bench.provider.status(ID)).toBe('stopped')
      expect(existsSync(join(bench.guest(ID), 'shut-down'))).toBe(false)
    },
  },
  {
    trap: 'an interrupted clone leaves a folder that the next command removes',
    says: 'only in TART_HOME/tmp; the machine is as before',
    spring: async bench => {
      await started(bench)
      bench.mac.knobs({ dieInClone: true })
      await expect(bench.provider.checkpoint(ID, 'one')).rejects.toThrow()
      bench.mac.knobs({})
      expect(await bench.provider.listCheckpoints(ID)).toEqual([])
      expect(readdirSync(join(bench.mac.tartHome, 'tmp'))).toEqual([])
      expect(await bench.provider.status(ID)).toBe('running')
    },
  },
  {
    trap: 'a VM that vanishes fails the whole list',
    says: 'with 1: each folder is read after the folders were named',
    spring: async bench => {
      await created(bench)
      bench.mac.knobs({ vanish: 2 })
      expect(await bench.provider.listVms()).toMatchObject([{ vmId: ID }])
      bench.mac.knobs({ vanish: 3 })
      await expect(bench.provider.listVms()).rejects.toThrow('listing the machines')
    },
  },
  {
    trap: 'a half-made folder is not listed',
    says: 'one that lacks config.json, disk.img or nvram.bin',
    spring: async bench => {
      mkdirSync(join(bench.mac.tartHome, 'vms', VM), { recursive: true })
      writeFileSync(join(bench.mac.tartHome, 'vms', VM, 'config.json'), '{}')
      expect(await bench.provider.listVms()).toEqual([])
      await started(bench)
    },
  },
  {
    trap: 'sizes in a list are cut off to whole gigabytes',
    says: 'a small VM has 0',
    spring: async bench => {
      await created(bench)
      writeFileSync(join(bench.mac.tartHome, 'vms', VM, 'disk.img'), Buffer.alloc(100_000, 1), { flag: 'a' })
      expect((await bench.provider.usage?.())?.get(ID)?.diskBytes).toBeGreaterThan(50_000)
      expect(JSON.parse(direct(bench.mac, ['list', '--format', 'json']).stdout)[0]).toMatchObject({ Size: 0 })
    },
  },
  {
    trap: 'an empty list has a line break in it',
    says: 'an empty array with a line break',
    spring: async ({ mac, home }) => {
      mac.tart('delete', imageVm())
      expect(direct(mac, ['list', '--format', 'json']).stdout).toBe('[\n\n]\n')
      expect(await openTartOn(mac, home).listVms()).toEqual([])
    },
  },
  {
    trap: 'clone replaces a VM without a word',
    says: 'also one that runs; nothing else in its folder survives',
    spring: bench =>
      never('clone replaces a VM without a word', async () => {
        await started(bench)
        await bench.provider.checkpoint(ID, 'one')
        await expect(bench.provider.checkpoint(ID, 'one')).rejects.toMatchObject(kind('already-exists'))
        expect(bench.mac.sprung()).not.toContain('clone replaces a VM without a word')
        bench.mac.tart('clone', imageVm(), 'x')
        writeFileSync(join(bench.mac.tartHome, 'vms/x/note'), '')
        bench.mac.tart('clone', imageVm(), 'x')
        expect(readdirSync(join(bench.mac.tartHome, 'vms/x'))).not.toContain('note')
      }),
  },
  {
    trap: 'a newer clone refuses a name that is taken',
    says: 'versions that are not released yet: `already exists, use --overwrite to replace it`',
    spring: async bench => {
      bench.mac.knobs({ cloneRefusesExisting: true })
      await lived(bench)
      expect(bench.mac.sprung()).not.toContain('a newer clone refuses a name that is taken')
      bench.mac.tart('clone', imageVm(), 'x')
      expect(direct(bench.mac, ['clone', imageVm(), 'x']).code).toBe(64)
    },
  },
  {
    trap: 'clone does not check that the source is stopped',
    says: 'a clone of a VM that runs is torn',
    spring: bench =>
      never('clone does not check that the source is stopped', async () => {
        await started(bench)
        bench.mac.tart('clone', VM, 'torn')
        expect(existsSync(join(bench.mac.guestOf('torn') ?? '', 'torn'))).toBe(true)
      }),
  },
  {
    trap: 'a clone deletes images of the cache',
    says: 'to make room, unless TART_NO_AUTO_PRUNE is set to anything',
    spring: bench => {
      const image = join(bench.mac.tartHome, 'cache/OCIs/ghcr.io')
      mkdirSync(image, { recursive: true })
      return never('a clone deletes images of the cache', () => {
        direct(bench.mac, ['clone', imageVm(), 'kept'], { TART_NO_AUTO_PRUNE: '' })
        expect(existsSync(image)).toBe(true)
        bench.mac.tart('clone', imageVm(), 'x')
        expect(existsSync(image)).toBe(false)
      })
    },
  },
  {
    trap: 'a clone of an image of a registry keeps its MAC',
    says: "macOS' DHCP server hands out one address twice when a MAC comes back: --random-mac",
    spring: async bench => {
      bench.mac.tart('push', imageVm(), 'ghcr.io/acme/base:1')
      const { macAddress } = config(bench, imageVm())
      bench.mac.tart('delete', imageVm())
      bench.mac.tart('clone', 'ghcr.io/acme/base:1', imageVm())
      expect(config(bench, imageVm()).macAddress).toBe(macAddress)
      await created(bench)
      expect(config(bench, VM).macAddress).not.toBe(macAddress)
    },
  },
  {
    trap: 'set leaves half of what it should change',
    says: 'the configuration is written before the disk grows, and a disk never shrinks',
    spring: async bench => {
      bench.mac.tart('set', imageVm(), '--disk-size', '10')
      await expect(created(bench)).rejects.toMatchObject({
        failure: { kind: 'usage', remedy: expect.stringContaining('AGENT_SWARM_DISK_GIB') },
      })
      expect(bench.mac.vms()).toEqual([imageVm()])
      expect(existsSync(join(bench.home, 'tart/machines', ID))).toBe(false)
    },
  },
  {
    trap: 'set does not look whether the VM runs',
    says: 'it changes the files of one that runs',
    spring: bench =>
      never('set does not look whether the VM runs', async () => {
        await started(bench)
        expect(direct(bench.mac, ['set', VM, '--cpu', '3']).code).toBe(0)
      }),
  },
  {
    trap: 'stop of a stopped VM ends with 2',
    says: '`VM "x" is not running`',
    spring: async bench => {
      await created(bench)
      await bench.provider.stopVm(ID)
      expect(direct(bench.mac, ['stop', VM])).toMatchObject({ code: 2, stderr: `VM "${VM}" is not running\n` })
    },
  },
  {
    trap: 'delete of several ends at the first failure',
    says: 'a VM that runs is not deleted: rc 1',
    spring: bench =>
      never('delete of several ends at the first failure', async () => {
        await started(bench)
        await bench.provider.checkpoint(ID, 'one')
        bench.mac.tart('clone', imageVm(), 'last')
        expect(direct(bench.mac, ['delete', VM, 'last'])).toMatchObject({ code: 1, stderr: `VM "${VM}" is running\n` })
        expect(bench.mac.vms()).toContain('last')
        await bench.provider.deleteVm(ID)
        expect(bench.mac.vms()).toEqual([imageVm(), 'last'])
      }),
  },
  {
    trap: 'ip answers for a stopped VM',
    says: 'from a lease that has not ended',
    spring: async bench => {
      await started(bench)
      await bench.provider.stopVm(ID)
      expect(direct(bench.mac, ['ip', VM]).stdout).toMatch(/^192\.168\./)
      await expect(bench.provider.sshInfo(ID)).rejects.toMatchObject(kind('no-address-yet'))
      expect(await bench.provider.listVms()).toMatchObject([{ vmId: ID, ip: null }])
    },
  },
  {
    trap: 'ip takes a second when there is no address',
    says: 'also with --wait 0; the list asks for no address',
    spring: async bench => {
      bench.mac.knobs({ bootMs: 60_000 })
      await created(bench)
      await bench.provider.startVm(ID)
      expect(await bench.provider.listVms()).toMatchObject([{ ip: null, status: 'running' }])
      expect(bench.mac.sprung()).not.toContain('ip takes a second when there is no address')
      await expect(bench.provider.sshInfo(ID)).rejects.toMatchObject(kind('no-address-yet'))
    },
  },
  {
    trap: 'a lease file that is being written cannot be read',
    says: 'a parse error, not "no address": try again',
    spring: async bench => {
      await started(bench)
      bench.mac.knobs({ leasesBeingWritten: true })
      await expect(bench.provider.sshInfo(ID)).rejects.toMatchObject(kind('no-address-yet'))
    },
  },
  {
    trap: 'nothing survives a reboot as running',
    says: 'there is no daemon',
    spring: async bench => {
      await started(bench)
      bench.mac.reboot()
      expect(await bench.provider.status(ID)).toBe('stopped')
      await bench.provider.startVm(ID)
      await ready(bench, ID)
    },
  },
  {
    trap: 'run of a VM that is missing ends with 1',
    says: 'and `Error: `, as it checks its arguments',
    spring: async ({ mac, provider }) => {
      expect(direct(mac, ['run', 'x'])).toMatchObject({
        code: 1,
        stderr: 'Error: the specified VM "x" does not exist\n',
      })
      await expect(provider.startVm(ID)).rejects.toMatchObject(kind('no-such-vm'))
    },
  },
  {
    trap: 'a VM that is missing ends with 2',
    says: 'in every other command, without `Error: `',
    spring: async ({ mac, provider }) => {
      expect(direct(mac, ['delete', 'x'])).toMatchObject({ code: 2, stderr: 'the specified VM "x" does not exist\n' })
      await provider.deleteVm(ID)
    },
  },
  {
    trap: 'Softnet gets its rights only on a terminal',
    says: 'its SUID bit: without it `tart run --net-softnet` fails for a runner',
    spring: async bench => {
      const { mac, provider } = bench
      writeFileSync(join(mac.bin, 'softnet'), '#!/bin/sh\n', { mode: 0o755 })
      mac.tart('clone', imageVm(), 'x')
      expect(direct(mac, ['run', 'x', '--net-softnet']).code).toBe(1)
      expect(await provider.isolated?.()).toMatchObject({ isolated: false, reason: expect.stringContaining('rights') })
      await started(bench)
      rmSync(join(mac.bin, 'softnet'))
    },
  },
]

describe('traps of Tart', () => {
  beforeAll(async () => {
    const bench = openTartBench()
    await lived(bench)
    for (const trap of bench.mac.sprung()) inLife.add(trap)
    bench.close()
  })

  test.for(rows.map(row => [row.trap, row.says, row] as const))('%s: %s', async ([trap, , { spring }]) => {
    const bench = openTartBench()
    onTestFinished(bench.close)
    await spring(bench)
    expect(bench.mac.sprung()).toContain(trap)
  })

  test('every trap of the stand-in has a row, and every row a trap', () => {
    const folder = join(import.meta.dirname, '../../support/tart')
    const sources = readdirSync(folder)
      .filter(file => file.endsWith('.ts'))
      .map(file => readFileSync(join(folder, file), 'utf8'))
    const traps = sources.flatMap(text => [...text.matchAll(/\bspring\('([^']+)'\)/g)].map(([, trap]) => trap))
    expect(rows.map(({ trap }) => trap).sort()).toEqual([...new Set(traps)].sort())
  })
})
