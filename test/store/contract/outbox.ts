import { describe, expect, test } from 'vitest'
import { jiraNoteMessage, reactionMessages, replyMessage } from '../../../src/store/messages.ts'
import { MAX_WAIT_MS } from '../../../src/store/port.ts'
import { MINUTE, queued, status } from '../fixtures.ts'
import { type Open, openStage } from './stage.ts'

export const outboxContract = (open: Open) => {
  describe('outbox', () => {
    const newer = { key: 'status:DROP-1', body: { kind: 'status', ticket: 'DROP-9' } } as const

    test('a newer message takes the place of an older one', async () => {
      const { store, messages } = await openStage(open)
      await store.outbox.put([status('DROP-1'), status('DROP-2'), newer])
      expect(await messages()).toEqual(['status:DROP-1', 'status:DROP-2'])
      expect((await store.outbox.due(1))[0]?.body).toEqual(newer.body)
      expect(await store.outbox.has('status:DROP-1')).toBe(true)
      expect(await store.outbox.has('status:DROP-3')).toBe(false)
    })

    test.for([
      ['another one', newer],
      ['the same again', status('DROP-1')],
    ] as const)('a message that was replaced by %s while it was published is published again', async ([, message]) => {
      const { store } = await openStage(open)
      await store.outbox.put([status('DROP-1')])
      const [first] = await store.outbox.due(1)
      await store.outbox.put([message])
      if (first !== undefined) await store.outbox.ack(first)
      const [second] = await store.outbox.due(1)
      expect(second).toMatchObject({ key: 'status:DROP-1', body: message.body, attempt: 0 })
      expect(second?.version).not.toBe(first?.version)
      if (second !== undefined) await store.outbox.ack(second)
      expect(await store.counts()).toMatchObject({ outbox: 0 })
    })

    test('the reaction to a command that has ended comes after the reply, unless that cannot be published', async () => {
      const { store, now } = await openStage(open)
      const comment = { repo: 'acme/shop', number: 1, commentId: 3 }
      const keys = async () => (await store.outbox.due(10)).map(({ key }) => key)
      const eyes = reactionMessages(comment, 'eyes')
      await store.outbox.put([...reactionMessages(comment, 'rocket'), ...eyes, replyMessage(comment)])
      await store.outbox.put(reactionMessages({ ...comment, commentId: 33 }, 'rocket'))
      const [heard, done, other] = [
        'reaction:acme/shop:3:heard',
        'reaction:acme/shop:3:done',
        'reaction:acme/shop:33:done',
      ]
      const reply = 'reply:github:acme/shop:3'
      expect(await keys()).toEqual([heard, reply, other])
      const row = (await store.outbox.due(10)).find(({ key }) => key === reply)
      for (let attempt = 1; attempt <= 4; attempt += 1) {
        expect(await keys()).not.toContain(done)
        await store.outbox.postpone(row?.seq ?? 0, now() + MINUTE, 'it is away')
      }
      expect(await keys()).toEqual([done, heard, other])
      await store.outbox.put([replyMessage(comment)])
      const again = (await store.outbox.due(10)).find(({ key }) => key === reply)
      expect(await keys()).toEqual([heard, reply, other])
      if (again !== undefined) await store.outbox.ack(again)
      expect(await keys()).toContain(done)
    })

    test('a postponed message comes at its time, and a newer one in its place at once', async () => {
      const { store, now, pass } = await openStage(open)
      expect(await store.outbox.nextDueAt()).toBeNull()
      await store.outbox.put([status('DROP-1')])
      const [{ seq } = { seq: 0 }] = await store.outbox.due(1)
      await store.outbox.postpone(seq, now() + MINUTE, 'a limit')
      expect(await store.outbox.due(10)).toEqual([])
      expect(await store.outbox.nextDueAt()).toBe(now() + MINUTE)
      pass(MINUTE)
      expect(await store.outbox.due(10)).toMatchObject([{ attempt: 1 }])
      await store.outbox.postpone(seq, now() + MINUTE, 'a limit')
      await store.outbox.put([newer])
      expect(await store.outbox.due(10)).toMatchObject([{ attempt: 0 }])
    })

    test('a message that was postponed before the clock was set back is due', async () => {
      const { store, now, pass } = await openStage(open)
      await store.outbox.put([status('DROP-1')])
      const [{ seq } = { seq: 0 }] = await store.outbox.due(1)
      await store.outbox.postpone(seq, now() + MINUTE, 'GitHub does not answer')
      pass(-MAX_WAIT_MS)
      expect(await store.outbox.due(10)).toHaveLength(1)
      expect(await store.outbox.nextDueAt()).toBeNull()
    })

    test('messages come oldest first, at most so many', async () => {
      const { store, messages } = await openStage(open)
      await store.outbox.put(['DROP-1', 'DROP-2', 'DROP-3'].map(status))
      const [first, second, ...more] = await store.outbox.due(2)
      expect([first?.key, second?.key, more]).toEqual(['status:DROP-1', 'status:DROP-2', []])
      await store.outbox.drop(first?.seq ?? 0)
      expect(await messages()).toEqual(['status:DROP-2', 'status:DROP-3'])
    })

    /** One pull request in a repository of each installation, with a status comment for each of its tickets. */
    const twoInstallations = async () => {
      const stage = await openStage(open)
      const { store } = stage
      for (const [installation, repo] of [
        [1, 'acme/shop'],
        [2, 'other/site'],
      ] as const) {
        await store.repositories.setInstallation(repo, installation)
        for (const number of [1, 2, 3])
          await store.pullRequests.link({
            ...{ repo, number, ticket: `DROP-${installation}${number}`, branch: 'x', state: 'open', closedAt: null },
          })
      }
      await store.outbox.put(['DROP-11', 'DROP-12', 'DROP-13', 'DROP-21', 'DROP-22'].map(status))
      return stage
    }
    const told = { repo: 'acme/shop', number: 1, commentId: 7 }

    test('what a person waits for comes before everything that is older', async () => {
      const { store, messages } = await twoInstallations()
      const note = { kind: 'no-machine', why: 'opt-in' } as never
      await store.outbox.put([
        replyMessage(told),
        ...reactionMessages(told, 'eyes'),
        jiraNoteMessage('DROP-1', 'x', note),
      ])
      expect((await messages()).slice(0, 4)).toEqual([
        ...['reply:github:acme/shop:7', 'reaction:acme/shop:7:heard', 'jira:x', 'status:DROP-11'],
      ])
      expect((await store.outbox.due(9)).map(({ isAnswer }) => isAnswer)).toEqual([
        ...[true, true, true, false, false, false, false, false],
      ])
    })

    test('each repository has its share, however many messages another has', async () => {
      const { store } = await twoInstallations()
      expect((await store.outbox.due(1)).map(({ key, lane }) => [key, lane])).toEqual([
        ['status:DROP-11', 'github:1:acme/shop'],
        ['status:DROP-21', 'github:2:other/site'],
      ])
    })

    test.for([
      ['a repository', 'github:1:acme/shop', ['reply:jira:DROP-1:5', 'status:DROP-21', 'status:DROP-22']],
      ['a side', 'github', ['reply:jira:DROP-1:5']],
      ['Jira', 'jira', ['status:DROP-11', 'status:DROP-12', 'status:DROP-13', 'status:DROP-21', 'status:DROP-22']],
    ] as const)('the messages of %s that rests are left out', async ([, name, left]) => {
      const { store } = await twoInstallations()
      await store.outbox.put([replyMessage({ ticket: 'DROP-1', commentId: '5' })])
      expect((await store.outbox.due(9, [name])).map(({ key }) => key)).toEqual(left)
    })

    test('a message keeps the delivery that caused it, unless a later delivery replaces it', async () => {
      const { store, decide } = await openStage(open)
      await decide({ actions: [queued('1')], messages: [status('DROP-1')] })
      await store.outbox.put([newer])
      expect(await store.outbox.due(1)).toMatchObject([{ correlation: 'decided-1' }])
      await decide({ messages: [status('DROP-1')] })
      expect(await store.outbox.due(1)).toMatchObject([{ correlation: 'decided-2' }])
    })

    test('a message that is replaced is as old as the one that was never published', async () => {
      const { store, pass, now } = await openStage(open)
      await store.outbox.put([status('DROP-1')])
      const first = now()
      pass(MINUTE)
      await store.outbox.put([newer])
      expect(await store.counts()).toMatchObject({ outbox: 1, oldestMessageAt: first })
    })
  })
}
