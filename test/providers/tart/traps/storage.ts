/** Traps of Tart in what concerns the files of VMs: clones, lists, changes and deletes. */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { HOME_ID, imageVm, openTartOn, ready } from '../../../support/tart/bench.ts'
import { direct } from '../../../support/tart/direct.ts'
import { config, created, forkTarget, ID, kind, lived, never, OTHER, type Row, started, VM } from './life.ts'

export const storage: readonly Row[] = [
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
    trap: 'a clone of a suspended VM keeps its MAC',
    says: 'a fork is given another one all the same',
    spring: async bench => {
      await created(bench)
      writeFileSync(join(bench.mac.tartHome, 'vms', VM, 'state.vzvmsave'), '')
      await bench.provider.fork?.(ID, null, [forkTarget(OTHER)])
      const forked = config(bench, `${OTHER}.DROP-1_1.${HOME_ID}`).macAddress
      expect(forked).not.toBe(config(bench, VM).macAddress)
      await bench.provider.startVm(OTHER)
      await ready(bench, OTHER)
      bench.mac.tart('clone', VM, 'x')
      expect(config(bench, 'x').macAddress).toBe(config(bench, VM).macAddress)
    },
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
]
