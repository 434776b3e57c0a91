/** Tickets, pull requests, repositories, cursors, comments. */
import { describe, expect, test } from 'vitest'
import { OUTDATED } from '../../../src/store/port.ts'
import { comment, environmentOf, heartbeatOf, MINUTE, START } from '../fixtures.ts'
import { type Open, openStage } from './stage.ts'

const link = (number: number, more = {}) =>
  ({ repo: 'acme/shop', number, ticket: 'DROP-1', branch: 'DROP-1', state: 'open', closedAt: null, ...more }) as const

export const knowledgeContract = (open: Open) => {
  describe('tickets', () => {
    test.for([
      ['never ended', [], false],
      ['ended', [['ended', 5]], true],
      [
        'back to new after it',
        [
          ['ended', 5],
          ['new', 6],
        ],
        false,
      ],
      [
        'new before it, known late',
        [
          ['ended', 5],
          ['new', 4],
        ],
        true,
      ],
      [
        'ended once more',
        [
          ['ended', 5],
          ['new', 6],
          ['ended', 7],
        ],
        true,
      ],
      [
        'an older end, known late',
        [
          ['new', 6],
          ['ended', 5],
        ],
        false,
      ],
      [
        'other categories',
        [
          ['ended', 5],
          ['indeterminate', 6],
          ['done', 7],
        ],
        true,
      ],
    ] as [string, ['ended' | 'new' | 'indeterminate' | 'done', number][], boolean][])(
      'whether the last environment ended since the ticket was new: %s',
      async ([, events, expected]) => {
        const { store } = await openStage(open)
        for (const [event, at] of events) {
          if (event === 'ended') await store.tickets.ended('DROP-1', at)
          else await store.tickets.sawCategory('DROP-1', event, at)
        }
        expect((await store.tickets.get('DROP-1')).endedSinceNew).toBe(expected)
      },
    )

    test('older news changes nothing', async () => {
      const { store } = await openStage(open)
      await store.tickets.sawCategory('DROP-1', 'done', 20)
      await store.tickets.sawCategory('DROP-1', 'indeterminate', 10)
      for (const at of [20, 10]) await store.tickets.movedTo('DROP-1', 'new', at)
      for (const at of [30, 40]) await store.tickets.movedTo('DROP-1', 'indeterminate', at)
      expect(await store.tickets.get('DROP-1')).toMatchObject({
        ...{ category: 'done', categoryAt: 20, toNewAt: 20, toProgressAt: 40 },
      })
    })

    test('an unknown ticket is known to have nothing', async () => {
      const { store } = await openStage(open)
      expect(await store.tickets.get('DROP-9')).toEqual({
        ...{ category: null, categoryAt: null, endedSinceNew: false, hadPullRequest: false },
        ...{ toNewAt: null, toProgressAt: null, decided: null },
      })
      expect(await store.tickets.current('DROP-9')).toBe('DROP-9')
      expect(await store.tickets.reportedBy('c1')).toBeNull()
    })
  })

  describe('pull requests', () => {
    test('a ticket has its pull requests in order, and had one also when none is linked any more', async () => {
      const { store } = await openStage(open)
      await store.pullRequests.link(link(9))
      await store.pullRequests.link(link(7))
      await store.pullRequests.link(link(7, { repo: 'acme/api' }))
      await store.pullRequests.link(link(8, { ticket: 'DROP-2' }))
      const numbers = async (ticket: string) =>
        (await store.pullRequests.ofTicket(ticket)).map(({ repo, number }) => `${repo}#${number}`)
      expect(await numbers('DROP-1')).toEqual(['acme/api#7', 'acme/shop#7', 'acme/shop#9'])
      expect((await store.pullRequests.ticketsIn('acme/shop')).sort()).toEqual(['DROP-1', 'DROP-2'])
      await store.pullRequests.unlink(link(8))
      expect(await numbers('DROP-2')).toEqual([])
      expect((await store.tickets.get('DROP-2')).hadPullRequest).toBe(true)
    })

    test('a link that changes keeps what was decided', async () => {
      const { store, effects, now } = await openStage(open)
      await store.pullRequests.link(link(7))
      await effects({ kind: 'pull-request-decided', pullRequest: link(7), state: 'open' })
      const merged = link(7, { state: 'merged', closedAt: START, ticket: 'DROP-2' })
      await store.pullRequests.link(merged)
      expect(await store.pullRequests.get(link(7))).toEqual({
        ...merged,
        ready: null,
        decided: { state: 'open', at: now() },
      })
    })
  })

  describe('repositories', () => {
    const file = { etag: 'e', good: 'rules', problems: ['a mistake'], checkedAt: 5 }

    test('what is known of a repository', async () => {
      const { store } = await openStage(open)
      await store.repositories.setInstallation('acme/shop', 100)
      await store.repositories.setInstallation('acme/shop', 101)
      await store.repositories.setFile('acme/shop', file)
      await store.repositories.setFile('acme/api', { ...file, good: null })
      await store.repositories.setHead('acme/shop', 'refs/heads/a', '1')
      await store.repositories.setHead('acme/shop', 'refs/heads/a', '2')
      await store.cursors.set('github:acme/shop', { began: 1 })
      await store.cursors.set('github-app:acme/api', { began: 2 })
      await store.cursors.set('jira', { at: 3 })
      expect(await store.repositories.installation('acme/shop')).toBe(101)
      expect(await store.repositories.installation('acme/api')).toBeNull()
      expect(await store.repositories.file('acme/shop')).toEqual(file)
      expect(await store.repositories.files()).toEqual([
        { repo: 'acme/api', good: null },
        { repo: 'acme/shop', good: 'rules' },
      ])
      expect(await store.repositories.heads('acme/shop')).toEqual(new Map([['refs/heads/a', '2']]))
      expect(await store.repositories.watched()).toEqual(['acme/api', 'acme/shop'])
      expect(await store.cursors.get('github:acme/shop')).toEqual({ began: 1 })
      expect(await store.cursors.get('github:acme/api')).toBeNull()
    })

    test('a repository keeps its former names under one owner, until another one takes such a name', async () => {
      const { store } = await openStage(open)
      const { rename, namesOf } = store.repositories
      for (const repo of ['acme/one', 'acme/two', 'acme/three']) await rename(1, repo)
      expect((await namesOf('acme/three')).sort()).toEqual(['acme/one', 'acme/three', 'acme/two'])
      // Somebody makes a repository of the first name.
      await rename(2, 'acme/one')
      expect((await namesOf('acme/three')).sort()).toEqual(['acme/three', 'acme/two'])
      expect(await namesOf('acme/one')).toEqual(['acme/one'])
      // It is given to another owner, where it is nothing of acme any more.
      await rename(1, 'evil/shop')
      expect(await namesOf('evil/shop')).toEqual(['evil/shop'])
    })

    test('a repository has one present name, whichever of its names is asked for, in any case', async () => {
      const { store } = await openStage(open)
      const { rename, presentName } = store.repositories
      await rename(1, 'acme/one')
      await rename(1, 'acme/two')
      for (const name of ['acme/one', 'ACME/One', 'acme/two', 'acme/TWO'])
        expect(await presentName(name)).toBe('acme/two')
      expect(await presentName('acme/unknown')).toBe('acme/unknown')
      // Somebody makes a repository of the first name.
      await rename(2, 'acme/one')
      expect(await presentName('acme/one')).toBe('acme/one')
      await rename(1, 'evil/shop')
      expect(await presentName('acme/two')).toBe('evil/shop')
    })

    test('the end of a link is told where a status comment stands, once', async () => {
      const { store } = await openStage(open)
      const { pullRequests, comments, outbox } = store
      const told = async () => (await outbox.due(9)).map(({ key }) => key)
      await pullRequests.link(link(7))
      await pullRequests.unlink(link(7))
      expect(await told()).toEqual([])
      await comments.set({ side: 'github', kind: 'status', repo: link(7).repo, number: 7, about: 'DROP-1' }, '3', 'x')
      await pullRequests.link(link(7))
      await pullRequests.link(link(7, { ticket: 'DROP-2' }))
      await pullRequests.unlink(link(7))
      expect(await told()).toEqual([`unlinked:${link(7).repo}:7:DROP-1`])
      expect((await store.tickets.get('DROP-1')).hadPullRequest).toBe(true)
    })

    test('under a new name, everything that is known goes along, and a former owner of the name is forgotten', async () => {
      const { store, effects } = await openStage(open)
      const { repositories, cursors, comments, pullRequests } = store
      const statusOf = (repo: string) => ({ side: 'github', kind: 'status', repo, number: 7, about: 'DROP-1' }) as const
      const replyOf = (repo: string) => ({ side: 'github', kind: 'reply', repo, number: 7, about: '500' }) as const
      const linkOf = (about: string) => ({ side: 'jira', kind: 'link', ticket: 'DROP-1', about }) as const
      for (const [id, repo, number] of [
        [1, 'acme/shop', 7],
        [2, 'acme/api', 8],
        [3, 'acme/shop-two', 9],
      ] as const) {
        await repositories.rename(id, repo)
        await repositories.setInstallation(repo, 100 + id)
        await repositories.setFile(repo, { ...file, good: repo })
        await repositories.setHead(repo, 'refs/heads/a', repo)
        await cursors.set(`github:${repo}`, repo)
        await pullRequests.link(link(number, { repo }))
        await effects({ kind: 'allow-commit', pullRequest: { repo, number }, commit: repo })
        await comments.set(statusOf(repo), String(id), repo)
        await comments.set(replyOf(repo), String(id + 10), repo)
        await comments.set(linkOf(`${repo}#${number}`), null, repo)
      }
      expect(await repositories.nameOf(1)).toBe('acme/shop')
      await repositories.rename(1, 'acme/shop')
      await repositories.rename(1, 'acme/api')

      expect([await repositories.nameOf(1), await repositories.nameOf(2)]).toEqual(['acme/api', null])
      expect((await repositories.namesOf('acme/api')).sort()).toEqual(['acme/api', 'acme/shop'])
      expect((await repositories.namesOf('acme/shop')).sort()).toEqual(['acme/api', 'acme/shop'])
      expect(await repositories.installation('acme/api')).toBe(101)
      expect(await repositories.installation('acme/shop')).toBeNull()
      expect((await repositories.files()).map(({ repo, good }) => [repo, good])).toEqual([
        ['acme/api', 'acme/shop'],
        ['acme/shop-two', 'acme/shop-two'],
      ])
      expect(await repositories.heads('acme/api')).toEqual(new Map([['refs/heads/a', 'acme/shop']]))
      expect(await repositories.watched()).toEqual(['acme/api', 'acme/shop-two'])
      expect(await cursors.get('github:acme/api')).toBe('acme/shop')
      expect((await pullRequests.ofTicket('DROP-1')).map(({ repo, number }) => `${repo}#${number}`)).toEqual([
        'acme/api#7',
        'acme/shop-two#9',
      ])
      expect(await pullRequests.allowedCommit({ repo: 'acme/api', number: 7 })).toBe('acme/shop')
      expect((await comments.get(statusOf('acme/api')))?.fingerprint).toBe('acme/shop')
      expect((await comments.get(linkOf('acme/api#7')))?.fingerprint).toBe('acme/shop')
      expect(await comments.get(linkOf('acme/api#8'))).toBeNull()
      expect((await comments.get(linkOf('acme/shop-two#9')))?.fingerprint).toBe('acme/shop-two')
      // GitHub redirects from the name under which the command was given.
      expect((await comments.get(replyOf('acme/shop')))?.fingerprint).toBe('acme/shop')
      expect((await comments.get(replyOf('acme/api')))?.fingerprint).toBe('acme/api')
    })
  })

  describe('comments of ours', () => {
    const note = { side: 'jira', kind: 'note', ticket: 'DROP-1', about: 'ready:as-drop-1-1a2b3c4d' } as const
    const reply = { side: 'github', kind: 'reply', ...comment, about: '500' } as const

    test('a comment is begun before it is written, and found by its id afterwards', async () => {
      const { store, now, pass } = await openStage(open)
      const { comments } = store
      expect(await comments.get(note)).toBeNull()
      await comments.begin(note)
      const begunAt = now()
      pass(1_000)
      await comments.begin(note)
      expect(await comments.get(note)).toEqual({ begunAt, id: null, fingerprint: null })
      await comments.set(note, '20001', null)
      expect(await comments.get(note)).toEqual({ begunAt, id: '20001', fingerprint: null })
      expect(await comments.isOwn({ side: 'jira', id: '20001' })).toBe(true)
      expect(await comments.isOwn({ side: 'github', repo: 'acme/shop', id: 20001 })).toBe(false)
      await comments.forget(note)
      expect(await comments.get(note)).toBeNull()
      expect(await comments.isOwn({ side: 'jira', id: '20001' })).toBe(false)
    })

    test('a comment on GitHub belongs to its repository', async () => {
      const { store } = await openStage(open)
      const { comments } = store
      await comments.set(reply, '3', 'one')
      await comments.set({ ...reply, about: '501' }, '4', 'two')
      await comments.set(reply, '3', 'three')
      expect(await comments.get(reply)).toMatchObject({ id: '3', fingerprint: 'three' })
      expect(await comments.isOwn({ side: 'github', repo: 'acme/shop', id: 3 })).toBe(true)
      expect(await comments.isOwn({ side: 'github', repo: 'acme/api', id: 3 })).toBe(false)
    })

    test('our replies on a pull request, newest first, without outdated ones and those that did not arrive', async () => {
      const { store } = await openStage(open)
      const { comments } = store
      const to = (about: number, number = 7) => ({ ...reply, number, about: String(about) })
      for (const about of [99, 1_000, 500, 400]) await comments.set(to(about), String(about + 1), 'x')
      await comments.set(to(600), '601', OUTDATED)
      await comments.begin(to(700))
      await comments.set(to(800, 8), '801', 'x')
      expect(await comments.replies({ repo: 'acme/shop', number: 7 }, 3)).toEqual([1_000, 500, 400])
      expect(await comments.replies({ repo: 'acme/shop', number: 7 }, 10)).toEqual([1_000, 500, 400, 99])
    })

    test('purge forgets comments in Jira of machines that are gone, and none that may have to be found again', async () => {
      const { store, pass, now } = await openStage(open)
      const { comments } = store
      await store.runners.heartbeat(heartbeatOf([environmentOf('DROP-1')]))
      const gone = { ...note, ticket: 'DROP-2' }
      const begun = { ...gone, about: 'begun' }
      const unsure = { ...gone, about: 'unsure' }
      await comments.set(unsure, null, 'x')
      for (const key of [note, gone]) await comments.set(key, '1', null)
      await comments.begin(begun)
      pass(MINUTE)
      await store.purge({ queueBefore: 0, knowledgeBefore: now(), payloadBytes: 0 })
      expect(await comments.get(note)).not.toBeNull()
      expect(await comments.get(begun)).not.toBeNull()
      expect(await comments.get(unsure)).not.toBeNull()
      expect(await comments.get(gone)).toBeNull()
    })
  })
}
