/**
 * 30 tickets for ten minutes of an injected clock: a queue, a runner and commands, with faults at random steps. A process dies, a
 * call hangs until its deadline, the disk is full, the bot is gone, an answer is lost, the host goes down. What must always hold is
 * checked throughout; at the end every ticket is as it was asked for last.
 */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { fail, isRetryable } from '../../src/errors.ts'
import type { RunnerContext } from '../../src/runner/context.ts'
import { recoverAll } from '../../src/runner/recovery.ts'
import type { Action } from '../../src/schema/action.ts'
import type { Outcome } from '../../src/schema/outcome.ts'
import { LEASE_MS, type Lease, type Offer } from '../../src/schema/runner-protocol.ts'
import type { Store } from '../../src/store/port.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import * as fixtures from '../store/fixtures.ts'
import { actions, openContext } from '../support/context.ts'
import { isLong, type Sample, samples } from '../support/samples.ts'
import { runWith, type Trouble, watchCalls } from './crash.ts'
import { overlaps } from './history.ts'
import { problemsOf } from './invariants.ts'
import { perform, powerOff, reconcileNow, remove } from './scenarios.ts'

const TICKETS = Array.from({ length: 30 }, (_, n) => `DROP-${n + 1}`)
const TEN_MINUTES = 10 * 60_000
const MINUTE = 60_000
const offer: Offer = {
  ...fixtures.offer,
  providers: [{ name: 'synthetic', label: 'synthetic', live: true, images: null }],
  defaults: { ...fixtures.offer.defaults, provider: 'synthetic' },
}

/** What happens in those ten minutes. `home` changes when a process dies: life goes on in a copy. */
const openWorld = (seed: number, next: Sample['next']) => {
  let home = mkdtempSync(join(tmpdir(), 'agent-swarm-soak-'))
  const botHome = mkdtempSync(join(tmpdir(), 'agent-swarm-soak-bot-'))
  let now = fixtures.START
  let count = 0
  const faults = { deaths: 0, failures: 0, lost: 0, reboots: 0 }
  const clock = () => now
  const openBot = () => openStore(join(botHome, 'bot.db'), clock)
  let store: Store = openBot()
  const ticket = () => TICKETS[next(TICKETS.length)] ?? 'DROP-1'
  const anyAction = (): Action => {
    const on = ticket()
    const kinds = [actions.create, actions.create, actions.create, actions.start, actions.stop, actions.checkpoint]
    const more = [actions.restore, actions.delete]
    if (next(8) === 0) return actions.push(on, `${1_000_000 + count}`)
    return ([...kinds, ...more][next(kinds.length + more.length)] ?? actions.create)(on)
  }
  /** Of the runner or of a command: each is a process that can die. */
  const inProcess = async <T>(
    work: (context: RunnerContext) => Promise<T>,
    trouble: Trouble | null,
  ): Promise<T | null> => {
    const ran = await runWith(home, trouble, async on => {
      const context = await openContext(home, 'in-process')
      context.clock = () => new Date(now)
      watchCalls(context, on)
      try {
        return await work(context)
      } finally {
        if (trouble?.error !== undefined || trouble === null) context.close()
        else closeQuietly(context)
      }
    })
    if (ran.died !== null) faults.deaths += 1
    home = ran.home
    return ran.result
  }
  const closeQuietly = (context: RunnerContext) => {
    try {
      context.close()
    } catch {
      // The dead close nothing.
    }
  }
  const trouble = (): Trouble | null => {
    const kind = next(10)
    if (kind < 6) return null
    const at = next(90)
    if (kind < 8) return { at }
    faults.failures += 1
    if (kind === 8) return { at, error: () => fail('timeout', 'no answer within 60 s', 'Check whether it hangs.') }
    return { at, error: () => Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' }) }
  }
  const report = async ({ id, token }: Lease, outcome: Outcome): Promise<void> => {
    // What the bot knows is enough for its next decision; the rest is another test's.
    if (outcome.result !== 'failed') await store.queue.complete(id, token, { ...outcome, environment: null }, [])
    else {
      const retry = isRetryable(outcome.failure.kind)
      await store.queue.fail(id, token, { failure: outcome.failure, retry, environment: null, messages: [] })
    }
  }
  const runnerWorks = async (some: () => Trouble | null): Promise<boolean> => {
    for (const row of await store.queue.expired()) await store.queue.giveBack(row.id, row.token ?? '')
    const lease = await store.queue.claim('runner-1', offer)
    if (lease === null) return false
    const work = async (context: RunnerContext) => {
      await recoverAll(context)
      return perform(context, lease.action, lease.id)
    }
    const outcome = await inProcess(work, some()).catch(() => null)
    if (outcome === null) now += LEASE_MS + 1
    else if (some() !== null && next(4) === 0) {
      faults.lost += 1
      now += LEASE_MS + 1
    } else await report(lease, outcome)
    return true
  }
  const look = <T>(work: (context: RunnerContext) => Promise<T> | T) => inProcess(async context => work(context), null)
  return {
    faults,
    seed,
    left: () => fixtures.START + TEN_MINUTES - now,
    now: clock,
    pass: (ms: number) => {
      now += ms
    },
    ask: (action = anyAction()) => {
      count += 1
      return store.queue.enqueue({ id: `jira:${count}:0`, correlation: `${count}`, action })
    },
    runnerWorks,
    trouble,
    command: () =>
      inProcess(async context => {
        const action = anyAction()
        await recoverAll(context, () => {}, action.ticket)
        return perform(context, action)
      }, trouble()).catch(() => null),
    reconcile: (withTrouble: boolean) =>
      inProcess(
        async context => {
          await recoverAll(context)
          return reconcileNow(context)
        },
        withTrouble ? trouble() : null,
      ).catch(() => null),
    reboot: () => {
      faults.reboots += 1
      powerOff(home)
    },
    botStartsAgain: async () => {
      await store.close()
      store = openBot()
    },
    look,
    queued: async () => {
      const { pending, active } = await store.counts()
      return pending + active
    },
    ended: (on: string) => store.queue.list({ ticket: on }),
    close: async () => {
      await store.close()
      remove(home)
      remove(botHome)
    },
  }
}
type World = ReturnType<typeof openWorld>

/** What holds at every moment at which nothing runs. */
const always = (world: World) =>
  world.look(context => {
    const rows = context.registry.environments()
    const ids = rows.map(({ vmId }) => vmId)
    const open = context.registry.openOperations()
    return [
      ...(new Set(ids).size === ids.length ? [] : ['two tickets have one machine']),
      ...rows
        .filter(({ ticket, status }) => status === 'creating' && !open.some(operation => operation.ticket === ticket))
        .map(({ ticket }) => `${ticket} is being created by nobody`),
      ...TICKETS.flatMap(ticket => {
        const operations = context.registry.operations(ticket, 200).toReversed()
        const done = operations.filter(
          ({ actionId, result }) => actionId !== null && (result === 'done' || result === 'skipped'),
        )
        const isTwice = new Set(done.map(({ actionId }) => actionId)).size !== done.length
        return [
          ...(isTwice ? [`an action of ${ticket} ended twice`] : []),
          ...overlaps(operations.filter(({ endedAt }) => endedAt !== null)),
        ]
      }),
    ]
  })

const step = async (world: World, next: Sample['next']): Promise<void> => {
  world.pass(next(1_500))
  const what = next(100)
  if (what < 35) await world.ask()
  else if (what < 75) await world.runnerWorks(world.trouble)
  else if (what < 93) await world.command()
  else if (what < 96) await world.reconcile(true)
  else if (what < 98) await world.botStartsAgain()
  else if (what < 99) world.reboot()
  // The bot is gone for a while, and asks nobody.
  else world.pass(next(30_000))
}

/** Everything answers again: the queue is worked off, and each ticket gets a last wish. */
const end = async (world: World): Promise<Map<string, string | null>> => {
  const drain = async () => {
    for (let idle = 0; idle < 100 && (await world.queued()) > 0; ) {
      if (await world.runnerWorks(() => null)) idle = 0
      else idle += 1
      world.pass(MINUTE)
    }
  }
  await drain()
  world.pass(62 * MINUTE)
  await world.reconcile(false)
  const wishes = new Map<string, string | null>()
  for (const [n, ticket] of TICKETS.entries()) {
    const wished = n % 3
    // By force: a machine may have been kept for work that nobody could ask for.
    const wish = [actions.create(ticket), actions.stop(ticket), actions.delete(ticket, true)][wished]
    await world.ask(actions.create(ticket))
    if (wish !== undefined && wished > 0) await world.ask(wish)
    wishes.set(ticket, ['running', 'stopped', null][wished] ?? null)
  }
  await drain()
  await world.reconcile(false)
  return wishes
}

test('nothing is lost, nothing leaks, and every ticket is as it was asked for last', async () => {
  for (const { seed, next } of samples({ all: 10, some: 1 })) {
    const world = openWorld(seed, next)
    try {
      let steps = 0
      for (; world.left() > 0 && (isLong || steps < 150); steps += 1) {
        await step(world, next)
        if (steps % 10 === 0) expect(await always(world), `seed ${seed}, step ${steps}`).toEqual([])
      }
      const wishes = await end(world)
      expect(await always(world), `seed ${seed}`).toEqual([])
      expect(await world.queued(), `seed ${seed}`).toBe(0)
      const found = await world.look(async context => ({
        problems: await problemsOf(context),
        states: TICKETS.map(ticket => [ticket, context.registry.environment(ticket)?.status ?? null]),
      }))
      expect(found?.problems, `seed ${seed}`).toEqual([])
      expect(found?.states, `seed ${seed}`).toEqual([...wishes])
      process.stdout.write(`soak: seed ${seed}, ${steps} steps, ${JSON.stringify(world.faults)}\n`)
    } finally {
      await world.close()
    }
  }
})
