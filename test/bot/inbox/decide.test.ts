import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openMemory } from '../../../src/store/sqlite/memory.ts'
import { until } from '../../support/wait.ts'
import { environmentOf, openStage, type Stage } from '../stage.ts'

let stage: Stage
let ticket = ''
let next = 0
beforeAll(async () => {
  stage = await openStage({
    people: { dev: 'push', boss: 'admin', reader: 'pull', stranger: null },
    issues: Object.fromEntries(Array.from({ length: 30 }, (_, n) => [`DROP-${n + 1}`, 'a ticket'])),
  })
})
afterAll(() => stage.close())
beforeAll(() => stage.caughtUp())
/** A ticket that no other test uses. */
const fresh = () => {
  next += 1
  ticket = `DROP-${next}`
  return ticket
}
const known: ReturnType<typeof environmentOf>[] = []
/** The runner has a machine for it. */
const machine = async (more: Parameters<typeof environmentOf>[1] = {}) => {
  known.push(environmentOf(ticket, more))
  expect((await stage.heartbeat(known)).ok).toBe(true)
}
const pullRequest = async (branch = `${ticket.toLowerCase()}-work`, title = 'work') => {
  await stage.github.push(branch)
  const number = await stage.github.open(branch, title)
  await stage.decided()
  return number
}

test('a ticket that moves to In Progress gets a create', async () => {
  fresh()
  expect(await stage.jira.move(ticket, 'In Progress')).toBe(202)
  await stage.decided()
  expect(stage.actionsOf(ticket).map(one => one.action)).toEqual([
    {
      ...{ kind: 'create', machine: {}, ticket, by: { via: 'jira', who: stage.jira.me.accountId }, replyTo: null },
      at: new Date(stage.jira.issue(ticket)?.histories.at(-1)?.at ?? 0).toISOString(),
    },
  ])
})

test('the same delivery again has no second effect, and neither has another of the same news', async () => {
  fresh()
  await stage.jira.move(ticket, 'In Progress', { send: false })
  const payload = stage.jira.payloadOf(ticket, [{ field: 'status' }])
  const id = randomUUID()
  await stage.jira.deliver(payload, id)
  await stage.decided()
  await stage.jira.deliver(payload, id)
  await stage.jira.deliver({ ...payload, timestamp: payload.timestamp + 1 })
  await stage.decided()
  expect(stage.told(ticket)).toEqual(['create pending'])
})

test('a move that was undone before it was read makes no machine', async () => {
  fresh()
  await stage.jira.move(ticket, 'In Progress', { send: false })
  const late = stage.jira.payloadOf(ticket, [{ field: 'status' }])
  await stage.jira.move(ticket, 'To Do', { send: false })
  await stage.jira.deliver(late)
  await stage.decided()
  expect(stage.told(ticket)).toEqual([])
})

test("somebody else's ticket gets no machine", async () => {
  fresh()
  await stage.jira.assign(ticket, 'somebody-else')
  await stage.jira.move(ticket, 'In Progress')
  await stage.decided()
  expect(stage.told(ticket)).toEqual([])
  await stage.jira.assign(ticket, stage.jira.me.accountId)
  await stage.decided()
  expect(stage.told(ticket)).toEqual(['create pending'])
})

test('with Jira down a create goes by the event, and a stop waits until Jira can be asked', async () => {
  fresh()
  stage.jira.setDown(true)
  await stage.jira.move(ticket, 'In Progress')
  await until('the create', () => stage.told(ticket).length > 0)
  await machine()
  await stage.jira.move(ticket, 'To Do')
  await until('the postponed delivery', () => stage.postponed().length > 0)
  expect(stage.told(ticket)).toEqual(['create pending'])
  stage.jira.setDown(false)
  await stage.decided()
  expect(stage.told(ticket)).toEqual(['create pending', 'stop pending'])
})

test('an issue that Jira does not show us stops its machine at most; one whose deletion is told goes with it', async () => {
  ticket = 'DROP-777'
  await machine()
  const news = (webhookEvent: string, category: string) => ({
    webhookEvent,
    issue: { key: ticket, fields: { status: { statusCategory: { key: category } }, assignee: stage.jira.me } },
    changelog: { items: [{ field: 'status' }] },
  })
  await stage.jira.deliver(news('jira:issue_updated', 'done'))
  await stage.decided()
  expect(stage.told(ticket)).toEqual(['stop pending'])
  await stage.jira.deliver(news('jira:issue_deleted', 'done'))
  await stage.decided()
  expect(stage.told(ticket)).toEqual(['stop pending', 'delete pending'])
})

test('an issue of another project is nothing to us, and nobody is asked about it', async () => {
  const before = stage.jira.asked.length
  const id = randomUUID()
  await stage.jira.deliver({ webhookEvent: 'jira:issue_created', issue: { key: 'OTHER-1', fields: {} } }, id)
  expect(await stage.verdict(id)).toEqual({ verdict: 'ignored', reason: 'OTHER is no project of ours' })
  expect(stage.jira.asked.length).toBe(before)
})

test('a push to the branch of a running machine asks for a checkpoint of that commit', async () => {
  fresh()
  await machine()
  const commit = await stage.github.push(`feature/${ticket.toLowerCase()}-x`)
  await stage.decided()
  expect(stage.actionsOf(ticket).map(one => one.action)).toEqual([
    {
      keep: { newest: 5, days: null },
      kind: 'checkpoint',
      ticket,
      name: `push-${commit.slice(0, 7)}`,
      why: 'push',
      commit,
      by: { via: 'github', who: 'dev' },
      replyTo: null,
    },
  ])
})

test('a merge deletes', async () => {
  fresh()
  await machine()
  const number = await pullRequest()
  await stage.github.merge(number)
  await stage.decided()
  expect(stage.told(ticket).at(-1)).toBe('delete pending')
})

test('a delete that waits for its runner gives way to what somebody asks for after the merge', async () => {
  fresh()
  await machine()
  const number = await pullRequest()
  await stage.github.merge(number)
  await stage.decided()
  const merged = Date.now()
  await until('another second', () => Date.now() > merged + 1_000)
  await stage.github.comment(number, '/swarm status')
  await stage.decided()
  expect(stage.told(ticket).slice(-2)).toEqual(['delete pending', 'status pending'])
  await stage.github.comment(number, '/swarm stop')
  await stage.decided()
  expect(stage.told(ticket).slice(-3)).toEqual(['delete cancelled', 'status pending', 'stop pending'])
  // What a person asked for keeps its order.
  await stage.github.comment(number, '/swarm delete')
  await stage.github.comment(number, '/swarm create')
  await stage.decided()
  expect(stage.told(ticket).slice(-2)).toEqual(['delete pending', 'create pending'])
})

test('a ticket that is taken back from done before its runner hears of it keeps its machine', async () => {
  fresh()
  await machine()
  await stage.jira.move(ticket, 'Done')
  await stage.decided()
  const done = stage.jira.issue(ticket)?.histories.at(-1)?.at ?? 0
  await until('a later moment', () => Date.now() > done)
  await stage.jira.move(ticket, 'To Do')
  await stage.jira.move(ticket, 'In Progress')
  await stage.decided()
  expect(stage.told(ticket)).toEqual(['delete cancelled', 'create pending'])
})

test('a merge that comes while the create still waits deletes after it', async () => {
  fresh()
  await stage.jira.move(ticket, 'In Progress')
  const number = await pullRequest()
  await stage.github.merge(number)
  await stage.decided()
  expect(stage.told(ticket)).toEqual(['create pending', 'delete pending'])
})

test('after the merge, In Review makes no new machine; after a way back to To Do it does', async () => {
  fresh()
  const number = await pullRequest()
  await stage.github.merge(number)
  await stage.decided()
  await stage.jira.move(ticket, 'In Review')
  await stage.decided()
  expect(stage.told(ticket)).toEqual([])
  await stage.jira.move(ticket, 'To Do')
  await stage.jira.move(ticket, 'In Progress')
  await stage.decided()
  expect(stage.told(ticket)).toEqual(['create pending'])
})

test('another open pull request of the ticket keeps the machine, seen before or not', async () => {
  fresh()
  await machine()
  const first = await pullRequest(`${ticket}-one`)
  const second = await pullRequest(`${ticket}-two`)
  // One that no webhook told of: only the list of the repository has it.
  await stage.github.push(`other-${next}`)
  const third = (await stage.github.api('acme', 'POST', `/repos/${stage.github.repo}/pulls`, {
    title: `quiet ${ticket}`,
    head: `other-${next}`,
    base: 'main',
    body: '',
  })) as { number: number }
  const asked = () => stage.told(ticket).filter(one => !one.startsWith('checkpoint'))
  await stage.github.merge(first)
  await stage.github.close(second)
  await stage.decided()
  expect(asked()).toEqual([])
  await stage.github.merge(third.number)
  await stage.decided()
  expect(asked()).toEqual(['delete pending'])
})

test('an open pull request that we can no longer see keeps the machine: that it is not shown is no evidence', async () => {
  fresh()
  await machine({ status: 'stopped' })
  const first = await pullRequest(`a-${ticket}`)
  const memory = openMemory(join(stage.home, 'memory.db'), Date.now)
  const link = { number: 1, ticket, branch: `b-${ticket}`, state: 'open', closedAt: null } as const
  // Its installation on one was taken back, and nobody told of one on the other.
  memory.link({ ...link, repo: 'acme/taken-back' })
  memory.link({ ...link, repo: 'acme/never-told' })
  memory.setInstallation('acme/taken-back', 1)
  memory.close()
  const reason = async () => {
    await stage.decided()
    return stage.verdict(stage.github.deliveries.at(-1)?.guid ?? '')
  }
  await stage.github.merge(first)
  expect(await reason()).toMatchObject({
    verdict: 'ignored',
    reason: expect.stringMatching(/another open pull request/),
  })
  expect(stage.told(ticket)).toEqual([])
})

test('a stranger who closes and opens a fork costs one request, however many pull requests are open', async () => {
  fresh()
  await machine()
  const number = await pullRequest('a-fork', `for ${ticket}`)
  stage.github.forks.set(number, 'a'.repeat(40))
  const before = stage.github.asked.length
  await stage.github.close(number)
  await stage.decided()
  const asked = stage.github.asked.slice(before).map(one => `${one.method} ${one.path.split('?')[0]}`)
  expect(asked.filter(one => one.includes('/pulls'))).toEqual([`GET /repos/acme/shop/pulls/${number}`])
  expect(stage.told(ticket)).toEqual([])
})

test('an answer of Jira that is no JSON decides nothing: what waits on it is decided afterwards', async () => {
  fresh()
  await machine()
  stage.jira.setDown('a page')
  await stage.jira.move(ticket, 'Done')
  await until('the postponed delivery', () => stage.postponed().length > 0)
  expect(stage.told(ticket)).toEqual([])
  stage.jira.setDown(false)
  await stage.decided()
  expect(stage.told(ticket)).toEqual(['delete pending'])
})

test('a pull request that is closed unmerged stops, and reopened starts', async () => {
  fresh()
  await machine()
  const number = await pullRequest(`x-${ticket}`)
  await stage.github.close(number)
  await stage.decided()
  await stage.github.reopen(number)
  await stage.decided()
  expect(stage.told(ticket).filter(one => !one.startsWith('checkpoint'))).toEqual(['stop pending', 'start pending'])
})

test('a close that is over when it is read asks for nothing', async () => {
  fresh()
  await machine({ status: 'stopped' })
  const number = await pullRequest()
  const pull = await stage.github.pull(number)
  await stage.github.deliver('pull_request', {
    action: 'closed',
    number,
    pull_request: { ...pull, state: 'closed', merged: true },
    ...(await stage.github.common('dev')),
  })
  await stage.decided()
  expect(stage.told(ticket)).toEqual([])
})

test.for([
  ['a server error', { status: 502 }],
  ['a connection that breaks', 'cut'],
  ['a secondary limit', { status: 403, headers: { 'retry-after': '1' }, body: { message: 'secondary rate limit' } }],
] as const)('a merge that cannot be read again because of %s waits, and deletes later', async ([, answer]) => {
  fresh()
  await machine({ status: 'stopped' })
  const number = await pullRequest()
  stage.github.faults.push({ match: new RegExp(`^GET /repos/acme/shop/pulls/${number}$`), answer })
  await stage.github.merge(number)
  await until('the postponed delivery', () => stage.postponed().length > 0)
  expect(stage.told(ticket)).toEqual([])
  await stage.decided()
  expect(stage.told(ticket)).toEqual(['delete pending'])
})

test('done deletes only a ticket that never had a pull request', async () => {
  fresh()
  await machine()
  await stage.jira.move(ticket, 'Done')
  await stage.decided()
  expect(stage.told(ticket)).toEqual(['delete pending'])
  fresh()
  await machine()
  await pullRequest(`y-${ticket}`)
  await stage.jira.move(ticket, 'Done')
  await stage.decided()
  expect(stage.told(ticket).at(-1)).toBe('stop pending')
})

test.for([
  ['boss', ['restore pending']],
  ['dev', ['restore pending']],
  ['reader', []],
  ['stranger', []],
] as [string, string[]][])('/swarm restore by %s', async ([login, expected]) => {
  fresh()
  const number = await pullRequest()
  const commentId = await stage.github.comment(number, '/swarm restore before', login)
  await stage.decided()
  expect(stage.told(ticket)).toEqual(expected)
  expect(stage.actionsOf(ticket).map(one => one.action.replyTo)).toEqual(
    expected.map(() => ({ repo: 'acme/shop', number, commentId, line: 0 })),
  )
})

test('a page in place of GitHub refuses nobody: the command is done when GitHub answers', async () => {
  fresh()
  const number = await pullRequest()
  stage.github.faults.push({
    match: /^GET \/repos\/acme\/shop\/collaborators\/dev\/permission$/,
    answer: { status: 200, headers: { 'content-type': 'text/html' }, body: 'Log in' },
  })
  await stage.github.comment(number, '/swarm restore before')
  await until('the postponed delivery', () => stage.postponed().length > 0)
  await stage.decided()
  expect(stage.told(ticket)).toEqual(['restore pending'])
})

test('talk is no command, and asks GitHub nothing', async () => {
  fresh()
  const number = await pullRequest()
  const before = stage.github.asked.length
  await stage.github.comment(number, 'Please use `/swarm delete` when you are done.')
  await stage.decided()
  expect(stage.github.asked.slice(before).filter(one => /permission|pulls/.test(one.path))).toEqual([])
  expect(stage.told(ticket)).toEqual([])
})

test('an event that means nothing to us is ignored, with its reason', async () => {
  const id = randomUUID()
  const star = { action: 'created', starred_at: '2026-11-24T09:00:00Z', ...(await stage.github.common('dev')) }
  expect(await stage.github.deliver('star', star, id)).toBe(202)
  expect((await stage.verdict(id)).verdict).toBe('ignored')
})

test('a repository that was renamed or moved is the same one, and one that has its old name is another', async () => {
  fresh()
  await machine()
  const number = await pullRequest()
  const { repo } = stage.github
  const memory = openMemory(join(stage.home, 'memory.db'), Date.now)
  // As it was called when the pull request was seen first, by an installation that no longer reaches it.
  memory.setInstallation('old-owner/shop', 1)
  memory.link({ repo: 'old-owner/shop', number, ticket, branch: 'x', state: 'open', closedAt: null })
  memory.setComment({ kind: 'status', repo: 'old-owner/shop', number: 900, about: ticket }, 5, 'x')
  memory.setPlace('github:old-owner/shop', { began: 'then' })
  const asked = await fetch(`${stage.github.url}/repos/${repo}`, { headers: { authorization: 'Bearer token-dev' } })
  const { id } = (await asked.json()) as { id: number }
  // It is called so since the first delivery of this stage.
  memory.nameRepository(id, 'old-owner/shop')
  await stage.github.merge(number)
  await stage.decided()
  expect(stage.told(ticket)).toContain('delete pending')
  expect(memory.pullRequestsOf(ticket).map(one => `${one.repo}#${one.number}`)).toEqual([`${repo}#${number}`])
  expect(memory.comment({ kind: 'status', repo, number: 900, about: ticket })?.id).toBe(5)
  expect(memory.place('github:old-owner/shop')).toBeNull()
  expect(memory.place(`github:${repo}`)).toEqual({ began: 'then' })

  memory.link({ repo: 'acme/tools', number: 1, ticket: 'DROP-99', branch: 'x', state: 'open', closedAt: null })
  memory.nameRepository(1_000_001, 'acme/tools')
  memory.nameRepository(1_000_002, 'acme/tools')
  expect(memory.pullRequestsOf('DROP-99')).toEqual([])
  memory.close()
})
