/** 100 random actions on one ticket at once: from a whole bot with its Jira, from a runner, and from commands. */
import { expect, test } from 'vitest'
import { openLog } from '../../src/log.ts'
import { reconcile } from '../../src/runner/reconciler/reconcile.ts'
import { startRunner } from '../../src/runner/runner.ts'
import type { Action } from '../../src/schema/action.ts'
import type { OperationRow } from '../../src/schema/operation.ts'
import { openStage } from '../bot/stage.ts'
import { actions, openContext, openTestContext } from '../support/context.ts'
import { samples } from '../support/samples.ts'
import { until } from '../support/wait.ts'
import { illegalities } from './history.ts'
import { problemsOf } from './invariants.ts'
import { perform } from './scenarios.ts'

const TICKET = 'DROP-1'
const ACTIONS = 100
/** Some of what people and Jira say asks for nothing. */
const TRIES = 240

test('the checker refuses what cannot have happened one after the other', () => {
  const operation = (id: number, kind: string, result: string, from: number, to: number, summary?: string) =>
    ({
      ...{ id, kind, result, by: { via: 'cli', who: null } },
      outcome: summary === undefined ? null : { result: 'done', summary, environment: null },
      ...{ startedAt: new Date(from).toISOString(), endedAt: new Date(to).toISOString() },
    }) as OperationRow
  const create = operation(1, 'create', 'done', 0, 2)
  expect(illegalities([create, operation(2, 'stop', 'done', 2, 3)], 'stopped')).toEqual([])
  expect(illegalities([create, operation(2, 'stop', 'done', 1, 3)], 'stopped')).toHaveLength(1)
  expect(illegalities([create, operation(2, 'create', 'done', 2, 3)], 'running')).toHaveLength(1)
  expect(illegalities([create, operation(2, 'delete', 'done', 2, 3)], 'running')).toHaveLength(1)
  const project = 'DROP-1 already has a machine: as-drop-1 on synthetic. acme/shop is in ~/shop'
  expect(illegalities([create, operation(2, 'create', 'done', 2, 3, project)], 'running')).toEqual([])
})

test('their journal is a legal serial history, and the machine is as the last one asked', async () => {
  for (const { seed, next } of samples({ all: 20, some: 1 })) {
    const stage = await openStage({ people: {}, issues: { [TICKET]: 'one' } })
    const it = await openTestContext()
    const runner = await startRunner(it.context, {
      ...{ botUrl: stage.url(), token: 'token-between-runner-and-bot', version: '1', log: openLog('silent') },
    })
    const others = await Promise.all([1, 2].map(() => openContext(it.home, 'in-process')))
    const close = async () => {
      await runner.close()
      for (const context of others) context.close()
      it.close()
      await stage.close()
    }
    try {
      const command = (): Action => {
        const kinds = [actions.create, actions.create, actions.start, actions.stop, actions.checkpoint, actions.restore]
        return next(10) === 0 ? actions.delete(TICKET) : (kinds[next(kinds.length)] ?? actions.create)(TICKET)
      }
      const byHand = () => perform(others[next(2)] ?? it.context, command())
      const byBot = async () => {
        const words = ['checkpoint', 'restore', 'stop', 'start', 'create', 'delete']
        const how = next(4)
        if (how === 0)
          await stage.store.queue.enqueue({ id: `jira:${next(1e9)}:0`, correlation: 'c', action: command() })
        else if (how === 1) await stage.jira.write(TICKET, `/swarm ${words[next(words.length)]}`)
        else await stage.jira.move(TICKET, next(2) === 0 ? 'In Progress' : 'To Do')
      }
      const byRunner = () => reconcile(it.context, { dryRun: false, signal: new AbortController().signal })
      const all: Promise<unknown>[] = []
      for (let n = 0; n < TRIES; n += 1) {
        const who = next(10)
        all.push(who < 4 ? byHand() : who < 9 ? byBot() : byRunner())
        // Some come together, and some later.
        if (next(3) === 0) await all[next(all.length)]
      }
      await Promise.all(all)
      await stage.decided()
      await until('an empty queue', async () => {
        const { pending, active } = await stage.store.counts()
        return pending + active === 0
      })
      const { registry } = it.context
      const operations = registry.operations(TICKET, 1_000).toReversed()
      const final = registry.environment(TICKET)?.status ?? null
      expect(operations.length, `seed ${seed}`).toBeGreaterThanOrEqual(ACTIONS)
      expect(new Set(operations.map(({ by }) => by.via)).size, `seed ${seed}`).toBeGreaterThan(1)
      expect(illegalities(operations, final), `seed ${seed}`).toEqual([])
      expect(await problemsOf(it.context), `seed ${seed}`).toEqual([])
    } finally {
      await close()
    }
  }
})
