/** What every provider promises (providers/provider.ts), as tests. A provider's own test file calls this with a way to open it. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { CreateOptions, Provider } from '../../providers/provider.ts'
import { isFailure } from '../../src/errors.ts'

export type Bench = {
  provider: Provider
  baseImage: string
  /** Size and keys for a machine of this name. */
  options(vmId: string): Promise<CreateOptions>
  /** Waits until the guest answers. */
  ready(vmId: string): Promise<void>
  /** Runs a shell script in the guest and returns what it printed. */
  script(vmId: string, text: string): Promise<string>
  close(): Promise<void>
}

const kindOf = async (promise: Promise<unknown>): Promise<string> => {
  try {
    await promise
    return 'it did not fail'
  } catch (error) {
    return isFailure(error) ? error.failure.kind : `no failure of ours: ${error}`
  }
}
const vmName = (ticket: string) => `as-${ticket.toLowerCase()}-${randomBytes(4).toString('hex')}`

/** `machines`: how many are run at once. `timeout`: for a test that boots one, in milliseconds. */
export const keepsItsPromises = (
  name: string,
  open: () => Promise<Bench>,
  { machines, timeout }: { machines: number; timeout: number },
) => {
  describe(`${name} keeps a provider's promises`, () => {
    let bench: Bench
    const made = Array.from({ length: machines }, (_, n) => ({
      ticket: `CONF-${n + 1}`,
      vmId: vmName(`CONF-${n + 1}`),
    }))
    const first = made[0] ?? { ticket: '', vmId: '' }
    const options = new Map<string, Promise<CreateOptions>>()
    /** Once for each machine: its keys are what it was made with. */
    const optionsOf = (vmId: string): Promise<CreateOptions> => {
      const known = options.get(vmId) ?? bench.options(vmId)
      options.set(vmId, known)
      return known
    }
    const each = (work: (one: { ticket: string; vmId: string }) => Promise<unknown>) => Promise.all(made.map(work))

    beforeAll(async () => {
      bench = await open()
    }, timeout)
    afterAll(async () => {
      await each(one => bench.provider.deleteVm(one.vmId))
      await bench.close()
    }, timeout)

    test('it is available where it is tested', async () => {
      expect(await bench.provider.available()).toEqual({ available: true })
    })

    test('what is not there is said to be absent, and deleting it is done', async () => {
      const { provider } = bench
      const nobody = vmName('CONF-99')
      expect(await kindOf(provider.status(nobody))).toBe('no-such-vm')
      expect(await kindOf(provider.startVm(nobody))).toBe('no-such-vm')
      expect(await kindOf(provider.stopVm(nobody))).toBe('no-such-vm')
      expect(await kindOf(provider.checkpoint(nobody, 'one'))).toBe('no-such-vm')
      await provider.deleteVm(nobody)
    })

    test(
      'machines are made and started at once, each with its own state',
      async () => {
        const { provider } = bench
        await each(async one => {
          const info = await provider.createVm(one.ticket, bench.baseImage, await optionsOf(one.vmId))
          expect(info).toMatchObject({ vmId: one.vmId, ticket: one.ticket })
          await provider.startVm(one.vmId)
          await provider.startVm(one.vmId)
        })
        await each(one => bench.ready(one.vmId))
        await each(one => bench.script(one.vmId, `printf %s ${one.vmId} > "$HOME/who"; sync`))
        for (const one of made) expect(await bench.script(one.vmId, 'cat "$HOME/who"')).toBe(one.vmId)
      },
      timeout,
    )

    test(
      'creating one that is there changes nothing',
      async () => {
        const info = await bench.provider.createVm(first.ticket, bench.baseImage, await optionsOf(first.vmId))
        expect(info).toMatchObject({ vmId: first.vmId, ticket: first.ticket, status: 'running' })
      },
      timeout,
    )

    test('all are listed, with ticket and status', async () => {
      const listed = await bench.provider.listVms()
      for (const one of made) {
        expect(listed.find(vm => vm.vmId === one.vmId)).toMatchObject({ ticket: one.ticket, status: 'running' })
        expect(await bench.provider.status(one.vmId)).toBe('running')
      }
    })

    test(
      'a checkpoint brings the disk back, oldest first, and a name is used once',
      async () => {
        const { provider } = bench
        await bench.script(first.vmId, 'echo before > "$HOME/state"; sync')
        const { sizeBytes } = await provider.checkpoint(first.vmId, 'one')
        if (sizeBytes !== null) expect(sizeBytes).toBeGreaterThan(0)
        expect(await kindOf(provider.checkpoint(first.vmId, 'one'))).toBe('already-exists')
        await bench.script(first.vmId, 'echo after > "$HOME/state"; echo new > "$HOME/later"; sync')
        await provider.checkpoint(first.vmId, 'another')
        expect(await provider.listCheckpoints(first.vmId)).toEqual(['one', 'another'])
        expect(await kindOf(provider.restore(first.vmId, 'nowhere'))).toBe('no-such-checkpoint')
        await provider.restore(first.vmId, 'one')
        await bench.ready(first.vmId)
        expect(await bench.script(first.vmId, 'cat "$HOME/state"; ls "$HOME/later" 2>/dev/null || true')).toBe('before')
        await provider.restore(first.vmId, 'another')
        await bench.ready(first.vmId)
        expect(await bench.script(first.vmId, 'cat "$HOME/state" "$HOME/later"')).toBe('after\nnew')
        expect(await provider.listCheckpoints(first.vmId)).toEqual(['one', 'another'])
      },
      timeout,
    )

    test(
      'a checkpoint can be deleted, twice, and the other stays',
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
      'stopping keeps everything, and is done twice',
      async () => {
        const { provider } = bench
        await provider.stopVm(first.vmId)
        await provider.stopVm(first.vmId)
        expect(await provider.status(first.vmId)).toBe('stopped')
        await provider.startVm(first.vmId)
        await bench.ready(first.vmId)
        expect(await bench.script(first.vmId, 'cat "$HOME/state"')).toBe('after')
      },
      timeout,
    )

    test(
      'what a machine takes, and what its host has',
      async () => {
        const { provider } = bench
        const used = async () => (await provider.usage?.())?.get(first.vmId)
        if (provider.usage !== undefined) {
          const { cpus, memoryMiB } = await optionsOf(first.vmId)
          const size = { cpus, memoryBytes: memoryMiB * 1024 ** 2 }
          expect(await used()).toMatchObject(size)
          expect((await used())?.diskBytes).toBeGreaterThan(0)
          expect((await used())?.memoryUsedBytes).toBeGreaterThan(32 * 1024 ** 2)
          expect((await used())?.cpuSeconds).toBeGreaterThan(0)
          await provider.stopVm(first.vmId)
          expect(await used()).toMatchObject({ ...size, memoryUsedBytes: 0, cpuSeconds: null })
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

    test('what the guest wrote on its console can be read when it is stopped, too', async () => {
      const { provider } = bench
      if (provider.consoleTail === undefined) return
      const lines = await provider.consoleTail(first.vmId)
      expect(lines.length).toBeGreaterThan(0)
      expect(lines.length).toBeLessThanOrEqual(20)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: that there are none is what is promised.
      for (const line of lines) expect(line).toMatch(/^[^\x00-\x1f\x7f]{1,200}$/)
    })

    test('a name that is not ours is never touched', async () => {
      for (const name of ['../../etc', '-rf', 'as-x', 'default', 'as-conf-1-zzzzzzzz; reboot']) {
        expect(await kindOf(bench.provider.deleteVm(name))).toBe('not-ours')
        expect(await kindOf(bench.provider.startVm(name))).toBe('not-ours')
      }
    })

    test(
      'deleting removes all, and is done twice',
      async () => {
        await each(one => bench.provider.deleteVm(one.vmId))
        await each(one => bench.provider.deleteVm(one.vmId))
        const left = (await bench.provider.listVms()).filter(vm => made.some(one => one.vmId === vm.vmId))
        expect(left).toEqual([])
      },
      timeout,
    )
  })
}
