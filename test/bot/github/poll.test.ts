/** GitHub by a personal token: what is polled becomes what a webhook would have told, and costs next to nothing. */
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { openGitHub } from '../../../src/bot/github/open.ts'
import { githubEvent } from '../../../src/bot/github/events.ts'
import { openGitHubPoll } from '../../../src/bot/github/poll.ts'
import { standardRules } from '../../../src/bot/rules/repository-file.ts'
import { openLog } from '../../../src/log.ts'
import type { Delivery } from '../../../src/store/port.ts'
import { openMemory } from '../../../src/store/sqlite/memory.ts'
import { type GitHubStandIn, startGitHub } from '../../support/github.ts'
import { until } from '../../support/wait.ts'
import { environmentOf, openStage, type Stage } from '../stage.ts'

const rules = standardRules({ projects: ['DROP'], assignees: 'me', jiraCommanders: [] })

describe('what a look finds', () => {
  let hub: GitHubStandIn
  let memory: ReturnType<typeof openMemory>
  let now: number
  let found: Delivery[]
  let poll: ReturnType<typeof openGitHubPoll>
  beforeEach(async () => {
    hub = await startGitHub({ people: { dev: 'push', boss: 'admin' } })
    onTestFinished(() => hub.stop())
    now = Date.now()
    memory = openMemory(':memory:', () => now)
    found = []
    await open()
  })
  const open = async (repositories: string[] = []) => {
    const log = openLog('silent')
    const github = await openGitHub(
      { via: 'token', token: 'token-dev', repositories, apiUrl: hub.url },
      {
        log,
        installationOf: () => null,
        decide: async () => {
          throw new Error('nothing is decided here')
        },
      },
    )
    poll = openGitHubPoll({
      github,
      parts: ['pushes', 'comments', 'pulls'],
      memory,
      rulesOf: async () => rules,
      rulesChanged: async () => {},
      everyMs: 60_000,
      clock: () => now,
      log,
      accept: deliveries => found.push(...deliveries),
    })
  }
  /** What one round finds, as events of ours. */
  const round = async () => {
    found = []
    await poll.round()
    return found.map(one => {
      const read = githubEvent(one.event, JSON.parse(one.body))
      return 'event' in read ? read.event : read.ignored
    })
  }
  /** What a decision would have kept. */
  const settle = (number: number, state: 'open' | 'closed' | 'merged') => {
    memory.link({ repo: hub.repo, number, ticket: 'DROP-1', branch: 'drop-1', state, closedAt: null })
    memory.settlePullRequest({ repo: hub.repo, number }, state)
  }
  /** The first look was a while ago. */
  const began = async () => {
    hub.budget.behind = 10_000
    await round()
    hub.budget.behind = 0
  }
  const asked = async (work: () => Promise<unknown>) => {
    const before = hub.asked.length
    await work()
    return hub.asked.slice(before).map(one => one.status)
  }

  test('at first the open pull requests, and nothing that was said or pushed before', async () => {
    await hub.push('drop-1-x')
    const number = await hub.open('drop-1-x', 'one')
    const gone = await hub.open('drop-1-y', 'gone')
    await hub.close(gone)
    await hub.comment(number, '/swarm delete')
    expect(await round()).toEqual([
      {
        kind: 'pull-request',
        change: 'opened',
        pullRequest: { repo: 'acme/shop', number },
        branch: 'drop-1-x',
        title: 'one',
        body: '',
        fromFork: false,
        sender: null,
        at: expect.any(Number),
      },
    ])
    settle(number, 'open')
    expect(await round()).toEqual([])
  })

  test('then pushes to branches of tickets, comments on pull requests, and what became of these', async () => {
    await hub.push('drop-1-x')
    const number = await hub.open('drop-1-x', 'one')
    settle(number, 'open')
    await began()
    const sha = await hub.push('drop-1-x')
    await hub.push('main-fix')
    const commentId = await hub.comment(number, '/swarm status')
    await hub.merge(number)
    expect(await round()).toMatchObject([
      { kind: 'push', repo: 'acme/shop', ref: 'refs/heads/drop-1-x', after: sha },
      { kind: 'comment', pullRequest: { number }, commentId, body: '/swarm status', author: 'dev', authorIsBot: false },
      { kind: 'pull-request', change: 'closed', pullRequest: { number } },
    ])
    settle(number, 'merged')
    expect(await round()).toEqual([])
  })

  test('what came and went between two looks is told, and what was reopened', async () => {
    await began()
    await hub.push('drop-1-x')
    const number = await hub.open('drop-1-x', 'one')
    await hub.close(number)
    expect(await round()).toMatchObject([{ kind: 'push' }, { change: 'closed', pullRequest: { number } }])
    // Told until it was decided, under the same id.
    const [, { id = '' } = {}] = found
    await hub.comment(number, 'so be it')
    await round()
    expect(found.map(one => one.id)).not.toContain(undefined)
    expect(id).toMatch(/^poll:acme\/shop#\d+:closed:2/)
    settle(number, 'closed')
    await hub.reopen(number)
    expect(await round()).toMatchObject([{ change: 'reopened', at: Math.floor(now / 1000) * 1000 }])
  })

  test('an edited comment says so; one of ours is not even told', async () => {
    await hub.push('drop-1-x')
    const number = await hub.open('drop-1-x', 'one')
    settle(number, 'open')
    await began()
    const id = await hub.comment(number, 'hello')
    const written = Date.now()
    await until('two seconds', () => Date.now() > written + 1_050)
    await hub.api('dev', 'PATCH', `/repos/${hub.repo}/issues/comments/${id}`, { body: '/swarm delete' })
    await hub.comment(number, '<!-- agent-swarm:status:DROP-1 -->\n/swarm delete')
    expect(await round()).toMatchObject([{ kind: 'comment', unfit: 'an edited comment gives no commands' }])
  })

  test('nothing new is three requests, each answered 304', async () => {
    await hub.push('drop-1-x')
    settle(await hub.open('drop-1-x', 'one'), 'open')
    await round()
    await round()
    expect(await asked(round)).toEqual([304, 304, 304])
    const { remaining } = hub.budget
    await round()
    expect(hub.budget.remaining).toBe(remaining)
  })

  test('what could not be put on disk is found again', async () => {
    await began()
    await hub.push('drop-1-x')
    const { push } = found
    found.push = () => {
      throw new Error('the disk is full')
    }
    await poll.round()
    found.push = push
    expect(await round()).toMatchObject([{ kind: 'push', ref: 'refs/heads/drop-1-x' }])
  })

  test('a repository of the list that GitHub does not show leaves the others', async () => {
    hub.faults.push({ match: /^GET \/repos\/acme\/shut$/, answer: { status: 403, body: { message: 'Forbidden' } } })
    await open(['acme/shop', 'acme/nothing', 'acme/shut'])
    await began()
    await hub.push('drop-1-x')
    expect(await round()).toMatchObject([{ kind: 'push', repo: 'acme/shop' }])
  })

  test('GitHub says how long to wait, and few requests left are left to answering', async () => {
    expect(await poll.round()).toBe(60_000)
    hub.budget.pollInterval = 90
    expect(await poll.round()).toBe(90_000)
    hub.budget.remaining = 400
    const wait = await poll.round()
    expect(wait).toBe(hub.budget.reset * 1000 - now)
    expect(await asked(poll.round)).toEqual([])
    now += wait
    hub.budget.remaining = 5_000
    expect((await asked(poll.round)).length).toBeGreaterThan(0)
  })

  test('a limit stops the round, and a wrong token is not asked with again and again', async () => {
    await poll.round()
    const limit = { status: 429, headers: { 'retry-after': '120' }, body: { message: 'secondary rate limit' } }
    hub.faults.push({ match: /matching-refs/, answer: limit })
    expect(await asked(poll.round)).toHaveLength(1)
    expect(await asked(poll.round)).toEqual([])
    now += 121_000
    hub.faults.push({ match: /matching-refs/, answer: { status: 401, body: { message: 'Bad credentials' } } })
    expect(await asked(poll.round)).toEqual([401])
    now += 3_601_000
    hub.faults.push({ match: /matching-refs/, answer: { ...limit, headers: { 'retry-after': '999999999' } } })
    expect(await asked(poll.round)).toContain(429)
    now += 3_601_000
    expect(await asked(poll.round)).not.toEqual([])
  })
})

describe('a whole bot with a token', () => {
  let stage: Stage
  const running = environmentOf('DROP-1')
  beforeAll(async () => {
    stage = await openStage({
      people: { dev: 'push', mallory: 'pull' },
      issues: { 'DROP-1': 'one' },
      before: async github => {
        await github.push('drop-1-x')
        number = await github.open('drop-1-x', 'one')
        old = await github.comment(number, '/swarm delete')
      },
      settings: { APP_ID: null, PRIVATE_KEY: null, WEBHOOK_SECRET: null, GITHUB_TOKEN: 'token-dev' },
    })
    await stage.heartbeat([running])
  })
  afterAll(() => stage.close())
  let number: number
  let old: number
  const told = (count: number) =>
    until(`${count} actions`, () => {
      const all = stage.told('DROP-1')
      return all.length >= count ? all : null
    })

  test('links what is open, posts its status under our own name, and takes commands of the same person', async () => {
    const comments = () => stage.github.comments(number)
    await until('the status', async () => (await comments()).find(one => one.body.includes('### DROP-1: running')))
    // What is of the second of the first look counts as old.
    const looks = () => stage.github.asked.filter(one => one.path.includes('/issues/comments?')).length
    await until('a later look', () => looks() > 2)
    const commentId = await stage.github.comment(number, '/swarm checkpoint before')
    const before = stage.github.asked.length
    await until('the eyes', () => stage.github.reactions(commentId).includes('eyes'))
    expect(stage.told('DROP-1').at(-1)).toBe('checkpoint pending')
    expect(stage.github.asked.slice(before).filter(one => one.status >= 500)).toEqual([])
    // The bot's words quote commands; they are its own.
    await stage.work(() => ({ result: 'done', summary: 'checkpoint before is made', environment: running, seconds: 1 }))
    await until('the reply', async () => (await comments()).find(one => one.body.includes('checkpoint before is made')))
    expect((await comments()).map(one => one.author)).toEqual(['dev', 'dev', 'dev', 'dev'])
  })

  test('rules of the repository count from the push that brings them', async () => {
    const mistake = 'merged must be one of stop, delete, nothing, and is "keep"'
    const isTold = async () => (await stage.github.comments(number)).some(one => one.body.includes(mistake))
    await stage.github.write('main', '.github/agent-swarm.yml', 'merged: keep\n')
    await until('the mistake is told', isTold)
    await stage.github.write('main', '.github/agent-swarm.yml', 'merged: delete\n')
    await until('the mistake is gone', async () => !(await isTold()))
  })

  test('one who may not write gets nothing', async () => {
    const commentId = await stage.github.comment(number, '/swarm delete', 'mallory')
    const verdict = await stage.verdict(`poll:acme/shop:comment:${commentId}`)
    expect(verdict).toEqual({ verdict: 'refused', reason: 'mallory has no write access' })
    expect(stage.github.reactions(commentId)).toEqual([])
  })

  test('what happens while it is away is found when it is back, once', async () => {
    const count = stage.told('DROP-1').length
    await stage.stopBot()
    const sha = await stage.github.push('drop-1-x')
    await stage.github.comment(number, '/swarm stop')
    await stage.startBot()
    await told(count + 2)
    await stage.github.merge(number)
    const all = await told(count + 3)
    expect(all.slice(count).sort()).toEqual(['checkpoint pending', 'delete pending', 'stop pending'])
    expect(stage.actionsOf('DROP-1').map(one => one.action)).toContainEqual(
      expect.objectContaining({ kind: 'checkpoint', name: `push-${sha.slice(0, 7)}` }),
    )
    expect(stage.github.reactions(old)).toEqual([])
  })

  test('a comment that a webhook told of too has one effect', async () => {
    const count = stage.told('DROP-1').length
    const commentId = await stage.github.comment(number, '/swarm status')
    await told(count + 1)
    // As it was with an App, before.
    const body = JSON.stringify({
      action: 'created',
      repository: { full_name: 'acme/shop' },
      issue: { number, pull_request: {} },
      comment: { id: commentId, body: '/swarm status', user: { login: 'dev', type: 'User' } },
    })
    const lane = `github:acme/shop:pr:${number}`
    stage.queue.accept([{ source: 'github', id: 'a-guid', event: 'issue_comment', lane, body, receivedAt: Date.now() }])
    await stage.stopBot()
    await stage.startBot()
    expect((await stage.verdict('a-guid')).verdict).toBe('actions')
    expect(stage.told('DROP-1')).toHaveLength(count + 1)
  })
})
