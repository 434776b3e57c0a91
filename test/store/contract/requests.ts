import { describe, expect, test } from 'vitest'
import { AUDIT_ROWS, type NewRequest } from '../../../src/store/port.ts'
import {
  actionOf,
  command,
  comment,
  done,
  environmentOf,
  failure,
  heartbeatOf,
  MINUTE,
  queued,
  request,
  START,
} from '../fixtures.ts'
import { type Open, openStage, type Stage } from './stage.ts'

const ids = (requests: readonly { id: string }[]) => requests.map(({ id }) => id)
const answered = (id: string, line: number, ok = true) =>
  command(id, null, { line, ok, verdict: 'answered', answer: { text: 'The commands:', help: true } })
const refused = (id: string, more: Partial<NewRequest> = {}) =>
  command(id, null, { verdict: 'refused', reason: 'may not', ticket: 'DROP-1', ...more })

/** Records requests for actions, and ends each as its outcome says. */
const run = async (
  { store, decide, claim }: Stage,
  requests: readonly NewRequest[],
  ends: 'done' | 'failed' | 'skipped',
) => {
  for (const item of requests) {
    if (item.action === null) continue
    await decide({ actions: [{ id: item.id, correlation: 'd', action: item.action }], requests: [item] })
    const { id, token } = await claim()
    if (ends === 'failed') await store.queue.fail(id, token, { failure, retry: false, environment: null, messages: [] })
    else if (ends === 'done') await store.queue.complete(id, token, done(), [])
    else await store.queue.complete(id, token, { result: 'skipped', reason: 'nothing to do', environment: null }, [])
  }
}

export const requestsContract = (open: Open) => {
  describe('requests', () => {
    test('a request is recorded once, as it was', async () => {
      const { store, decide } = await openStage(open)
      const first = command('a', actionOf('stop'), { what: '/swarm stop', reason: 'dev has write access', at: 5 })
      await decide({ requests: [first] })
      await decide({ requests: [{ ...first, what: 'another', at: 9 }] })
      const { ok, ...members } = first
      expect(await store.requests.get('a')).toEqual({ ...members, ended: null })
      expect(await store.requests.get('b')).toBeNull()
    })

    test('a request without an action has ended when it is recorded', async () => {
      const { store, decide } = await openStage(open)
      await decide({
        requests: [
          answered('help', 0),
          answered('mistyped', 1, false),
          refused('no', { command: { comment, line: 2 } }),
        ],
      })
      expect((await store.requests.get('help'))?.ended).toEqual({ at: START, ok: true, outcome: null })
      expect((await store.requests.get('mistyped'))?.ended).toEqual({ at: START, ok: false, outcome: null })
      expect((await store.requests.get('no'))?.ended).toMatchObject({ ok: false })
      expect(await store.requests.unfinishedComments(START, 9)).toEqual([])
    })

    test('the last state change is the latest by the time of its event, whoever is recorded last', async () => {
      const { store, decide } = await openStage(open)
      await decide({
        requests: [
          request('event', actionOf('stop'), { at: 30 }),
          command('person', actionOf('start'), { at: 20 }),
          command('earlier', actionOf('create'), { at: 10, line: 1 }),
          command('checkpoint', actionOf('checkpoint'), { at: 40, line: 2 }),
          refused('refused', { at: 50, command: { comment, line: 3 } }),
          command('another', actionOf('delete', 'DROP-2'), { at: 60, line: 4 }),
        ],
      })
      expect(await store.requests.lastStateChange('DROP-1', 'person')).toMatchObject({
        id: 'person',
        action: { kind: 'start' },
      })
      expect(await store.requests.lastStateChange('DROP-1', 'anything')).toMatchObject({ id: 'event' })
      expect(await store.requests.lastStateChange('DROP-3', 'anything')).toBeNull()
    })

    test('the commands of a comment come by line, and a line has one', async () => {
      const { store, decide } = await openStage(open)
      const inJira = { ticket: 'DROP-1', commentId: '10001' }
      await decide({
        requests: [
          command('b', actionOf('stop'), { line: 1 }),
          answered('a', 0),
          command('jira', actionOf('stop'), { in: inJira }),
          command('elsewhere', actionOf('stop'), { in: { ...comment, commentId: 501 } }),
        ],
      })
      await decide({ requests: [command('again', actionOf('start'), { line: 1, at: START + 1 })] })
      expect(ids(await store.requests.ofComment(comment))).toEqual(['a', 'b'])
      expect(ids(await store.requests.ofComment(inJira))).toEqual(['jira'])
      // It was asked for all the same.
      expect(await store.requests.get('again')).toMatchObject({ command: null })
      expect(await store.requests.lastStateChange('DROP-1', 'person')).toMatchObject({ id: 'again' })
    })

    test('a command that was refused without an answer gives its line to one that is allowed later', async () => {
      const { store, decide } = await openStage(open)
      const first = refused('refused', { command: { comment, line: 0 } })
      await decide({ requests: [first] })
      await decide({ requests: [first] })
      expect(ids(await store.requests.ofComment(comment))).toEqual(['refused'])
      await decide({ requests: [command('allowed', actionOf('stop'), { line: 0 })] })
      await decide({ requests: [first] })
      expect(ids(await store.requests.ofComment(comment))).toEqual(['allowed'])
      expect(ids(await store.requests.audit(null, 9))).toEqual(['allowed', 'refused'])
    })

    test('comments with a command that has not ended, the newest first', async () => {
      const stage = await openStage(open)
      const { store, decide, pass, now } = stage
      const at = (commentId: number) => ({ ...comment, commentId })
      await decide({
        requests: [
          command('1', actionOf('stop'), { in: at(1), at: 0 }),
          command('1b', actionOf('stop'), { in: at(1), line: 1 }),
        ],
      })
      pass(1_000)
      await decide({ requests: [command('2', actionOf('stop'), { in: at(2), at: 0 })] })
      const second = now()
      pass(1_000)
      await decide({ requests: [command('3', actionOf('stop'), { in: at(3), at: 0 })] })
      expect(await store.requests.unfinishedComments(second, 9)).toEqual([at(2), at(1)])
      expect(await store.requests.unfinishedComments(now(), 1)).toEqual([at(3)])
    })

    test('the history has the actions that were done or failed and the refusals that were answered, the newest first', async () => {
      const stage = await openStage(open)
      const { store, decide, pass } = stage
      const answer = { text: 'Not allowed', help: false }
      await run(stage, [request('create', actionOf('create'))], 'done')
      pass(1_000)
      await run(stage, [request('skipped', actionOf('start'))], 'skipped')
      await run(stage, [command('status', actionOf('status'), { line: 0 })], 'done')
      await decide({ requests: [refused('stranger', { command: { comment, line: 1 } })] })
      await decide({ requests: [refused('colleague', { command: { comment, line: 2 }, answer })] })
      pass(1_000)
      await run(stage, [request('stop', actionOf('stop'))], 'failed')
      await decide({ requests: [request('open', actionOf('delete'))] })
      expect(ids(await store.requests.history('DROP-1', 9))).toEqual(['stop', 'colleague', 'create'])
      expect(ids(await store.requests.history('DROP-1', 1))).toEqual(['stop'])
      expect(await store.requests.history('DROP-2', 9)).toEqual([])
    })

    test('the audit has the commands that were allowed or refused, the newest first', async () => {
      const { store, decide } = await openStage(open)
      await decide({
        requests: [
          command('allowed', actionOf('stop'), { line: 0 }),
          answered('help', 1),
          refused('refused', { command: { comment, line: 2 }, ticket: 'DROP-2' }),
          request('event', actionOf('stop')),
        ],
      })
      expect(ids(await store.requests.audit(null, 9))).toEqual(['refused', 'allowed'])
      expect(ids(await store.requests.audit(null, 1))).toEqual(['refused'])
      expect(ids(await store.requests.audit('DROP-1', 9))).toEqual(['allowed'])
    })

    test('the audit keeps the newest of each verdict: refusals push out only refusals', async () => {
      const { store, decide } = await openStage(open)
      await decide({ requests: [command('allowed', actionOf('stop'), { in: { ...comment, commentId: 1 } })] })
      await decide({
        requests: Array.from({ length: AUDIT_ROWS + 2 }, (_, line) =>
          refused(`no-${line}`, { command: { comment, line } }),
        ),
      })
      const kept = ids(await store.requests.audit(null, AUDIT_ROWS * 2))
      expect(kept).toHaveLength(AUDIT_ROWS + 1)
      expect([kept[0], kept.at(-2), kept.at(-1)]).toEqual([`no-${AUDIT_ROWS + 1}`, 'no-2', 'allowed'])
      await decide({
        requests: Array.from({ length: AUDIT_ROWS }, (_, line) =>
          command(`yes-${line}`, actionOf('checkpoint'), { in: { ...comment, commentId: 2 }, line }),
        ),
      })
      expect(ids(await store.requests.audit(null, AUDIT_ROWS * 2))).not.toContain('allowed')
      // The log forgets it, and the person still waits for it.
      expect(await store.requests.lastStateChange('DROP-1', 'person')).toMatchObject({ id: 'allowed', ended: null })
    })
  })

  describe('purge of requests', () => {
    const purge = ({ store, now }: Stage) => store.purge({ queueBefore: 0, knowledgeBefore: now(), payloadBytes: 0 })

    test('the last state change stays, by a person and by anything, however old', async () => {
      const stage = await openStage(open)
      const { store, pass } = stage
      await run(
        stage,
        [
          request('a', actionOf('create'), { at: 1, person: true }),
          request('b', actionOf('stop'), { at: 2, person: true }),
          request('c', actionOf('start'), { at: 3 }),
          request('d', actionOf('checkpoint'), { at: 4 }),
        ],
        'skipped',
      )
      pass(MINUTE)
      await purge(stage)
      expect(await store.requests.lastStateChange('DROP-1', 'person')).toMatchObject({
        id: 'b',
        action: { kind: 'stop' },
      })
      expect(await store.requests.lastStateChange('DROP-1', 'anything')).toMatchObject({ id: 'c' })
      expect([await store.requests.get('a'), await store.requests.get('d')]).toEqual([null, null])
    })

    test('answered commands go, with our reply; the audit keeps its line; a command that has not ended stays', async () => {
      const stage = await openStage(open)
      const { store, pass, decide } = stage
      const waiting = { ...comment, commentId: 501 }
      for (const { commentId } of [comment, waiting])
        await store.comments.set(
          { side: 'github', kind: 'reply', repo: 'acme/shop', number: 7, about: String(commentId) },
          '1',
          'x',
        )
      await run(stage, [command('a', actionOf('checkpoint'))], 'skipped')
      await decide({ requests: [answered('help', 1)] })
      await decide({ requests: [command('b', actionOf('stop'), { in: waiting })] })
      pass(MINUTE)
      await purge(stage)
      expect(await store.requests.ofComment(comment)).toEqual([])
      expect(ids(await store.requests.ofComment(waiting))).toEqual(['b'])
      expect(ids(await store.requests.audit(null, 9))).toEqual(['b', 'a'])
      expect(await store.requests.get('help')).toBeNull()
      const reply = (commentId: number) =>
        store.comments.get({ side: 'github', kind: 'reply', repo: 'acme/shop', number: 7, about: String(commentId) })
      expect(await reply(500)).toBeNull()
      expect(await reply(501)).not.toBeNull()
    })

    test('the newest entries of the history stay while the ticket has its machine', async () => {
      const stage = await openStage(open)
      const { store, pass, claim } = stage
      await store.runners.heartbeat(heartbeatOf([environmentOf('DROP-1')]))
      for (const [n, ticket] of ['DROP-1', 'DROP-1', 'DROP-1', 'DROP-1', 'DROP-1', 'DROP-1', 'DROP-2'].entries()) {
        const action = actionOf('checkpoint', ticket)
        await stage.decide({ actions: [{ ...queued(`${n}`), action }], requests: [request(`${n}`, action)] })
        const { id, token } = await claim()
        await store.queue.complete(id, token, done(ticket === 'DROP-1' ? environmentOf(ticket) : null), [])
        pass(1_000)
      }
      await purge(stage)
      expect(ids(await store.requests.history('DROP-1', 9))).toEqual(['5', '4', '3', '2', '1'])
      expect(await store.requests.history('DROP-2', 9)).toEqual([])
    })
  })
}
