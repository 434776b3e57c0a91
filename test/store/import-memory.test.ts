/** `bot.db` with the queue alone, and `memory.db` with what the bot knew: stored JSON, versions, interruptions. */
import { existsSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, expect, test } from 'vitest'
import { openDatabase, openDatabaseCopy } from '../../src/sqlite.ts'
import { migrations } from '../../src/store/sqlite/migrations.ts'
import { dev, offer } from './fixtures.ts'
import { formerMigrations } from './former-memory.ts'
import { newHome, open } from './homes.ts'

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

  test('earlier state changes and operations keep their meaning', async () => {
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

  test('takes the commands and requests of the first version', async () => {
    const comment = { repo: 'acme/shop', number: 7, commentId: 500 }
    const command = { repo: 'acme/shop', comment_id: 500, number: 7, at: 2 }
    const asked = { action_id: 'github:1:0', ticket: 'DROP-1', kind: 'stop', asked_by: dev, at: 5 }
    const home = formerHome({
      version: 1,
      memory: {
        asked: [asked],
        command: [
          { ...command, line: 0, said: 'no ticket', ok: 0 },
          { ...command, line: 1, action_id: asked.action_id },
        ],
        operation: [{ ticket: 'DROP-1', action: {}, outcome: {}, at: 1 }],
      },
    })
    const { requests } = open(home)
    expect(await requests.ofComment(comment)).toMatchObject([
      { place: 'acme/shop#7', by: { via: 'github' }, answer: { text: 'no ticket', help: false }, ended: { ok: false } },
      { id: asked.action_id, action: { kind: 'stop' }, person: false, ended: null },
    ])
    expect(await requests.history('DROP-1', 9)).toEqual([])
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

  test('does nothing in a new home', async () => {
    const home = newHome()
    await open(home).close()
    expect(existsSync(join(home, 'memory.db.imported'))).toBe(false)
  })
})
