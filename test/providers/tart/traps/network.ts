/** Traps of Tart in what concerns addresses: MACs, seeds, leases and Softnet. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { imageVm, ready, type TartBench, tartOptions } from '../../../support/tart/bench.ts'
import { direct, runDirect } from '../../../support/tart/direct.ts'
import { until } from '../../../support/wait.ts'
import { config, created, ID, kind, never, OTHER, type Row, seed, seedFor, started, VM } from './life.ts'

/** Clones the stopped machine, boots the clone with a seed of its own, and returns a file of its guest. */
const readInClone = async (bench: TartBench, file: string): Promise<string> => {
  await started(bench)
  await bench.provider.stopVm(ID)
  bench.mac.tart('clone', VM, 'copied')
  const { macAddress } = config(bench, 'copied')
  await runDirect(bench.mac, 'copied', ['--disk', `${seed(bench, 'copied.iso', seedFor(macAddress))}:ro`])
  await until('it boots', () => direct(bench.mac, ['ip', 'copied']).code === 0)
  return readFileSync(join(bench.mac.guestOf('copied') ?? '', file), 'utf8')
}

export const network: readonly Row[] = [
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
    trap: 'a clone has the machine-id of its source',
    says: 'unless its seed gives it another one',
    spring: bench =>
      never('a clone has the machine-id of its source', async () => {
        const copied = await readInClone(bench, 'machine-id')
        expect(copied).toBe(readFileSync(join(bench.mac.guestOf(VM) ?? '', 'machine-id'), 'utf8'))
      }),
  },
  {
    trap: 'cloud-init keeps the login keys that are there',
    says: 'who logs in to a machine logs in to its clones, unless their seed removes the keys first',
    spring: bench =>
      never('cloud-init keeps the login keys that are there', async () => {
        const keys = await readInClone(bench, 'home/.ssh/authorized_keys')
        expect(keys).toBe(`${tartOptions(ID).publicKey}\nk\n`)
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
