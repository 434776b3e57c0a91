/** A home that the version before left, with everything that its tables can hold. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import * as v from 'valibot'
import { describe, expect, test } from 'vitest'
import { action as actionSchema } from '../../src/schema/action.ts'
import { environment as environmentSchema } from '../../src/schema/environment.ts'
import { outcome as outcomeSchema } from '../../src/schema/outcome.ts'
import { dev, offer } from './fixtures.ts'
import { newHome, open } from './homes.ts'

describe('the home of the version before', () => {
  const load = () => {
    const home = newHome()
    for (const name of ['bot', 'memory']) {
      const db = new DatabaseSync(join(home, `${name}.db`))
      // It is read by this process alone: nothing has to reach the disk.
      db.exec('pragma synchronous = off')
      db.exec(readFileSync(join(import.meta.dirname, `../fixtures/home-before/${name}.sql`), 'utf8'))
      db.close()
    }
    return home
  }

  test('waits for what it waited for', async () => {
    const store = open(load())
    expect(await store.counts()).toMatchObject({ inbox: 1, pending: 3, active: 0, outbox: 6 })
    expect(await store.inbox.due(9)).toMatchObject([{ id: 'waiting-1', lane: 'jira:DROP-5' }])
    expect((await store.outbox.due(9)).map(({ key, body }) => [key, body])).toEqual([
      ['reply:github:acme/shop:1', { kind: 'reply', comment: { repo: 'acme/shop', number: 1, commentId: 1 } }],
      ['reply:jira:DROP-4:10001', { kind: 'reply', comment: { ticket: 'DROP-4', commentId: '10001' } }],
      [
        'jira:failed:by-hand',
        {
          ...{ kind: 'jira-note', ticket: 'DROP-4', about: 'failed:by-hand' },
          note: { kind: 'text', text: 'create of DROP-4 failed, and needs somebody to look at it:\n    no room' },
        },
      ],
      ['reaction:acme/shop:1:heard', { kind: 'reaction', repo: 'acme/shop', commentId: 1, content: 'eyes' }],
      ['status:DROP-1', { kind: 'status', ticket: 'DROP-1' }],
      ['jira-link:acme/shop:1', { kind: 'jira-link', ticket: 'DROP-1', pullRequest: { repo: 'acme/shop', number: 1 } }],
    ])
    expect(await store.inbox.scheduledAt('DROP-4')).toBe(2111240930211)
    const runnerId = '6fa766de-3455-44dc-81d6-f57c127f5632'
    expect(await store.queue.claim('another', offer)).toMatchObject({ action: { kind: 'create', ticket: 'DROP-5' } })
    expect(await store.queue.claim('another', offer)).toBeNull()
    expect(await store.queue.claim(runnerId, offer)).toMatchObject({ id: 'github:comment:8:0' })
  })

  test('knows what it knew', async () => {
    const store = open(load())
    expect(await store.runners.withMachine()).toEqual(['DROP-1', 'DROP-2', 'DROP-4'])
    expect(
      (await store.pullRequests.ofTicket('DROP-3')).map(({ number, state, decided }) => [
        number,
        state,
        decided?.state,
      ]),
    ).toEqual([[2, 'merged', 'merged']])
    expect((await store.tickets.get('DROP-3')).endedSinceNew).toBe(true)
    expect(await store.tickets.reportedBy('changed:50001')).toBe('2260be93-b79f-420c-85fb-7fa320fa5727')
    expect(await store.repositories.watched()).toEqual(['acme/shop'])
    expect(await store.cursors.get('jira')).toEqual({ at: 1795880911813, began: { DROP: 1795880911813 } })
    expect(await store.comments.isOwn({ side: 'github', repo: 'acme/shop', id: 3 })).toBe(true)
    expect(await store.comments.isOwn({ side: 'jira', id: '20007' })).toBe(true)
    const reply = { side: 'jira', kind: 'reply', ticket: 'DROP-4', about: '20006' } as const
    expect(await store.comments.get(reply)).toMatchObject({ id: '20007', begunAt: 1795880923785 })
    const note = { side: 'jira', kind: 'note', ticket: 'DROP-1', about: 'ready:as-drop-1-c5e274b8' } as const
    expect(await store.comments.get(note)).toMatchObject({ id: '20001' })
    expect(
      await store.comments.get({ side: 'jira', kind: 'link', ticket: 'DROP-1', about: 'acme/shop#1' }),
    ).not.toBeNull()
  })

  test('has its requests, its history and its audit log', async () => {
    const store = open(load())
    const { requests } = store
    expect(await requests.lastStateChange('DROP-1', 'person')).toMatchObject({
      id: 'github:comment:8:1',
      action: { kind: 'stop' },
      by: dev,
    })
    expect(await requests.lastStateChange('DROP-2', 'person')).toBeNull()
    expect(await requests.lastStateChange('DROP-2', 'anything')).toMatchObject({ action: { kind: 'stop' } })
    expect(await requests.lastStateChange('DROP-4', 'person')).toMatchObject({
      place: 'cli',
      action: { kind: 'start' },
    })
    const answers = await requests.ofComment({ repo: 'acme/shop', number: 1, commentId: 1 })
    expect(
      answers.map(({ what, answer, ended }) => [what, answer?.text ?? null, ended?.ok, ended?.outcome?.result]),
    ).toEqual([
      ['checkpoint before', null, true, 'done'],
      ['', 'There is no command `fly`.', false, undefined],
      ['status', null, true, 'done'],
    ])
    expect(await requests.unfinishedComments(Date.parse('2027-01-01'), 9)).toEqual([
      { repo: 'acme/shop', number: 1, commentId: 8 },
    ])
    expect((await requests.history('DROP-1', 5)).map(({ what }) => what)).toEqual([
      'restore before',
      'checkpoint before',
      'checkpoint push-4a55b3c',
      'checkpoint push-1298fc8',
      'create',
    ])
    expect((await requests.history('DROP-3', 1))[0]?.ended?.outcome).toMatchObject({
      ...{ result: 'done', seconds: 0.4 },
      rescued: expect.stringContaining('unsaved work'),
    })
    const audit = await requests.audit(null, 99)
    expect(audit.map(({ verdict, what, place }) => `${verdict} ${what} ${place}`)).toEqual([
      'allowed /swarm stop acme/shop#1',
      'allowed /swarm checkpoint later acme/shop#1',
      'allowed /swarm status DROP-4',
      'allowed /swarm restore before acme/shop#1',
      'refused /swarm delete acme/shop#1',
      'allowed /swarm status acme/shop#1',
      'allowed /swarm checkpoint before acme/shop#1',
    ])
    expect(audit[4]).toMatchObject({
      ticket: 'DROP-1',
      by: { via: 'github', who: 'mallory' },
      reason: 'mallory has no write access',
    })
  })

  test('holds nothing that the schemas of today refuse', async () => {
    const store = open(load())
    for (const { action, outcome } of await store.queue.list()) {
      expect(v.parse(actionSchema, action)).toEqual(action)
      if (outcome !== null) expect(v.parse(outcomeSchema, outcome)).toEqual(outcome)
    }
    for (const ticket of ['DROP-1', 'DROP-2', 'DROP-3', 'DROP-4']) {
      const known = await store.runners.environment(ticket)
      expect(v.parse(environmentSchema, known?.environment)).toEqual(known?.environment)
      const last = await store.requests.lastStateChange(ticket, 'anything')
      expect(v.parse(actionSchema, last?.action)).toEqual(last?.action)
    }
  })

  test('an action that waited ends with its request, in the history', async () => {
    const store = open(load())
    const lease = await store.queue.claim('runner', offer)
    const id = lease?.id ?? ''
    await store.queue.complete(
      id,
      lease?.token ?? '',
      { result: 'done', summary: '', environment: null, seconds: 1 },
      [],
    )
    expect(await store.requests.get(id)).toMatchObject({ ended: { ok: true } })
    expect((await store.requests.history('DROP-5', 9)).map(request => request.id)).toEqual([id])
  })
})
