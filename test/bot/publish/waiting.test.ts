/** An action that waits for a runner is told after 30 s, once, and so is the end of the wait. */
import { expect, onTestFinished, test } from 'vitest'
import { openJira } from '../../../src/bot/jira/client.ts'
import { openPublisher } from '../../../src/bot/publish/publisher.ts'
import { statusOfTicket, waitOf } from '../../../src/bot/publish/views.ts'
import { waitingLine } from '../../../src/bot/publish/waiting.ts'
import { openWaitWatch } from '../../../src/bot/publish/watch.ts'
import { rendered } from '../../../src/bot/publish/words.ts'
import { openLog } from '../../../src/log.ts'
import type { Action } from '../../../src/schema/action.ts'
import type { Offer } from '../../../src/schema/runner-protocol.ts'
import { jiraWaitingMessage } from '../../../src/store/messages.ts'
import type { StoreLimits } from '../../../src/store/port.ts'
import { openStore } from '../../../src/store/sqlite/index.ts'
import { startJira } from '../../support/jira.ts'
import { until } from '../../support/wait.ts'
import { dev, environment, markdownOf, offer } from './fixtures.ts'

const START = Date.parse('2026-11-24T10:00:00Z')
const dana = { via: 'jira', who: '557058:dana', name: 'Dana Example', cause: 'ticket moved' } as const
const create: Action = { kind: 'create', ticket: 'DROP-1', by: dana, replyTo: null }
const stop: Action = { kind: 'stop', ticket: 'DROP-1', by: { ...dev, cause: 'merge' }, replyTo: null }

const stage = (limits: StoreLimits = {}) => {
  let now = START
  const clock = () => now
  const store = openStore(':memory:', clock, undefined, limits)
  onTestFinished(() => store.close())
  const waiting = new Map<string, string>()
  const views = { store, webUrl: 'https://github.com', jiraUrl: null, waiting, clock }
  const watch = openWaitWatch(views, true)
  return {
    store,
    clock,
    enqueue: (id: string, action: Action) => store.queue.enqueue({ id, correlation: 'd', action }),
    runner: (offered: Offer = offer(8_192), environments = [] as ReturnType<typeof environment>[]) =>
      store.runners.heartbeat({
        ...{ runnerId: 'r1', host: 'studio', version: '1', offer: offered, environments, manualOperations: [] },
      }),
    claim: async () => store.queue.claim('r1', offer(8_192)),
    /** Time passes, and the publisher looks. Returns the keys of what it put into the outbox. */
    after: async (seconds: number): Promise<string[]> => {
      now += seconds * 1000
      for (const row of await store.outbox.due(50)) await store.outbox.ack(row)
      await watch()
      return (await store.outbox.due(50)).map(({ key }) => key).sort()
    },
    /** The line in Jira. */
    jira: async (id: string) => {
      const view = await waitOf(views, id)
      return view === null ? null : markdownOf(rendered(() => [{ line: waitingLine(view) }]))
    },
    status: async () => {
      const status = await statusOfTicket(views, 'DROP-1', { repo: 'acme/shop', branch: 'DROP-1-x' })
      return status === null ? null : markdownOf(status.text)
    },
  }
}

test('it is told after 30 s, again when the reason is another one, and when the wait is over', async () => {
  const { enqueue, runner, claim, after } = stage()
  await enqueue('a', create)
  expect(await after(0)).toEqual([])
  expect(await after(29)).toEqual([])
  expect(await after(1)).toEqual(['jira-waiting:a', 'status:DROP-1'])
  expect(await after(60)).toEqual([])
  await runner(offer(1_024))
  expect(await after(1)).toEqual(['jira-waiting:a', 'status:DROP-1'])
  expect(await after(1)).toEqual([])
  await claim()
  expect(await after(1)).toEqual(['jira-waiting:a', 'status:DROP-1'])
  expect(await after(60)).toEqual([])
})

test('what starts in time is not told', async () => {
  const { enqueue, claim, after } = stage()
  await enqueue('a', create)
  expect(await after(29)).toEqual([])
  await claim()
  expect(await after(60)).toEqual([])
})

test('the time behind another action of the ticket is no wait for a runner', async () => {
  const { enqueue, store, claim, after } = stage()
  await enqueue('a', create)
  const lease = await claim()
  await enqueue('b', stop)
  await after(0)
  expect(await after(300)).toEqual([])
  await store.queue.giveBack('a', lease?.token ?? '')
  expect(await after(1)).toEqual([])
  // Both wait: the older one is told.
  expect(await after(30)).toEqual(['jira-waiting:a', 'status:DROP-1'])
})

test.for([
  ['what GitHub caused is told in the status comment', stop],
  ['a command is told in its reply', { ...create, replyTo: { ticket: 'DROP-1', commentId: '10001', line: 0 } }],
] as const)('%s', async ([, action]) => {
  const { enqueue, after } = stage()
  await enqueue('a', action)
  await after(0)
  expect(await after(31)).toEqual(['status:DROP-1'])
})

test('the status comment says what waits and why, while it does', async () => {
  const { enqueue, runner, claim, after, status } = stage()
  await runner(offer(8_192), [environment()])
  await enqueue('a', stop)
  await after(0)
  expect(await status()).not.toContain('waits since')
  await after(31)
  await runner(offer(8_192), [environment()])
  await after(1)
  expect(await status()).toContain(
    '`stop`, merge by `octocat`, waits since 2026-11-24 10:00:00 UTC: Next in the queue: it starts as soon as a runner has a free slot.',
  )
  await after(600)
  expect(await status()).toContain(
    'Waiting for the runner on `studio`, which has this machine and does not respond. It starts when that runner is back.',
  )
  await runner(offer(8_192), [environment()])
  await claim()
  await after(1)
  expect(await status()).not.toContain('waits since')
})

const hanging = {
  ...{ phase: 'clone', at: '2026-11-24T10:00:01.000Z' },
  waitsFor: { what: 'virsh define', since: '2026-11-24T10:00:02.000Z', until: '2026-11-24T10:01:02.000Z' },
}

test('a command that hangs is told when its runner has waited for 30 s, and what failed before with it', async () => {
  const { enqueue, runner, claim, after, status, store } = stage()
  await runner(offer(8_192), [environment()])
  await enqueue('a', { ...create, by: { ...dev, cause: 'merge' } })
  const first = await claim()
  expect(await after(1)).toEqual([])
  await store.queue.renew('a', first?.token ?? '', { phase: 'clone', at: hanging.at })
  expect(await after(31)).toEqual([])
  await store.queue.renew('a', first?.token ?? '', hanging)
  expect(await after(2)).toEqual(['status:DROP-1'])
  expect(await status()).toContain(
    '`create`, merge by `octocat`: Attempt 1 is in progress. Waiting for `virsh define` since 2026-11-24 10:00:02 UTC. It is given up at 2026-11-24 10:01:02 UTC.',
  )
  expect(await after(2)).toEqual([])
  const failure = { kind: 'timeout', message: 'creating DROP-1: no answer within 60 s', remedy: null } as const
  await store.queue.fail('a', first?.token ?? '', { failure, retry: true, environment: null, messages: [] })
  await runner(offer(8_192), [environment()])
  expect(await after(1)).toEqual(['status:DROP-1'])
  expect(await status()).toContain('Attempt 1 failed: `creating DROP-1: no answer within 60 s`. The next attempt is at')
  await runner(offer(8_192), [environment()])
  await after(2)
  const second = await claim()
  await store.queue.renew('a', second?.token ?? '', { phase: 'clone', at: hanging.at })
  expect(await after(1)).toEqual(['status:DROP-1'])
  expect(await status()).toContain('Attempt 2 is in progress. The attempt before (1) failed: `creating DROP-1')
  expect(await after(10)).toEqual([])
  await store.queue.complete('a', second?.token ?? '', { result: 'skipped', reason: 'x', environment: null }, [])
  expect(await after(1)).toEqual(['status:DROP-1'])
  expect(await status()).not.toContain('in progress')
})

test('what hangs no more is not told any more', async () => {
  const { enqueue, claim, after, store } = stage()
  await enqueue('a', create)
  const lease = await claim()
  await store.queue.renew('a', lease?.token ?? '', hanging)
  expect(await after(1)).toEqual(['jira-waiting:a', 'status:DROP-1'])
  await store.queue.renew('a', lease?.token ?? '', { phase: 'boot', at: hanging.at })
  expect(await after(1)).toEqual(['jira-waiting:a', 'status:DROP-1'])
  expect((await store.queue.get('a'))?.progress).toEqual({ phase: 'boot', at: hanging.at })
})

/** A publisher that writes to Jira alone. */
const jiraStage = async () => {
  const jira = await startJira({ issues: { 'DROP-1': 'one' } })
  onTestFinished(() => jira.stop())
  const { store, enqueue, claim, clock } = stage()
  const client = openJira({
    url: jira.url,
    email: jira.me.emailAddress,
    apiToken: jira.token,
    webhookSecret: null,
    automationSecret: null,
  })
  const log = openLog('silent')
  const publisher = openPublisher({ store, github: null, jira: client, webUrl: '', jiraUrl: jira.url, clock, log })
  onTestFinished(() => publisher.close())
  return { jira, publisher, store, enqueue, claim }
}

test('a comment in Jira says it, and is edited when the wait is over; one that somebody deleted stays deleted', async () => {
  const { jira, publisher, store, enqueue, claim } = await jiraStage()
  const publish = async () => {
    await store.outbox.put([jiraWaitingMessage('DROP-1', 'a')])
    publisher.nudge()
    await until('an empty outbox', async () => (await store.counts()).outbox === 0)
    return jira.comments('DROP-1').map(text => text.replaceAll(/\s+/g, ' '))
  }
  await enqueue('a', create)
  const lead = 'create of DROP-1, queued at 2026-11-24 10:00:00 UTC: ticket moved by Dana Example :'
  const [waits, ...more] = await publish()
  expect(waits).toContain('no runner is connected')
  expect(more).toEqual([])
  expect(await publish()).toEqual([waits])
  const lease = await claim()
  expect((await publish()).map(text => text.replaceAll(' :', ':'))).toEqual([
    `${lead.replace(' :', ':')} it waited, and is in progress.`,
  ])
  const outcome = { result: 'done', summary: 'x', environment: environment(), seconds: 1 } as const
  await store.queue.complete('a', lease?.token ?? '', outcome, [])
  const key = { side: 'jira', kind: 'note', ticket: 'DROP-1', about: 'waiting:a' } as const
  jira.remove('DROP-1', (await store.comments.get(key))?.id ?? '')
  expect(await publish()).toEqual([])
})

test('whoever was not told of the wait is not told of its end', async () => {
  const { jira, publisher, store, enqueue, claim } = await jiraStage()
  await enqueue('a', create)
  await claim()
  await store.outbox.put([jiraWaitingMessage('DROP-1', 'a')])
  publisher.nudge()
  await until('an empty outbox', async () => (await store.counts()).outbox === 0)
  expect(jira.comments('DROP-1')).toEqual([])
})

test('a create that waits for room says behind which machines, and the same until one changes', async () => {
  const { enqueue, runner, after, jira } = stage()
  const full = (freeMiB: number) => {
    const offered = offer(freeMiB)
    const held = { tickets: ['KEEP-1', 'KEEP-2'], machines: 2, cpus: 4, memoryMiB: 8_192 }
    return { ...offered, room: offered.room && { ...offered.room, held } }
  }
  await runner(full(1_024))
  await enqueue('a', create)
  await after(0)
  await after(30)
  await runner(full(1_024))
  await after(1)
  expect(await jira('a')).toContain(
    'Waiting for room: KEEP-1, KEEP-2 use 8 GiB of 16 GiB of memory on `studio`. It starts when another machine is stopped or deleted.',
  )
  await runner(full(900))
  expect(await after(1)).toEqual([])
  await runner(full(8_192))
  expect(await jira('a')).toContain('Next in the queue')
})

test('a create beyond the limit of its person names the machines', async () => {
  const { enqueue, runner, jira } = stage({ machinesPerPerson: 1 })
  const by = create.by
  await runner(offer(8_192), [{ ...environment(), ticket: 'KEEP-1', createdBy: by }])
  await enqueue('a', create)
  expect(await jira('a')).toContain(
    'Waiting: the person of this ticket has 1 machine, the most that one person may have: KEEP-1. It starts when one of them is deleted.',
  )
})
