/** Homes of earlier versions: `bot.db` with the queue alone, and `memory.db` with what the bot knew. */
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import * as v from 'valibot'
import { describe, expect, onTestFinished, test } from 'vitest'
import { action as actionSchema } from '../../src/schema/action.ts'
import { environment as environmentSchema } from '../../src/schema/environment.ts'
import { outcome as outcomeSchema } from '../../src/schema/outcome.ts'
import { openDatabase, openDatabaseCopy } from '../../src/sqlite.ts'
import { formerMigrations } from '../../src/store/sqlite/former-memory.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { migrations } from '../../src/store/sqlite/migrations.ts'
import { dev, offer, START } from './fixtures.ts'

const newHome = () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-home-'))
  onTestFinished(() => rmSync(home, { recursive: true }))
  return home
}
const open = (
  home: string,
  ...how: Parameters<typeof openStore> extends [string, () => number, ...infer Rest] ? Rest : never
) => {
  const store = openStore(join(home, 'bot.db'), () => START, ...how)
  onTestFinished(() => store.close().catch(() => {}))
  return store
}
type Rows = Record<string, Record<string, unknown>[]>
const fill = (path: string, how: readonly (typeof migrations)[number][], rows: Rows): void => {
  const { db } = openDatabase(path, how)
  for (const [table, all] of Object.entries(rows)) {
    for (const row of all) {
      const columns = Object.keys(row)
      const cells = Object.values(row).map(cell =>
        typeof cell === 'object' && cell !== null ? JSON.stringify(cell) : cell,
      )
      db.prepare(`insert into ${table} (${columns.join(', ')}) values (${columns.map(() => '?').join(', ')})`).run(
        ...(cells as string[]),
      )
    }
  }
  db.close()
}
/** A home whose `bot.db` has the queue's last version before this one, and whose `memory.db` has `version`. */
const formerHome = ({
  bot = {},
  memory = {},
  version = formerMigrations.length,
}: {
  bot?: Rows
  memory?: Rows
  version?: number
}) => {
  const home = newHome()
  fill(join(home, 'bot.db'), migrations.slice(0, 4), bot)
  fill(join(home, 'memory.db'), formerMigrations.slice(0, version), memory)
  return home
}

describe('the home of the version before', () => {
  const load = () => {
    const home = newHome()
    for (const name of ['bot', 'memory']) {
      const db = new DatabaseSync(join(home, `${name}.db`))
      db.exec(readFileSync(join(import.meta.dirname, `../fixtures/home-before/${name}.sql`), 'utf8'))
      db.close()
    }
    return home
  }

  test('waits for what it waited for', async () => {
    const store = open(load())
    expect(await store.counts()).toMatchObject({ inbox: 1, pending: 3, active: 0, dead: 0, outbox: 6 })
    expect(await store.inbox.due(9)).toMatchObject([{ id: 'waiting-1', lane: 'jira:DROP-5' }])
    expect((await store.outbox.due(9)).map(({ key, body }) => [key, body])).toEqual([
      ['status:DROP-1', { kind: 'status', ticket: 'DROP-1' }],
      ['reply:github:acme/shop:1', { kind: 'reply', comment: { repo: 'acme/shop', number: 1, commentId: 1 } }],
      ['reply:jira:DROP-4:10001', { kind: 'reply', comment: { ticket: 'DROP-4', commentId: '10001' } }],
      [
        'jira:failed:by-hand',
        {
          ...{ kind: 'jira-note', ticket: 'DROP-4', about: 'failed:by-hand' },
          note: { kind: 'text', text: 'create of DROP-4 failed, and needs somebody to look at it:\n    no room' },
        },
      ],
      ['jira-link:acme/shop:1', { kind: 'jira-link', ticket: 'DROP-1', pullRequest: { repo: 'acme/shop', number: 1 } }],
      ['reaction:acme/shop:1:heard', { kind: 'reaction', repo: 'acme/shop', commentId: 1, content: 'eyes' }],
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

describe('stored JSON', () => {
  const at = '2026-11-24T10:00:00.000Z'
  const environment = (work: object) => ({
    ticket: 'DROP-1',
    vmId: 'as-drop-1-1a2b3c4d',
    workAtRisk: work,
    checkpoints: [],
  })
  const actionRow = (id: string, outcome: object | null, more: object = {}) => ({
    ...{
      id,
      correlation: id,
      ticket: 'DROP-1',
      kind: 'delete',
      state: outcome === null ? 'pending' : 'done',
      created_at: 1,
    },
    payload: { kind: 'delete', ticket: 'DROP-1', by: dev, replyTo: null, force: false, at, ...more },
    outcome,
  })

  test('has the names of today', async () => {
    const unknown = { known: false, because: 'no answer' }
    const home = formerHome({
      bot: {
        action: [
          actionRow('done', { result: 'done', said: 's', environment: environment(unknown), seconds: 1, kept: 'k' }),
          actionRow('skipped', { result: 'skipped', because: 'b', environment: null }),
          actionRow('failed', {
            result: 'failed',
            failure: { kind: 'work-at-risk', message: 'm', remedy: null },
            environment: null,
          }),
          actionRow('waiting', null, { callsOff: true }),
        ],
        outbox: [
          { key: 'action:1', body: { kind: 'action', actionId: '1' } },
          { key: 'jira:x', body: { kind: 'jira', ticket: 'DROP-1', about: 'x', text: 't' } },
        ],
      },
      memory: {
        environment: [
          {
            ticket: 'DROP-1',
            vm_id: 'as-drop-1-1a2b3c4d',
            body: environment({ known: true, repositories: [] }),
            heard_at: 1,
          },
          {
            ...{ ticket: 'DROP-2', vm_id: 'as-drop-2-1a2b3c4d', body: { ticket: 'DROP-2' }, heard_at: 1 },
            ...{ gone_at: 2, deleted: 1 },
          },
        ],
        asked: [{ action_id: 'waiting', ticket: 'DROP-1', kind: 'delete', asked_by: dev, at: 1, person: 1 }],
        command: [
          {
            ...{
              thread: 'github:acme/shop:500',
              line: 0,
              comment: { repo: 'acme/shop', number: 7, commentId: 500 },
              at: 2,
            },
            ...{
              action_id: 'waiting',
              action: { kind: 'delete', ticket: 'DROP-1', by: dev, replyTo: null, force: false, callsOff: true },
            },
          },
        ],
      },
    })
    const store = open(home)
    const outcomes = (await store.queue.list()).map(({ outcome }) => outcome)
    expect(outcomes).toMatchObject([
      {
        result: 'done',
        summary: 's',
        rescued: 'k',
        environment: { unsavedWork: { known: false, reason: 'no answer' } },
      },
      { result: 'skipped', reason: 'b' },
      { result: 'failed', failure: { kind: 'unsaved-work' } },
      null,
    ])
    expect((await store.queue.get('waiting'))?.action).toMatchObject({ cancelsDelete: true })
    expect((await store.requests.get('waiting'))?.action).toMatchObject({ cancelsDelete: true })
    expect((await store.outbox.due(9)).map(({ key }) => key)).toEqual(['jira:x'])
    expect((await store.runners.environment('DROP-1'))?.environment.unsavedWork).toEqual({
      known: true,
      repositories: [],
    })
    const everything = JSON.stringify([
      outcomes,
      await store.runners.environment('DROP-1'),
      await store.requests.get('waiting'),
    ])
    expect(everything).not.toMatch(/"(said|because|kept|workAtRisk|callsOff)"|work-at-risk/)
  })

  test('a machine that was deleted does not come back', async () => {
    const gone = environment({ known: true, repositories: [] })
    const home = formerHome({
      memory: {
        environment: [{ ticket: 'DROP-1', vm_id: gone.vmId, body: gone, heard_at: 1, gone_at: 2, deleted: 1 }],
      },
    })
    const store = open(home)
    const late = { ...gone, provider: 'kvm', ip: null, status: 'running', observedAt: at } as never
    await store.runners.heartbeat({
      ...{ runnerId: 'r', host: 'h', version: '1', offer, manualOperations: [] },
      environments: [late],
    })
    expect(await store.runners.environment('DROP-1')).toMatchObject({ goneAt: 2 })
  })

  test('a person waits for a command still, and an old wish of one counts still', async () => {
    const home = formerHome({
      memory: {
        asked: [
          { action_id: 'github:1:0', ticket: 'DROP-1', kind: 'stop', asked_by: dev, at: 5, person: 1 },
          {
            action_id: 'jira:1:0',
            ticket: 'DROP-1',
            kind: 'start',
            asked_by: { via: 'jira', who: null },
            at: 6,
            person: 0,
          },
          { action_id: 'github:2:0', ticket: 'DROP-1', kind: 'status', asked_by: dev, at: 7, person: 1 },
        ],
        operation: [
          {
            ticket: 'DROP-1',
            body: { what: 'stop', by: dev, at: 5, result: 'failed', said: 'no answer', seconds: null },
          },
          {
            ticket: 'DROP-1',
            body: { what: 'delete', by: dev, at: 6, result: 'refused', said: 'may not', seconds: null },
          },
        ],
      },
    })
    const { requests } = open(home)
    expect(await requests.lastStateChange('DROP-1', 'person')).toMatchObject({
      at: 5,
      action: { kind: 'stop', ticket: 'DROP-1', by: dev },
    })
    expect(await requests.lastStateChange('DROP-1', 'anything')).toMatchObject({ at: 6, action: { kind: 'start' } })
    expect(await requests.history('DROP-1', 9)).toMatchObject([
      { what: 'delete', verdict: 'refused', reason: 'may not' },
      { what: 'stop', verdict: 'allowed', ended: { ok: false, outcome: { failure: { message: 'no answer' } } } },
    ])
  })
})

describe('the import', () => {
  const cursor = { cursor: 1 }
  const memory = { place: [{ what: 'jira', value: cursor }] }

  test.for(formerMigrations.map((_, n) => n + 1))('takes a memory.db of version %i', async version => {
    const home = formerHome({ version, memory: { ticket: [{ ticket: 'DROP-1', category: 'new', category_at: 1 }] } })
    expect(await open(home).tickets.get('DROP-1')).toMatchObject({ category: 'new' })
  })

  test('takes a memory.db whose bot.db was lost', async () => {
    const home = formerHome({ memory })
    rmSync(join(home, 'bot.db'))
    expect(await open(home).cursors.get('jira')).toEqual(cursor)
  })

  test('is done once, also when the process died before the file was renamed', async () => {
    const link = { repo: 'acme/shop', number: 7, ticket: 'DROP-1', branch: 'DROP-1', state: 'open' }
    const home = formerHome({ memory: { ...memory, pull_request: [link] } })
    const path = join(home, 'memory.db')
    const first = open(home)
    expect(existsSync(path)).toBe(false)
    await first.cursors.set('jira', { cursor: 2 })
    await first.pullRequests.unlink(link)
    await first.close()
    renameSync(`${path}.imported`, path)
    const second = open(home)
    expect(await second.cursors.get('jira')).toEqual({ cursor: 2 })
    expect(await second.pullRequests.get(link)).toBeNull()
    expect([existsSync(path), existsSync(`${path}.imported`)]).toEqual([false, true])
  })

  test('happens as a whole or not at all', async () => {
    const home = formerHome({ memory: { ...memory, operation: [{ ticket: 'DROP-1', body: 'no JSON' }] } })
    expect(() => open(home)).toThrow()
    const path = join(home, 'memory.db')
    const db = new DatabaseSync(path)
    db.exec('delete from operation')
    db.close()
    const store = open(home)
    expect(await store.cursors.get('jira')).toEqual(cursor)
    expect(existsSync(path)).toBe(false)
  })

  test('is in the real store before a dry run copies it', async () => {
    const home = formerHome({ memory })
    expect(await open(home, openDatabaseCopy).cursors.get('jira')).toEqual(cursor)
    expect(await open(home).cursors.get('jira')).toEqual(cursor)
  })

  test('is none in a new home', async () => {
    const home = newHome()
    await open(home).close()
    expect(existsSync(join(home, 'memory.db.imported'))).toBe(false)
  })
})
