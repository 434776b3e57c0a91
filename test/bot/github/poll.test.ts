/** GitHub by a personal token: what polls find becomes what a webhook would have reported, and costs next to nothing. */
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { UNFIT_EDITED } from '../../../handlers/handler.ts'
import type { PolledDelivery } from '../../../src/bot/catch-up.ts'
import { parseGitHub } from '../../../src/bot/github/events.ts'
import { openGitHub } from '../../../src/bot/github/open.ts'
import { openGitHubPoll } from '../../../src/bot/github/poll.ts'
import { standardRules } from '../../../src/bot/rules/repository-file.ts'
import { openLog } from '../../../src/log.ts'
import type { PullRequestState, Store } from '../../../src/store/port.ts'
import { openStore } from '../../../src/store/sqlite/index.ts'
import { delivery, settlement } from '../../store/fixtures.ts'
import { type GitHubStandIn, startGitHub } from '../../support/github.ts'
import { until } from '../../support/wait.ts'
import { environmentOf, openStage, type Stage } from '../stage.ts'

const rules = standardRules({ projects: ['DROP'], assignees: 'me', jiraCommanders: [] })

describe('what a poll finds', () => {
  let hub: GitHubStandIn
  let store: Store
  let now: number
  let found: PolledDelivery[]
  let accept: (deliveries: readonly PolledDelivery[]) => void
  let poll: ReturnType<typeof openGitHubPoll>
  beforeEach(async () => {
    hub = await startGitHub({ people: { dev: 'push', boss: 'admin' } })
    onTestFinished(() => hub.stop())
    now = Date.now()
    store = openStore(':memory:', () => now)
    accept = deliveries => found.push(...deliveries)
    found = []
    await open()
  })
  const open = async (repositories: string[] = []) => {
    const log = openLog('silent')
    const settings = { via: 'token', token: 'token-dev', repositories, apiUrl: hub.url } as const
    const github = await openGitHub(settings, { log })
    poll = openGitHubPoll({
      ...{ github, store, everyMs: 60_000, clock: () => now, log },
      parts: ['pushes', 'comments', 'pulls'],
      rulesOf: async () => rules,
      rulesChanged: async () => {},
      accept: async deliveries => accept(deliveries),
    })
  }
  /** The events that one round finds. */
  const round = async () => {
    found = []
    await poll.round()
    return found.map(({ event, body }) => {
      const parsed = parseGitHub(event, JSON.parse(body))
      return 'event' in parsed ? parsed.event : parsed.ignored
    })
  }
  let settled = 0
  /** What a decision would record. */
  const settle = async (number: number, state: PullRequestState) => {
    const pullRequest = { repo: hub.repo, number }
    await store.pullRequests.link({ ...pullRequest, ticket: 'DROP-1', branch: 'drop-1', state, closedAt: null })
    settled += 1
    await store.inbox.accept([delivery(`settled-${settled}`)])
    const [{ seq = 0 } = {}] = await store.inbox.due(1)
    const effects = [{ kind: 'pull-request-decided', pullRequest, state }] as const
    await store.inbox.settle([{ seq, ...settlement({ verdict: 'ignored', effects }) }])
  }
  /** The first poll was a while ago. */
  const began = async () => {
    hub.budget.behind = 10_000
    await round()
    hub.budget.behind = 0
  }
  const statuses = async (work: () => Promise<unknown>) => {
    const before = hub.requests.length
    await work()
    return hub.requests.slice(before).map(({ status }) => status)
  }

  test('at first the open pull requests, and nothing that was written or pushed before', async () => {
    await hub.push('drop-1-x')
    const number = await hub.open('drop-1-x', 'one')
    await hub.close(await hub.open('drop-1-y', 'gone'))
    await hub.comment(number, '/swarm delete')
    expect(await round()).toEqual([
      {
        kind: 'pull-request',
        change: 'opened',
        pullRequest: { repo: 'acme/shop', number },
        branch: 'drop-1-x',
        title: 'one',
        fromFork: false,
        merged: false,
        sender: null,
        at: expect.any(Number),
      },
    ])
    await settle(number, 'open')
    expect(await round()).toEqual([])
  })

  test('then pushes to branches of tickets, comments on pull requests, and how these ended', async () => {
    await hub.push('drop-1-x')
    const number = await hub.open('drop-1-x', 'one')
    await settle(number, 'open')
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
    await settle(number, 'merged')
    expect(await round()).toEqual([])
  })

  test('what came and went between two polls, and what was reopened', async () => {
    await began()
    await hub.push('drop-1-x')
    const number = await hub.open('drop-1-x', 'one')
    await hub.close(number)
    expect(await round()).toMatchObject([{ kind: 'push' }, { change: 'closed', pullRequest: { number } }])
    expect(found[1]?.id).toMatch(/^poll:acme\/shop#\d+:closed:2/)
    await hub.comment(number, 'so be it')
    await round()
    await settle(number, 'closed')
    await hub.reopen(number)
    expect(await round()).toMatchObject([{ change: 'reopened', at: Math.floor(now / 1000) * 1000 }])
  })

  test('an edited comment is marked, and our own are left out', async () => {
    await hub.push('drop-1-x')
    const number = await hub.open('drop-1-x', 'one')
    await settle(number, 'open')
    await began()
    const id = await hub.comment(number, 'hello')
    const written = Date.now()
    await until('two seconds of GitHub', () => Date.now() > written + 1_050)
    await hub.api('dev', 'PATCH', `/repos/${hub.repo}/issues/comments/${id}`, { body: '/swarm delete' })
    await hub.comment(number, '<!-- agent-swarm:status:DROP-1 -->\n/swarm delete')
    expect(await round()).toMatchObject([{ kind: 'comment', unfit: UNFIT_EDITED }])
  })

  test('without news three requests, each answered 304', async () => {
    await hub.push('drop-1-x')
    await settle(await hub.open('drop-1-x', 'one'), 'open')
    await round()
    await round()
    expect(await statuses(round)).toEqual([304, 304, 304])
    const { remaining } = hub.budget
    await round()
    expect(hub.budget.remaining).toBe(remaining)
  })

  test('the look back on comments does not grow while there is no news', async () => {
    await hub.push('drop-1-x')
    const number = await hub.open('drop-1-x', 'one')
    await settle(number, 'open')
    await began()
    await hub.comment(number, '/swarm status')
    await round()
    const since = () => hub.requests.findLast(({ path }) => path.includes('/issues/comments'))?.path
    const before = since()
    await round()
    expect(since()).toBe(before)
    now += 15 * 24 * 3_600_000
    hub.budget.behind = -15 * 24 * 3_600_000
    expect(await round()).toMatchObject([{ kind: 'comment' }])
    expect(await round()).toEqual([])
    expect(since()).not.toBe(before)
    hub.budget.behind = 0
  })

  test('what could not be put on disk is found again', async () => {
    await began()
    await hub.push('drop-1-x')
    const working = accept
    accept = () => {
      throw new Error('the disk is full')
    }
    await poll.round()
    accept = working
    expect(await round()).toMatchObject([{ kind: 'push', ref: 'refs/heads/drop-1-x' }])
  })

  test('a configured repository that GitHub does not show does not hold up the others', async () => {
    hub.faults.push({ match: /^GET \/repos\/acme\/shut$/, answer: { status: 403, body: { message: 'Forbidden' } } })
    await open(['acme/shop', 'acme/nothing', 'acme/shut'])
    await began()
    await hub.push('drop-1-x')
    expect(await round()).toMatchObject([{ kind: 'push', repo: 'acme/shop' }])
  })

  test('GitHub says how long to wait, and the last requests are left for answering', async () => {
    expect(await poll.round()).toBe(60_000)
    hub.budget.pollInterval = 90
    expect(await poll.round()).toBe(90_000)
    hub.budget.remaining = 400
    const wait = await poll.round()
    expect(wait).toBe(hub.budget.reset * 1000 - now)
    expect(await statuses(poll.round)).toEqual([])
    now += wait
    hub.budget.remaining = 5_000
    expect((await statuses(poll.round)).length).toBeGreaterThan(0)
  })

  test('a limit stops the round, and a wrong token is not tried again and again', async () => {
    await poll.round()
    const limit = { status: 429, headers: { 'retry-after': '120' }, body: { message: 'secondary rate limit' } }
    hub.faults.push({ match: /matching-refs/, answer: limit })
    expect(await statuses(poll.round)).toHaveLength(1)
    expect(await statuses(poll.round)).toEqual([])
    now += 121_000
    hub.faults.push({ match: /matching-refs/, answer: { status: 401, body: { message: 'Bad credentials' } } })
    expect(await statuses(poll.round)).toEqual([401])
    now += 3_601_000
    hub.faults.push({ match: /matching-refs/, answer: { ...limit, headers: { 'retry-after': '999999999' } } })
    expect(await statuses(poll.round)).toContain(429)
    now += 3_601_000
    expect(await statuses(poll.round)).not.toEqual([])
  })
})

describe('a whole bot with a token', () => {
  let stage: Stage
  let number: number
  let old: number
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
  const actions = (count: number) =>
    until(`${count} actions`, async () => {
      const all = await stage.states('DROP-1')
      return all.length >= count ? all : null
    })

  test('links what is open, posts its status under our own name, and takes commands of the same person', async () => {
    const comments = () => stage.github.comments(number)
    await until('the status', async () => (await comments()).find(({ body }) => body.includes('### DROP-1: running')))
    // What belongs to the second of the first poll counts as old.
    const polls = () => stage.github.requests.filter(({ path }) => path.includes('/issues/comments?')).length
    await until('a later poll', () => polls() > 2)
    const commentId = await stage.github.comment(number, '/swarm checkpoint before')
    const before = stage.github.requests.length
    await until('the eyes', () => stage.github.reactions(commentId).includes('eyes'))
    expect((await stage.states('DROP-1')).at(-1)).toBe('checkpoint pending')
    expect(stage.github.requests.slice(before).filter(({ status }) => status >= 500)).toEqual([])
    // The bot's comments quote commands, and are its own.
    await stage.work(() => ({
      result: 'done',
      summary: 'Made checkpoint before',
      environment: running,
      seconds: 1,
    }))
    await until('the reply', async () => (await comments()).find(({ body }) => body.includes('Made checkpoint before')))
    expect((await comments()).map(({ author }) => author)).toEqual(['dev', 'dev', 'dev', 'dev'])
  })

  test('rules of the repository are in effect from the push that brings them', async () => {
    const error = /merged must be one of stop, delete, nothing/
    const isShown = async () => (await stage.github.comments(number)).some(({ body }) => error.test(body))
    await stage.github.write('main', '.github/agent-swarm.yml', 'merged: keep\n')
    await until('the error is shown', isShown)
    await stage.github.write('main', '.github/agent-swarm.yml', 'merged: delete\n')
    await until('the error is gone', async () => !(await isShown()))
  })

  test('a collaborator without write access gets a sign that it was read, and nothing else', async () => {
    const commentId = await stage.github.comment(number, '/swarm delete', 'mallory')
    const verdict = await stage.verdict(`poll:acme/shop:comment:${commentId}`)
    expect(verdict).toEqual({
      verdict: 'refused',
      reason: 'mallory has no write access: only people with write access may give commands',
    })
    await until('the reaction', () => stage.github.reactions(commentId).length > 0)
    expect(stage.github.reactions(commentId)).toEqual(['confused'])
  })

  test('what happens while it is away is found when it is back, once', async () => {
    const count = (await stage.states('DROP-1')).length
    await stage.stopBot()
    const sha = await stage.github.push('drop-1-x')
    await stage.github.comment(number, '/swarm stop')
    await stage.startBot()
    await actions(count + 2)
    await stage.github.merge(number)
    const all = await actions(count + 3)
    expect(all.slice(count).sort()).toEqual(['checkpoint pending', 'delete pending', 'stop pending'])
    expect((await stage.actionsOf('DROP-1')).map(({ action }) => action)).toContainEqual(
      expect.objectContaining({ kind: 'checkpoint', name: `push-${sha.slice(0, 7)}` }),
    )
    expect(stage.github.reactions(old)).toEqual([])
  })

  test('a comment that a webhook reported as well has one effect', async () => {
    const count = (await stage.states('DROP-1')).length
    const commentId = await stage.github.comment(number, '/swarm status')
    await actions(count + 1)
    // As it was with an App, before.
    const body = JSON.stringify({
      action: 'created',
      repository: { full_name: 'acme/shop' },
      issue: { number, pull_request: {} },
      comment: { id: commentId, body: '/swarm status', user: { login: 'dev', type: 'User' } },
    })
    const lane = `github:acme/shop:pr:${number}`
    await stage.store.inbox.accept([
      { source: 'github', id: 'a-guid', event: 'issue_comment', lane, body, receivedAt: Date.now() },
    ])
    await stage.stopBot()
    await stage.startBot()
    expect((await stage.verdict('a-guid')).verdict).toBe('actions')
    expect(await stage.states('DROP-1')).toHaveLength(count + 1)
  })
})
