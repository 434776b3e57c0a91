/** The promises of every provider (providers/provider.ts), as tests. Each provider's test file calls this. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { CreateOptions, Provider, ProviderDescription } from '../../providers/provider.ts'
import { newVmId } from '../../src/domain.ts'
import { isFailure } from '../../src/errors.ts'

export type Bench = {
  provider: Provider
  /** The same hypervisor, opened for another AGENT_SWARM_HOME. */
  otherHome: Provider
  baseImage: string
  /** The size and keys of a machine. */
  options(vmId: string): Promise<CreateOptions>
  /** Waits until the guest answers. */
  ready(vmId: string): Promise<void>
  /** Runs a shell script in the guest and returns its output. */
  script(vmId: string, text: string): Promise<string>
  close(): Promise<void>
}
type Machine = { ticket: string; vmId: string }

const kindOf = async (promise: Promise<unknown> | undefined): Promise<string> => {
  try {
    await promise
    return 'no failure'
  } catch (error) {
    return isFailure(error) ? error.failure.kind : `not a failure of ours: ${error}`
  }
}
const machine = (ticket: string): Machine => ({ ticket, vmId: newVmId(ticket, randomBytes(4).toString('hex')) })

/** `machines`: how many run at the same time. `timeout`: milliseconds for a test that boots one. */
export const keepsItsPromises = (
  { name, live }: Pick<ProviderDescription<never>, 'name' | 'live'>,
  open: () => Promise<Bench>,
  { machines, timeout }: { machines: number; timeout: number },
) => {
  describe(`${name} keeps a provider's promises`, () => {
    let bench: Bench
    const all = Array.from({ length: machines }, (_, n) => machine(`CONF-${n + 1}`))
    /** Created without a ticket, and used by most tests. */
    const first = all[0] ?? machine('CONF-1')
    const options = new Map<string, Promise<CreateOptions>>()
    /** The same for every call: its keys are those that the machine was created with. */
    const optionsOf = (vmId: string): Promise<CreateOptions> => {
      const known = options.get(vmId) ?? bench.options(vmId)
      options.set(vmId, known)
      return known
    }
    const forEach = (work: (each: Machine) => Promise<unknown>) => Promise.all(all.map(work))
    const listed = async ({ vmId }: Machine, provider = bench.provider) =>
      (await provider.listVms()).find(vm => vm.vmId === vmId)
    /** The ticket at the creation. */
    const initialTicket = (each: Machine) =>
      each === first && bench.provider.assign !== undefined ? null : each.ticket

    beforeAll(async () => {
      bench = await open()
    }, timeout)
    afterAll(async () => {
      await forEach(({ vmId }) => bench.provider.deleteVm(vmId))
      await bench.close()
    }, timeout)

    test('it is available where it is tested, and its description is right', async () => {
      expect(await bench.provider.available()).toEqual({ available: true })
      expect(bench.provider.liveCheckpoints === true).toBe(live)
      expect(name).toContain(bench.provider.name)
    })

    test('a machine that does not exist is reported as absent, and deleting it succeeds', async () => {
      const { provider } = bench
      const { vmId } = machine('CONF-99')
      expect(await kindOf(provider.status(vmId))).toBe('no-such-vm')
      expect(await kindOf(provider.startVm(vmId))).toBe('no-such-vm')
      expect(await kindOf(provider.stopVm(vmId))).toBe('no-such-vm')
      expect(await kindOf(provider.checkpoint(vmId, 'one'))).toBe('no-such-vm')
      if (provider.assign !== undefined) expect(await kindOf(provider.assign(vmId, 'CONF-99'))).toBe('no-such-vm')
      await provider.deleteVm(vmId)
    })

    test(
      'machines are created and started at the same time, each with its own state',
      async () => {
        const { provider } = bench
        await forEach(async each => {
          const { vmId } = each
          const ticket = initialTicket(each)
          const info = await provider.createVm(ticket, bench.baseImage, await optionsOf(vmId))
          expect(info).toMatchObject({ vmId, ticket })
          await provider.startVm(vmId)
          await provider.startVm(vmId)
        })
        await forEach(({ vmId }) => bench.ready(vmId))
        await forEach(({ vmId }) => bench.script(vmId, `printf %s ${vmId} > "$HOME/who"; sync`))
        for (const { vmId } of all) expect(await bench.script(vmId, 'cat "$HOME/who"')).toBe(vmId)
      },
      timeout,
    )

    test(
      'creating a machine that exists changes nothing',
      async () => {
        const { vmId } = first
        const ticket = initialTicket(first)
        const info = await bench.provider.createVm(ticket, bench.baseImage, await optionsOf(vmId))
        expect(info).toMatchObject({ vmId, ticket, status: 'running' })
      },
      timeout,
    )

    test('all machines are listed with ticket and status, also one without a ticket', async () => {
      for (const each of all) {
        expect(await listed(each)).toMatchObject({ ticket: initialTicket(each), status: 'running' })
        expect(await bench.provider.status(each.vmId)).toBe('running')
      }
    })

    test('a machine of another home is not listed, and never touched', async () => {
      const { otherHome } = bench
      const { vmId } = first
      expect(await otherHome.listVms()).toEqual([])
      expect(await otherHome.usage?.()).toEqual(otherHome.usage === undefined ? undefined : new Map())
      const attempts = [
        async () => otherHome.createVm(null, bench.baseImage, await optionsOf(vmId)),
        () => otherHome.status(vmId),
        () => otherHome.startVm(vmId),
        () => otherHome.stopVm(vmId),
        () => otherHome.deleteVm(vmId),
        () => otherHome.checkpoint(vmId, 'one'),
        () => otherHome.restore(vmId, 'one'),
        () => otherHome.listCheckpoints(vmId),
        () => otherHome.sshInfo(vmId),
        () => otherHome.assign?.(vmId, 'CONF-98') ?? otherHome.status(vmId),
      ]
      for (const attempt of attempts) expect(await kindOf(attempt())).toBe('not-ours')
      expect(await listed(first)).toMatchObject({ ticket: initialTicket(first), status: 'running' })
    })

    test(
      'a checkpoint restores the disk; they are listed oldest first, and a name is used once',
      async () => {
        const { provider } = bench
        const { vmId, ticket } = first
        await bench.script(vmId, 'echo before > "$HOME/state"; sync')
        const { sizeBytes } = await provider.checkpoint(vmId, 'one')
        if (sizeBytes !== null) expect(sizeBytes).toBeGreaterThan(0)
        expect(await kindOf(provider.checkpoint(vmId, 'one'))).toBe('already-exists')
        // The checkpoint has the machine without a ticket.
        await provider.assign?.(vmId, ticket)
        await provider.assign?.(vmId, ticket)
        expect(await listed(first)).toMatchObject({ ticket })
        await bench.script(vmId, 'echo after > "$HOME/state"; echo new > "$HOME/later"; sync')
        await provider.checkpoint(vmId, 'another')
        expect(await provider.listCheckpoints(vmId)).toEqual(['one', 'another'])
        expect(await kindOf(provider.restore(vmId, 'nowhere'))).toBe('no-such-checkpoint')
        await provider.restore(vmId, 'one')
        expect(await listed(first)).toMatchObject({ ticket, status: 'running' })
        await bench.ready(vmId)
        expect(await bench.script(vmId, 'cat "$HOME/state"; ls "$HOME/later" 2>/dev/null || true')).toBe('before')
        await provider.restore(vmId, 'another')
        await bench.ready(vmId)
        expect(await bench.script(vmId, 'cat "$HOME/state" "$HOME/later"')).toBe('after\nnew')
        expect(await provider.listCheckpoints(vmId)).toEqual(['one', 'another'])
      },
      timeout,
    )

    test(
      'a checkpoint can be deleted, twice, and the other one stays',
      async () => {
        const { provider } = bench
        if (provider.deleteCheckpoint === undefined) return
        await provider.deleteCheckpoint(first.vmId, 'one')
        await provider.deleteCheckpoint(first.vmId, 'one')
        expect(await provider.listCheckpoints(first.vmId)).toEqual(['another'])
      },
      timeout,
    )

    test(
      'stopping keeps everything, and may be done twice; a stopped machine can get another ticket',
      async () => {
        const { provider } = bench
        const { vmId } = first
        await provider.stopVm(vmId)
        await provider.stopVm(vmId)
        expect(await provider.status(vmId)).toBe('stopped')
        if (provider.assign !== undefined) {
          await provider.assign(vmId, 'CONF-98')
          expect(await listed(first)).toMatchObject({ ticket: 'CONF-98', status: 'stopped' })
        }
        await provider.startVm(vmId)
        await bench.ready(vmId)
        expect(await bench.script(vmId, 'cat "$HOME/state"')).toBe('after')
      },
      timeout,
    )

    test(
      'the usage of machines and the capacity of their host',
      async () => {
        const { provider } = bench
        const usage = async () => (await provider.usage?.())?.get(first.vmId)
        if (provider.usage !== undefined) {
          const { cpus, memoryMiB } = await optionsOf(first.vmId)
          const size = { cpus, memoryBytes: memoryMiB * 1024 ** 2 }
          const running = await usage()
          expect(running).toMatchObject(size)
          expect(running?.diskBytes).toBeGreaterThan(0)
          expect(running?.memoryUsedBytes).toBeGreaterThan(32 * 1024 ** 2)
          expect(running?.cpuSeconds).toBeGreaterThan(0)
          await provider.stopVm(first.vmId)
          expect(await usage()).toMatchObject({ ...size, memoryUsedBytes: 0, cpuSeconds: null })
        }
        if (provider.capacity !== undefined) {
          const { cpus, memoryBytes, diskBytes } = await provider.capacity()
          expect(cpus).toBeGreaterThan(0)
          for (const { total, available } of [memoryBytes, diskBytes]) {
            expect(available).toBeGreaterThan(0)
            expect(total).toBeGreaterThanOrEqual(available)
          }
        }
      },
      timeout,
    )

    test('the console of a stopped machine can be read', async () => {
      const { provider } = bench
      if (provider.consoleTail === undefined) return
      const lines = await provider.consoleTail(first.vmId)
      expect(lines.length).toBeGreaterThan(0)
      expect(lines.length).toBeLessThanOrEqual(20)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: it matches control characters.
      for (const line of lines) expect(line).toMatch(/^[^\x00-\x1f\x7f]{1,200}$/)
    })

    test('a name that is not a vmId of ours is never touched', async () => {
      for (const name of ['../../etc', '-rf', 'as-x', 'default', 'as-conf-1-zzzzzzzz; reboot']) {
        expect(await kindOf(bench.provider.deleteVm(name))).toBe('not-ours')
        expect(await kindOf(bench.provider.startVm(name))).toBe('not-ours')
      }
    })

    test(
      'deleting removes everything, and may be done twice',
      async () => {
        await forEach(({ vmId }) => bench.provider.deleteVm(vmId))
        await forEach(({ vmId }) => bench.provider.deleteVm(vmId))
        for (const each of all) expect(await listed(each)).toBeUndefined()
      },
      timeout,
    )
  })
}
