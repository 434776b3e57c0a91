/** Traps of Tart in what concerns its command line, and a VM that starts, runs and stops. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { imageVm, ready } from '../../../support/tart/bench.ts'
import { direct, runDirect } from '../../../support/tart/direct.ts'
import { created, ID, kind, lived, never, type Row, seed, seedFor, started, VM } from './life.ts'

export const runs: readonly Row[] = [
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
    trap: 'stop of a stopped VM ends with 2',
    says: '`VM "x" is not running`',
    spring: async bench => {
      await created(bench)
      await bench.provider.stopVm(ID)
      expect(direct(bench.mac, ['stop', VM])).toMatchObject({ code: 2, stderr: `VM "${VM}" is not running\n` })
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
]
