import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Provider } from '../../../providers/provider.ts'
import { fail } from '../../../src/errors.ts'
import { guestHash } from '../../../src/runner/link/guest-files.ts'
import { planAction } from '../../../src/runner/plan.ts'
import { reconcile } from '../../../src/runner/reconciler/reconcile.ts'
import { recoverAll } from '../../../src/runner/recovery.ts'
import { hasHostKey } from '../../../src/runner/ssh/keys.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../../support/context.ts'
import { withForks } from '../../support/pools.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext()
  await it.do(actions.create('DROP-1'))
  it.write('DROP-1', 'work', 'one')
})
afterEach(() => it.close())

const keys = () => it.context.registry.environments().map(({ ticket }) => ticket)
const project = {
  ...{ repo: 'acme/shop', branch: 'DROP-1-login', summary: 'Login', path: '~/shop', ports: [3000], save: [] },
  ...{ setup: null, start: null, problem: null, prepared: true },
}

test('attempts have the state of the machine at the moment, and keys, machines, marks and host keys of their own', async () => {
  expect(await planAction(it.context, actions.fork('DROP-1', 2))).toEqual({
    would: [
      `make DROP-1~1, DROP-1~2 from ${it.vmIdOf('DROP-1')} as it is now`,
      'boot each',
      'wait until it answers over SSH',
    ],
  })
  expect(await it.do(actions.fork('DROP-1', 2))).toMatchObject({
    result: 'done',
    summary: 'Forked DROP-1: made DROP-1~1, DROP-1~2. They booted, because synthetic copies only disks',
    attempts: [
      { ticket: 'DROP-1~1', status: 'running', branch: null, ssh: null },
      { ticket: 'DROP-1~2', vmId: expect.stringMatching(/^as-drop-1-2-/) },
    ],
    environment: { ticket: 'DROP-1', status: 'running' },
  })
  expect(keys()).toEqual(['DROP-1', 'DROP-1~1', 'DROP-1~2'])
  it.write('DROP-1', 'work', 'two')
  for (const key of ['DROP-1~1', 'DROP-1~2']) {
    const vmId = it.vmIdOf(key)
    expect(vmId).toMatch(/^as-drop-1-[12]-[0-9a-f]{8}$/)
    expect(it.context.registry.environment(key)).toMatchObject({
      ...{ status: 'running', desired: 'running', attempt: { of: 'DROP-1', from: null } },
    })
    expect(it.read(key, 'work')).toBe('one')
    expect(await it.markedTicket(vmId)).toBe(key)
    expect(hasHostKey(it.home, vmId)).toBe(true)
    const [operation] = it.context.registry.operations(key, 1)
    expect(operation).toMatchObject({ kind: 'fork', vmId, result: 'done', outcome: { environment: { ticket: key } } })
  }
  expect(it.context.registry.openOperations()).toEqual([])
  expect((await reconcile(it.context, { dryRun: true, signal: new AbortController().signal })).findings).toEqual([])
})

test('attempts of a checkpoint, and of another attempt, get the next numbers', async () => {
  await it.do(actions.checkpoint('DROP-1', 'before'))
  it.write('DROP-1', 'work', 'two')
  expect(await it.do(actions.fork('DROP-1', 1, 'before'))).toMatchObject({
    summary: 'Forked DROP-1 from its checkpoint before: made DROP-1~1. It booted, because synthetic copies only disks',
  })
  expect(it.read('DROP-1~1', 'work')).toBe('one')
  await it.do(actions.delete('DROP-1~1', true))
  it.write('DROP-1', 'work', 'three')
  await it.do(actions.fork('DROP-1'))
  expect(await it.do(actions.fork('DROP-1~2'))).toMatchObject({ result: 'done', environment: { ticket: 'DROP-1~2' } })
  expect(keys()).toEqual(['DROP-1', 'DROP-1~2', 'DROP-1~3'])
  expect(it.context.registry.environment('DROP-1~3')).toMatchObject({ attempt: { of: 'DROP-1~2' } })
  expect(it.read('DROP-1~3', 'work')).toBe('three')
})

test('a stopped machine can be forked; it stays stopped', async () => {
  await it.do(actions.stop('DROP-1'))
  await it.do(actions.fork('DROP-1'))
  expect(it.context.registry.environments().map(({ status }) => status)).toEqual(['stopped', 'running'])
})

test('every command that takes a ticket takes an attempt', async () => {
  await it.do(actions.fork('DROP-1'))
  for (const action of [
    actions.checkpoint('DROP-1~1', 'one'),
    actions.restore('DROP-1~1', 'one'),
    actions.stop('DROP-1~1'),
    actions.start('DROP-1~1'),
    actions.create('DROP-1~1'),
  ])
    expect(await it.do(action)).toMatchObject({ environment: { ticket: 'DROP-1~1', status: expect.any(String) } })
  expect(it.context.registry.checkpoints('DROP-1')).toEqual([])
  expect(await it.do(actions.delete('DROP-1~1'))).toMatchObject({ result: 'done' })
  expect(keys()).toEqual(['DROP-1'])
})

test('a create makes no attempt', async () => {
  expect(await it.do(actions.create('DROP-1~7'))).toMatchObject({
    result: 'failed',
    failure: { kind: 'no-such-environment', remedy: 'DROP-1 has no attempts. To make one: agent-swarm fork DROP-1' },
  })
  expect(it.machines()).toHaveLength(1)
})

test('an attempt has the project on a branch of its own, the note, and what its source pushed', async () => {
  const { registry } = it.context
  registry.setProject('DROP-1', project)
  registry.setNote('DROP-1', { text: 'tried X', at: '2026-11-24T10:00:00.000Z' })
  const commit = 'a'.repeat(40)
  const push = { repo: 'acme/shop', branch: 'DROP-1-login', commit, byAgent: true, at: '2026-11-24T10:00:00.000Z' }
  registry.recordPush('DROP-1', push, [commit])
  await it.do(actions.fork('DROP-1', 2))
  expect(registry.project('DROP-1~2')).toEqual({ ...project, branch: 'DROP-1-login-attempt-2' })
  expect(registry.project('DROP-1')).toEqual(project)
  expect(registry.note('DROP-1~1')).toMatchObject({ text: 'tried X' })
  expect(registry.pushedAll('DROP-1~1', 'acme/shop', [commit])).toBe(true)
  expect(registry.pushes('DROP-1~1')).toEqual([])
})

describe('what cannot be done', () => {
  const refuse = async (change: (provider: Provider) => Partial<Provider>, action = actions.fork('DROP-1', 2)) => {
    wrapProviders(it.context, provider => ({ ...provider, ...change(provider) }))
    const outcome = await it.do(action)
    expect(keys()).toEqual(['DROP-1'])
    expect(it.machines()).toHaveLength(1)
    expect(it.context.registry.openOperations()).toEqual([])
    return outcome
  }

  test('a provider without forks', async () => {
    const { fork: _, ...without } = await it.provider()
    wrapProviders(it.context, () => without)
    const expected = { kind: 'unsupported', message: 'synthetic cannot fork machines', remedy: expect.any(String) }
    expect(await it.do(actions.fork('DROP-1'))).toMatchObject({ result: 'failed', failure: expected })
    await expect(planAction(it.context, actions.fork('DROP-1'))).rejects.toMatchObject({ failure: expected })
  })
  test('a checkpoint that is not there', async () => {
    expect(await refuse(() => ({}), actions.fork('DROP-1', 1, 'nowhere'))).toMatchObject({
      failure: { kind: 'no-such-checkpoint', message: 'DROP-1 has no checkpoint nowhere' },
    })
  })
  test('no room for all of them: none is made', async () => {
    const GIB = 1024 ** 3
    const outcome = await refuse(() => ({
      capacity: async () => ({
        cpus: 8,
        memoryBytes: { total: 16 * GIB, available: 6 * GIB },
        diskBytes: { total: 1e13, available: 1e13 },
      }),
    }))
    const failure = {
      kind: 'capacity',
      message: expect.stringMatching(/^forking DROP-1: it needs 8 GiB of memory, and /),
    }
    expect(outcome).toMatchObject({ failure })
    await expect(planAction(it.context, actions.fork('DROP-1', 2))).rejects.toMatchObject({ failure })
  })
  test('a fork that fails', async () => {
    const outcome = await refuse(() => ({ fork: () => Promise.reject(fail('disk-full', 'no space')) }))
    expect(outcome).toMatchObject({ failure: { kind: 'disk-full' } })
    expect(it.context.registry.operations('DROP-1~1', 1)).toMatchObject([{ kind: 'fork', result: 'failed' }])
  })
  test('one of several that does not start', async () => {
    const outcome = await refuse(({ startVm }) => ({
      startVm: (id, options) =>
        id.startsWith('as-drop-1-2-') ? Promise.reject(fail('damaged', 'it does not boot')) : startVm(id, options),
    }))
    expect(outcome).toMatchObject({ failure: { kind: 'damaged' } })
  })
  test('one of several that fails while another still starts: nothing is made again', async () => {
    const calls: string[] = []
    const outcome = await refuse(({ startVm, createVm, deleteVm }) => ({
      startVm: async (id, options) => {
        if (id.startsWith('as-drop-1-2-')) throw fail('damaged', 'it does not boot')
        await delay(20)
        await startVm(id, options)
        calls.push('started')
      },
      deleteVm: async id => {
        calls.push('deleted')
        await deleteVm(id)
      },
      createVm: async (...values) => {
        calls.push('created')
        return createVm(...values)
      },
    }))
    expect(outcome).toMatchObject({ failure: { kind: 'damaged' } })
    expect(calls).toEqual(['started', 'deleted', 'deleted'])
  })
  test('an attempt that is gone before it starts is not made from the base image', async () => {
    const made: string[] = []
    const outcome = await refuse(({ fork, createVm, deleteVm }) => ({
      fork: async (id, from, targets) => {
        await fork?.(id, from, targets)
        await deleteVm(targets[0]?.vmId ?? '')
      },
      createVm: async (...values) => {
        made.push(values[2].vmId)
        return createVm(...values)
      },
    }))
    expect(outcome).toMatchObject({ result: 'failed', failure: { kind: 'no-such-vm' } })
    expect(made).toEqual([])
  })
  test('the keys of people as they are now cannot be put in: those of the source would stay', async () => {
    const { run, config } = it.context
    Object.assign(it.context, {
      config: { ...config, authorizedKeys: ['/nowhere/keys'] },
      run: (...[program, ...rest]: Parameters<typeof run>) =>
        program === 'ssh' ? { stdout: '', stderr: '', exitCode: 0, milliseconds: 0 } : run(program, ...rest),
    })
    wrapProviders(it.context, ({ runInGuest: _, ...provider }) => ({
      ...provider,
      sshInfo: async () => ({ host: '127.0.0.1', port: 22, user: 'agent' }),
    }))
    expect(await refuse(() => ({}))).toMatchObject({
      failure: { kind: 'not-configured', message: expect.stringContaining('/nowhere/keys') },
    })
  })
  test('more attempts than there are numbers', async () => {
    const { registry } = it.context
    const by = { via: 'cli', who: null } as const
    for (let n = 1; n <= 98; n += 1)
      registry.begin({
        ticket: `DROP-1~${n}`,
        provider: 'synthetic',
        vmId: `as-x-${String(n).padStart(8, '0')}`,
        baseImage: 'x',
        by,
        operation: 1,
      })
    const failure = {
      kind: 'capacity',
      message: 'forking DROP-1: DROP-1 has had 98 attempts, and can have 1 more',
    }
    expect(await it.do(actions.fork('DROP-1', 2))).toMatchObject({ failure })
    await expect(planAction(it.context, actions.fork('DROP-1', 2))).rejects.toMatchObject({ failure })
    registry.begin({
      ticket: 'DROP-1~99',
      provider: 'synthetic',
      vmId: 'as-x-00000099',
      baseImage: 'x',
      by,
      operation: 1,
    })
    expect(await it.do(actions.fork('DROP-1', 1))).toMatchObject({
      failure: { kind: 'capacity', message: 'DROP-1 has had 99 attempts, and can have no more' },
    })
  })
})

test('room that attempts have is no other machine’s', async () => {
  const GIB = 1024 ** 3
  wrapProviders(it.context, provider => ({
    ...provider,
    usage: async () =>
      new Map(
        (await provider.listVms()).map(({ vmId }) => [
          vmId,
          { cpus: 2, memoryBytes: 4 * GIB, memoryUsedBytes: 4 * GIB, diskBytes: 1, cpuSeconds: 1 },
        ]),
      ),
    capacity: async () => ({
      cpus: 64,
      memoryBytes: { total: 16 * GIB, available: 16 * GIB - 4 * GIB * (await provider.listVms()).length },
      diskBytes: { total: 1e13, available: 1e13 },
    }),
  }))
  expect(await it.do(actions.fork('DROP-1', 2))).toMatchObject({ result: 'done' })
  expect(await it.do(actions.create('DROP-2'))).toMatchObject({
    failure: { kind: 'capacity', message: expect.stringContaining('DROP-1~1') },
  })
})

test.for(['fork', 'DROP-1~1: start', 'DROP-1~1: ssh'])('a fork that is killed at %s leaves nothing', async phase => {
  expect(await it.dieAt(phase, actions.fork('DROP-1', 2))).toBe(true)
  await recoverAll(it.context)
  expect(keys()).toEqual(['DROP-1'])
  expect(it.machines()).toEqual([it.vmIdOf('DROP-1')])
  expect(it.context.registry.openOperations()).toEqual([])
  expect(it.context.registry.environment('DROP-1')).toMatchObject({ status: 'running' })
})

test('while attempts are made, nobody takes them for what a dead process left', async () => {
  const findings: string[] = []
  wrapProviders(it.context, provider => ({
    ...provider,
    fork: async (...values) => {
      await provider.fork?.(...values)
      const other = await reconcile(it.context, { dryRun: false, signal: new AbortController().signal })
      findings.push(...other.findings.map(({ finding }) => finding))
    },
  }))
  expect(await it.do(actions.fork('DROP-1', 2))).toMatchObject({ result: 'done' })
  expect(findings).toEqual([])
  expect(keys()).toHaveLength(3)
})

describe('forks of a memory, reached over SSH', () => {
  const at = { user: 'agent', port: 22 }
  /** `ids`: what each fork says of its machine-id. `hosts`: where it answers; the source is at 192.0.2.1. */
  const fork = async ({ ids = ['1', '2'], hosts = ['192.0.2.2', '192.0.2.3'], behind = 0, random = 'reseeded' }) => {
    const source = it.vmIdOf('DROP-1')
    const indexOf = (vmId: string) => Number(vmId.match(/^as-drop-1-([12])-/)?.[1] ?? 0) - 1
    wrapProviders(it.context, provider => {
      const { ownSystem: _, runInGuest: __, ...rest } = withForks([], it.home)(provider)
      return {
        ...rest,
        fork: (id, _checkpoint, targets) => provider.fork?.(id, null, targets) ?? Promise.reject(new Error('no forks')),
        sshInfo: async vmId => ({ ...at, host: vmId === source ? '192.0.2.1' : (hosts[indexOf(vmId)] ?? '') }),
      }
    })
    it.context.registry.setAddress('DROP-1', { ...at, host: '192.0.2.1' })
    const { run } = it.context
    it.context.run = async (program, argv, options) => {
      if (program !== 'ssh') return run(program, argv, options)
      const { input = '', onLine = () => {} } = options ?? {}
      const vmId = argv.find(word => word.startsWith('HostKeyAlias='))?.slice('HostKeyAlias='.length) ?? source
      const id = (ids[indexOf(vmId)] ?? '0').repeat(32)
      const clock = `clock ${(it.context.clock().getTime() / 1000 - behind).toFixed(3)}`
      const lines = input.includes('fresh=')
        ? [`random ${random}`, `machine-id ${id}`, clock]
        : input === 'cat /etc/machine-id\n'
          ? [id]
          : input.includes('date -s')
            ? [clock]
            : [guestHash()]
      for (const line of lines) onLine(line)
      return { stdout: `${lines.join('\n')}\n`, stderr: '', exitCode: 0, milliseconds: 0 }
    }
    return it.do(actions.fork('DROP-1', 2))
  }

  test('each is itself', async () => {
    expect(await fork({})).toMatchObject({ result: 'done', attempts: [{ ssh: { host: '192.0.2.2' } }, {}] })
  })

  test.for<[string, Parameters<typeof fork>[0], string]>([
    ['its source’s machine-id', { ids: ['1', '0'] }, 'DROP-1~2 is not handed out: it has the machine-id of its source'],
    ['its sibling’s', { ids: ['1', '1'] }, 'DROP-1~2 is not handed out: it has the machine-id of DROP-1~1'],
    [
      'its source’s address',
      { hosts: ['192.0.2.1', '192.0.2.3'] },
      'DROP-1~1 is not handed out: Its address 192.0.2.1',
    ],
    ['its sibling’s address', { hosts: ['192.0.2.2', '192.0.2.2'] }, 'DROP-1~2 is not handed out: it has the address'],
    [
      'random numbers that are new only later',
      { random: 'mixed' },
      'handed out: Its random numbers are new only within minutes',
    ],
    ['a wrong clock that nothing sets', { behind: 57 }, 'is not handed out: Its clock is 57.0 s behind'],
  ])('one with %s is not handed out, and none is made', async ([, change, message]) => {
    const text = expect.stringContaining(message)
    expect(await fork(change)).toMatchObject({ result: 'failed', failure: { kind: 'refused', message: text } })
    expect(keys()).toEqual(['DROP-1'])
    expect(it.machines()).toEqual([it.vmIdOf('DROP-1')])
  })
})

test('an action of the queue that is given out again makes no more attempts', async () => {
  const queued = { actionId: 'github:1:0' }
  const first = await it.do(actions.fork('DROP-1', 2), queued)
  expect(await it.do(actions.fork('DROP-1', 2), queued)).toEqual(first)
  expect(keys()).toEqual(['DROP-1', 'DROP-1~1', 'DROP-1~2'])
})
