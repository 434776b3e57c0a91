/** A newer reply makes the older ones of its kind outdated: GitHub minimizes them, or they are folded. */
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { openGitHub } from '../../../src/bot/github/open.ts'
import { openPublisher } from '../../../src/bot/publish/publisher.ts'
import { openLog } from '../../../src/log.ts'
import { replyMessage } from '../../../src/store/messages.ts'
import { openStore } from '../../../src/store/sqlite/index.ts'
import { type GitHubStandIn, startGitHub, WEBHOOK_SECRET } from '../../support/github.ts'
import { until } from '../../support/wait.ts'
import { recordRequests } from './fixtures.ts'

let github: GitHubStandIn
beforeAll(async () => {
  github = await startGitHub()
})
afterAll(() => github.stop())

const log = openLog('silent')
const tools = { log, paced: false }
const asApp = async (store: ReturnType<typeof openStore>) => {
  const { id: appId, privateKey } = github.app
  await store.repositories.setInstallation(github.repo, 100)
  const settings = { via: 'app', appId, privateKey, webhookSecret: WEBHOOK_SECRET, apiUrl: github.url } as const
  return openGitHub({ ...settings, repositories: [github.repo] }, { ...tools, repositories: store.repositories })
}
const asPerson = () =>
  openGitHub({ via: 'token', token: 'token-dev', repositories: [github.repo], apiUrl: github.url }, tools)

let branches = 0
/** A publisher, and a pull request of its own. */
const stage = async (open: (store: ReturnType<typeof openStore>) => ReturnType<typeof openGitHub> = asApp) => {
  let now = Date.now()
  const clock = () => now
  const store = openStore(':memory:', clock)
  const client = await open(store)
  const publisher = openPublisher({
    ...{ store, github: client, jira: null, webUrl: 'https://github.com', jiraUrl: null, clock, log },
  })
  onTestFinished(() => publisher.close())
  branches += 1
  await github.push(`drop-${branches}`)
  const number = await github.open(`drop-${branches}`, 'x')
  const published = () => until('an empty outbox', async () => (await store.counts()).outbox === 0)
  const replies = async () => {
    type Listed = { id: number; node_id: string; body: string }
    const path = `/repos/${github.repo}/issues/${number}/comments`
    const listed = (await github.api('dev', 'GET', path)) as unknown as Listed[]
    return listed.filter(({ body }) => body.startsWith('<!-- agent-swarm:reply'))
  }
  return {
    store,
    replies,
    published,
    /** Somebody gives commands that need no action, and the reply is published. */
    command: async (...commands: string[]) => {
      const commentId = await github.comment(number, commands.join('\n'))
      const comment = { repo: github.repo, number, commentId }
      await recordRequests(store, comment, commands)
      await store.outbox.put([replyMessage(comment)])
      publisher.nudge()
      return comment
    },
    later: (ms: number) => {
      now += ms
      publisher.nudge()
    },
    /** `shown`, `minimized` or `folded`, for each reply in its order. */
    states: async () =>
      (await replies()).map(({ node_id, body }) =>
        github.minimized.has(node_id) ? 'minimized' : body.includes('<details>') ? 'folded' : 'shown',
      ),
  }
}

test.for([
  ['an App', asApp],
  ['a token that may', asPerson],
] as const)('older replies of the same kind are minimized by %s; others stay', async ([, open]) => {
  const { command, published, states } = await stage(open)
  for (const line of ['/swarm help', '/swarm fly', '/swarm help']) {
    await command(line)
    await published()
  }
  expect(await states()).toEqual(['minimized', 'shown', 'shown'])
  await command('/swarm help', '/swarm fly')
  await published()
  expect(await states()).toEqual(['minimized', 'minimized', 'minimized', 'shown'])
  await command('/swarm help')
  await published()
  // A reply that also answers something else stays.
  expect((await states()).slice(3)).toEqual(['shown', 'shown'])
})

test.for(['no-rights', 'no-schema'] as const)(
  'where GitHub does not minimize (%s), the reply is folded',
  async answers => {
    github.graphql.answers = answers
    onTestFinished(() => {
      github.graphql.answers = 'as usual'
    })
    const { command, published, states, replies, store, later } = await stage()
    const first = await command('/swarm help')
    await published()
    const [before] = await replies()
    await command('/swarm help')
    await published()
    expect(await states()).toEqual(['folded', 'shown'])
    const [marker, summary] = (await replies())[0]?.body.split('\n') ?? []
    expect(marker).toBe(before?.body.split('\n')[0])
    expect(summary).toBe('<details><summary>Outdated: there is a newer reply.</summary>')
    expect((await replies())[0]?.body).toContain('| Command | What it does | Example |')

    // It stays as it is, whatever is put about it.
    await store.outbox.put([replyMessage(first)])
    later(10_000)
    await published()
    expect(await states()).toEqual(['folded', 'shown'])
  },
)

const notNow = {
  'GitHub is out of order': { status: 502 },
  'a query that went wrong at GitHub': {
    status: 200,
    body: { data: null, errors: [{ message: 'Something went wrong while executing your query.' }] },
  },
  'a limit': {
    status: 200,
    body: { errors: [{ type: 'RATE_LIMITED', message: 'API rate limit exceeded' }] },
    headers: { 'x-ratelimit-remaining': '4999' },
  },
}
test.for(Object.entries(notNow))('%s: it is tried again', async ([, answer]) => {
  const { command, published, states, store, later } = await stage()
  await command('/swarm help')
  await published()
  github.faults.push({ match: /^POST \/graphql/, answer })
  await command('/swarm help')
  await until('a postponed message', async () => {
    const { outbox } = await store.counts()
    return outbox > 0 && (await store.outbox.due(10)).length === 0
  })
  expect(await states()).toEqual(['shown', 'shown'])
  later(10 * 60_000)
  await published()
  expect(await states()).toEqual(['minimized', 'shown'])
})

test.for([
  ['it is gone', /^GET .*\/issues\/comments\/\d+$/, { status: 404 }],
  [
    'GraphQL does not know it',
    /^POST \/graphql/,
    {
      status: 200,
      body: {
        data: { minimizeComment: null },
        errors: [{ type: 'NOT_FOUND', path: ['minimizeComment'], message: 'no' }],
      },
    },
  ],
] as const)('an older reply that somebody deleted is left: %s', async ([, match, answer]) => {
  const { command, published, states } = await stage()
  await command('/swarm help')
  await published()
  github.faults.push({ match, answer: { ...answer } })
  await command('/swarm help')
  await published()
  expect(await states()).toEqual(['shown', 'shown'])
})
