/** From what arrives to what is queued: events, facts read again, handlers, settlement. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { type Desk, openDesk, tickets } from '../desk.ts'

let desk: Desk
let ticket = ''
let count = 0
/** Added to the clock of this process. */
let ahead = 0
beforeAll(async () => {
  desk = await openDesk({
    people: { dev: 'push', other: 'push', boss: 'admin', reader: 'pull', stranger: null },
    issues: tickets(60),
    clock: () => Date.now() + ahead,
  })
  await desk.caughtUp()
})
afterAll(() => desk.close())
/** A ticket that no other test uses. */
const fresh = () => {
  count += 1
  ticket = `DROP-${count}`
}
beforeEach(fresh)

const machine = (more: Parameters<Desk['machine']>[1] = {}) => desk.machine(ticket, more)
const states = () => desk.states(ticket)
const withoutCheckpoints = async () => (await states()).filter(state => !state.startsWith('checkpoint'))
const pullRequest = async (branch = `${ticket.toLowerCase()}-work`, title = 'work') => {
  await desk.github.push(branch)
  const number = await desk.github.open(branch, title)
  await desk.decided()
  return number
}
const lastMoveAt = () => desk.jira.issue(ticket)?.histories.at(-1)?.at ?? 0

test('a ticket that moves to In Progress gets a create', async () => {
  expect(await desk.jira.move(ticket, 'In Progress')).toBe(202)
  await desk.decided()
  const by = { via: 'jira', who: desk.jira.me.accountId, name: 'Dev', cause: 'ticket moved', movedTo: 'In Progress' }
  const create = { kind: 'create', project: { repo: 'acme/shop', branch: null, summary: 'a ticket' } }
  expect(await desk.actionsOf(ticket)).toEqual([
    { ...create, machine: {}, ticket, by, replyTo: null, at: new Date(lastMoveAt()).toISOString() },
  ])
  const [{ id = '' } = {}] = await desk.store.queue.list({ ticket })
  expect(await desk.store.requests.get(id)).toMatchObject({
    ...{ at: lastMoveAt(), by, person: false, place: ticket, command: null, ticket, what: 'create' },
    ...{ verdict: 'allowed', action: { kind: 'create' }, ended: null },
  })
})

test('the same delivery again has no second effect, and neither has another one about the same change', async () => {
  await desk.jira.move(ticket, 'In Progress', { send: false })
  const payload = desk.jira.payloadOf(ticket, [{ field: 'status' }])
  const id = randomUUID()
  await desk.jira.deliver(payload, id)
  await desk.decided()
  await desk.jira.deliver(payload, id)
  await desk.jira.deliver({ ...payload, timestamp: payload.timestamp + 1 })
  await desk.decided()
  expect(await states()).toEqual(['create pending'])
})

test('a move that was undone before it was read makes no machine', async () => {
  await desk.jira.move(ticket, 'In Progress', { send: false })
  const late = desk.jira.payloadOf(ticket, [{ field: 'status' }])
  await desk.jira.move(ticket, 'To Do', { send: false })
  await desk.jira.deliver(late)
  await desk.decided()
  expect(await states()).toEqual([])
})

test("somebody else's ticket gets no machine", async () => {
  await desk.jira.assign(ticket, 'somebody-else')
  await desk.jira.move(ticket, 'In Progress')
  await desk.decided()
  expect(await states()).toEqual([])
  await desk.jira.assign(ticket, desk.jira.me.accountId)
  await desk.decided()
  expect(await states()).toEqual(['create pending'])
})

test('with Jira down the event is enough for a create, and a stop waits until Jira can be read', async () => {
  desk.jira.setDown(true)
  await desk.jira.move(ticket, 'In Progress')
  expect(await desk.decided()).toEqual([])
  await machine()
  await desk.jira.move(ticket, 'To Do')
  expect(await desk.decided()).toHaveLength(1)
  expect(await states()).toEqual(['create pending'])
  desk.jira.setDown(false)
  await desk.decided()
  expect(await states()).toEqual(['create pending', 'stop pending'])
})

test('an issue that Jira does not show is stopped at most; the event of its deletion deletes', async () => {
  ticket = 'DROP-777'
  await machine()
  const payload = (webhookEvent: string) => ({
    webhookEvent,
    issue: { key: ticket, fields: { status: { statusCategory: { key: 'done' } }, assignee: desk.jira.me } },
    changelog: { items: [{ field: 'status' }] },
  })
  await desk.jira.deliver(payload('jira:issue_updated'))
  expect(await desk.decided()).toEqual([expect.stringContaining('Jira shows no such issue; asking again')])
  ahead += 61_000
  await desk.decided()
  expect(await states()).toEqual(['stop pending'])
  await desk.jira.deliver(payload('jira:issue_deleted'))
  await desk.decided()
  expect(await states()).toEqual(['stop pending', 'delete pending'])
})

test('an issue of a project that is not served costs no request', async () => {
  const before = desk.jira.requests.length
  const id = randomUUID()
  await desk.jira.deliver({ webhookEvent: 'jira:issue_created', issue: { key: 'OTHER-1', fields: {} } }, id)
  await desk.decided()
  expect(await desk.verdict(id)).toEqual({ verdict: 'ignored', reason: 'OTHER is not served here' })
  expect(desk.jira.requests.length).toBe(before)
})

test('an answer of Jira that is not JSON decides nothing, and the delivery is decided later', async () => {
  await machine()
  desk.jira.setDown('a page')
  await desk.jira.move(ticket, 'Done')
  expect(await desk.decided()).toHaveLength(1)
  expect(await states()).toEqual([])
  desk.jira.setDown(false)
  await desk.decided()
  expect(await states()).toEqual(['delete pending'])
})

test('a push to the branch of a running machine makes a checkpoint of that commit', async () => {
  await machine()
  const commit = await desk.github.push(`feature/${ticket.toLowerCase()}-x`)
  await desk.decided()
  expect(await desk.actionsOf(ticket)).toEqual([
    {
      ...{ kind: 'checkpoint', ticket, name: `push-${commit.slice(0, 7)}`, why: 'push', commit, replyTo: null },
      ...{ keep: { newest: 5, days: null }, by: { via: 'github', who: 'dev', cause: 'push' } },
    },
  ])
})

test('a merge deletes', async () => {
  await machine()
  await desk.github.merge(await pullRequest())
  await desk.decided()
  expect((await states()).at(-1)).toBe('delete pending')
})

test('a pending delete gives way to what somebody asks for after the merge', async () => {
  await machine()
  const number = await pullRequest()
  await desk.github.merge(number)
  await desk.decided()
  // GitHub's times are whole seconds, and a comment is younger than the merge by its own clock.
  const merged = Date.parse(String((await desk.github.pull(number)).closed_at))
  const comment = async (body: string) => {
    const payload = { ...(await desk.github.issueOf(number)) }
    const id = await desk.github.comment(number, 'talk')
    const written = await desk.github.api('dev', 'GET', `/repos/${desk.github.repo}/issues/comments/${id}`)
    const created_at = new Date(merged + 2_000).toISOString()
    await desk.github.deliver('issue_comment', {
      ...{ action: 'created', issue: payload, comment: { ...written, body, created_at } },
      ...(await desk.github.common('dev')),
    })
    await desk.decided()
  }
  ahead += 5_000
  await comment('/swarm status')
  expect((await states()).slice(-2)).toEqual(['delete pending', 'status pending'])
  await comment('/swarm stop')
  expect((await states()).slice(-3)).toEqual(['delete cancelled', 'status pending', 'stop pending'])
  // A person's own commands keep their order.
  await comment('/swarm delete')
  await comment('/swarm create')
  expect((await states()).slice(-2)).toEqual(['delete pending', 'create pending'])
  ahead = 0
})

test('a ticket that is taken back from done before its runner hears of it keeps its machine', async () => {
  await machine()
  await desk.jira.move(ticket, 'Done')
  await desk.decided()
  const done = lastMoveAt()
  while (Date.now() <= done) await new Promise(resolve => setImmediate(resolve))
  await desk.jira.move(ticket, 'To Do')
  await desk.jira.move(ticket, 'In Progress')
  await desk.decided()
  expect(await states()).toEqual(['delete cancelled', 'create pending'])
})

test('a merge while the create still waits deletes after it', async () => {
  await desk.jira.move(ticket, 'In Progress')
  await desk.github.merge(await pullRequest())
  await desk.decided()
  expect(await states()).toEqual(['create pending', 'delete pending'])
})

test('after the merge, In Review makes no new machine; by way of To Do it does', async () => {
  await desk.jira.move(ticket, 'In Progress', { send: false })
  await desk.github.merge(await pullRequest())
  await desk.decided()
  await desk.jira.move(ticket, 'In Review')
  await desk.decided()
  expect(await states()).toEqual([])
  await desk.jira.move(ticket, 'To Do')
  await desk.jira.move(ticket, 'In Progress')
  await desk.decided()
  expect(await states()).toEqual(['create pending'])
})

test('another open pull request of the ticket keeps the machine, whether it is known or not', async () => {
  await machine()
  const first = await pullRequest(`${ticket}-one`)
  const second = await pullRequest(`${ticket}-two`)
  // No webhook reported this one: only the list of the repository has it.
  await desk.github.push(`other-${count}`)
  const third = (await desk.github.api('acme', 'POST', `/repos/${desk.github.repo}/pulls`, {
    ...{ title: `quiet ${ticket}`, head: `other-${count}`, base: 'main', body: '' },
  })) as { number: number }
  await desk.github.merge(first)
  await desk.github.close(second)
  await desk.decided()
  expect(await withoutCheckpoints()).toEqual([])
  await desk.github.merge(third.number)
  await desk.decided()
  expect(await withoutCheckpoints()).toEqual(['delete pending'])
})

test('an open pull request that GitHub no longer shows keeps the machine', async () => {
  await machine({ status: 'stopped' })
  const first = await pullRequest(`a-${ticket}`)
  const link = { number: 1, ticket, branch: `b-${ticket}`, state: 'open', closedAt: null } as const
  // The installation on one was revoked, and nobody reported the one on the other.
  await desk.store.pullRequests.link({ ...link, repo: 'acme/revoked' })
  await desk.store.pullRequests.link({ ...link, repo: 'acme/never-reported' })
  await desk.store.repositories.setInstallation('acme/revoked', 1)
  await desk.github.merge(first)
  await desk.decided()
  expect(await desk.verdict(desk.github.deliveries.at(-1)?.guid ?? '')).toMatchObject({
    verdict: 'ignored',
    reason: expect.stringMatching(/another open pull request/),
  })
  expect(await states()).toEqual([])
})

test('a stranger who closes and opens a fork costs one request, however many pull requests are open', async () => {
  await machine()
  const number = await pullRequest('a-fork', `for ${ticket}`)
  desk.github.forks.set(number, 'a'.repeat(40))
  const before = desk.github.requests.length
  await desk.github.close(number)
  await desk.decided()
  const requests = desk.github.requests.slice(before).map(({ method, path }) => `${method} ${path.split('?')[0]}`)
  expect(requests.filter(request => request.includes('/pulls'))).toEqual([`GET /repos/acme/shop/pulls/${number}`])
  expect(await states()).toEqual([])
})

test('a pull request that is closed unmerged stops, and reopening it starts', async () => {
  await machine()
  const number = await pullRequest(`x-${ticket}`)
  await desk.github.close(number)
  await desk.decided()
  await desk.github.reopen(number)
  await desk.decided()
  expect(await withoutCheckpoints()).toEqual(['stop pending', 'start pending'])
})

/** An event as GitHub sends it before its API shows the same. */
const early = async (number: number, action: string, more: object) => {
  const pull = await desk.github.pull(number)
  const id = randomUUID()
  const payload = { action, number, pull_request: { ...pull, ...more }, ...(await desk.github.common('dev')) }
  await desk.github.deliver('pull_request', payload, id)
  return id
}

test('a merge that the API does not show yet is asked for again, and deletes', async () => {
  await machine({ status: 'stopped' })
  const number = await pullRequest()
  await early(number, 'closed', { state: 'closed', merged: true })
  expect(await desk.decided()).toEqual([
    `reading acme/shop#${number}: it was merged, and GitHub says that it is open; asking again`,
  ])
  expect(await states()).toEqual([])
  await desk.github.api('acme', 'PUT', `/repos/acme/shop/pulls/${number}/merge`, {})
  expect(await desk.decided()).toEqual([])
  expect(await states()).toEqual(['delete pending'])
})

test('a pull request that the API does not show yet is asked for again; its commands too', async () => {
  await machine()
  await desk.github.push(`${ticket}-new`)
  const number = await desk.github.open(`${ticket}-new`, 'x')
  const gone = { match: new RegExp(`^GET /repos/acme/shop/pulls/${number}$`), answer: { status: 404 } }
  desk.github.faults.push(gone)
  expect(await desk.decided()).toEqual([
    expect.stringContaining('it was opened, and GitHub shows no such pull request'),
  ])
  expect(await desk.decided()).toEqual([])
  expect(await desk.store.pullRequests.ofTicket(ticket)).toMatchObject([{ number }])
  await desk.github.comment(number, '/swarm status')
  desk.github.faults.push(gone)
  expect(await desk.decided()).toEqual([expect.stringContaining('somebody commented there')])
  expect(await desk.decided()).toEqual([])
  expect(await withoutCheckpoints()).toEqual(['status pending'])
})

test('after a minute, the answer of the API counts', async () => {
  await machine({ status: 'stopped' })
  const number = await pullRequest()
  const id = await early(number, 'closed', { state: 'closed', merged: true })
  expect(await desk.decided()).toHaveLength(1)
  ahead += 61_000
  expect(await desk.decided()).toEqual([])
  expect(await desk.verdict(id)).toEqual({ verdict: 'ignored', reason: 'the pull request is open again' })
  expect(await states()).toEqual([])
})

test('an answer that is newer than the event counts at once', async () => {
  await machine({ status: 'stopped' })
  const number = await pullRequest()
  await early(number, 'closed', { state: 'closed', updated_at: '2020-01-01T00:00:00Z' })
  expect(await desk.decided()).toEqual([])
  expect(await states()).toEqual([])
})

test('a branch that is renamed closes its pull request, and the one that is opened then starts the machine', async () => {
  await machine()
  const number = await pullRequest(`${ticket}-old`)
  await desk.github.close(number)
  await desk.decided()
  await desk.github.push(`${ticket}-new`)
  await desk.github.open(`${ticket}-new`, 'work')
  await desk.decided()
  expect(await withoutCheckpoints()).toEqual(['stop pending', 'start pending'])
})

test('a machine that somebody stopped by hand stays stopped when another pull request is opened', async () => {
  await machine()
  const number = await pullRequest(`${ticket}-old`)
  await desk.github.comment(number, '/swarm stop')
  await desk.decided()
  await pullRequest(`${ticket}-new`)
  expect(await withoutCheckpoints()).toEqual(['stop pending'])
})

test("the merge of a bot's branch or of one that only quotes the ticket deletes nothing, and links nothing", async () => {
  await machine()
  for (const branch of [`revert-7-${ticket}`, `dependabot/npm/${ticket}`, `renovate/${ticket}-x`, `core-${ticket}.1`]) {
    const number = await pullRequest(branch, branch.startsWith('core') ? `Bump ${ticket}.2` : `Revert ${ticket}`)
    await desk.github.merge(number)
  }
  await desk.github.push(`gh-readonly-queue/main/pr-1-${ticket}`)
  await desk.decided()
  expect(await states()).toEqual([])
  expect(await desk.store.pullRequests.ofTicket(ticket)).toEqual([])
})

test.for([
  ['a server error', { status: 502 }],
  ['a connection that breaks', 'cut'],
  ['a secondary limit', { status: 403, headers: { 'retry-after': '1' }, body: { message: 'secondary rate limit' } }],
] as const)('a merge that cannot be read again because of %s waits, and deletes later', async ([, answer]) => {
  await machine({ status: 'stopped' })
  const number = await pullRequest()
  desk.github.faults.push({ match: new RegExp(`^GET /repos/acme/shop/pulls/${number}$`), answer })
  await desk.github.merge(number)
  expect(await desk.decided()).toHaveLength(1)
  expect(await states()).toEqual([])
  await desk.decided()
  expect(await states()).toEqual(['delete pending'])
})

test('done deletes only a ticket that never had a pull request', async () => {
  await machine()
  await desk.jira.move(ticket, 'Done')
  await desk.decided()
  expect(await states()).toEqual(['delete pending'])
  fresh()
  await machine()
  await pullRequest(`y-${ticket}`)
  await desk.jira.move(ticket, 'Done')
  await desk.decided()
  expect((await states()).at(-1)).toBe('stop pending')
})

test.for([
  ['boss', ['restore pending']],
  ['dev', ['restore pending']],
  ['reader', []],
  ['stranger', []],
] as [string, string[]][])('/swarm restore by %s', async ([login, expected]) => {
  const number = await pullRequest()
  const commentId = await desk.github.comment(number, '/swarm restore before', login)
  await desk.decided()
  expect(await states()).toEqual(expected)
  expect((await desk.actionsOf(ticket)).map(({ replyTo }) => replyTo)).toEqual(
    expected.map(() => ({ repo: 'acme/shop', number, commentId, line: 0 })),
  )
  const [request] = await desk.store.requests.audit(ticket, 1)
  expect(request).toMatchObject({
    ...{ by: { via: 'github', who: login }, person: true, place: `acme/shop#${number}`, ticket },
    ...{ what: '/swarm restore before', verdict: expected.length === 0 ? 'refused' : 'allowed' },
  })
  // A stranger gets no answer.
  expect((await desk.store.requests.history(ticket, 5)).length).toBe(0)
})

test("talk costs no request, and a stranger's comment brings nothing that is shown up to date", async () => {
  await machine()
  const number = await pullRequest()
  const shown = async () => (await desk.messages()).length
  const before = { requests: desk.github.requests.length, shown: await shown() }
  // The repository's file is due to be read again.
  ahead += 60 * 60_000
  await desk.github.comment(number, 'Looks good to me.', 'stranger')
  const requests = desk.github.requests.length
  await desk.decided()
  expect(desk.github.requests.slice(requests)).toEqual([])
  expect(await shown()).toBe(before.shown)
})

test('each line of a comment is one request, with its answer or its action', async () => {
  const number = await pullRequest()
  const commentId = await desk.github.comment(number, '/swarm help\n/swarm fly\n/swarm stop', 'dev')
  await desk.decided()
  const requests = await desk.store.requests.ofComment({ repo: 'acme/shop', number, commentId })
  expect(
    requests.map(({ command, what, verdict, answer, ended }) => [
      ...[command?.line, what, verdict, answer?.help ?? null, ended?.ok ?? null],
    ]),
  ).toEqual([
    [0, '/swarm help', 'answered', true, true],
    [1, '/swarm fly', 'answered', true, false],
    [2, '/swarm stop', 'allowed', null, null],
  ])
})

test('a page in place of GitHub refuses nobody: the command is decided when GitHub answers', async () => {
  const number = await pullRequest()
  // What another test read about dev is remembered for ten minutes.
  desk.github.faults.push({
    match: /^GET \/repos\/acme\/shop\/collaborators\/other\/permission$/,
    answer: { status: 200, headers: { 'content-type': 'text/html' }, body: 'Log in' },
  })
  await desk.github.comment(number, '/swarm restore before', 'other')
  expect(await desk.decided()).toHaveLength(1)
  await desk.decided()
  expect(await states()).toEqual(['restore pending'])
})

test('talk is not a command, and costs no request', async () => {
  const number = await pullRequest()
  const before = desk.github.requests.length
  await desk.github.comment(number, 'Please use `/swarm delete` when you are done.')
  await desk.decided()
  expect(desk.github.requests.slice(before).filter(({ path }) => /permission|pulls/.test(path))).toEqual([])
  expect(await states()).toEqual([])
})

test('an event that is not handled is ignored, with the reason', async () => {
  const id = randomUUID()
  const star = { action: 'created', starred_at: '2026-11-24T09:00:00Z', ...(await desk.github.common('dev')) }
  expect(await desk.github.deliver('star', star, id)).toBe(202)
  await desk.decided()
  expect(await desk.verdict(id)).toEqual({ verdict: 'ignored', reason: 'the event star is not handled' })
})

test('a repository that was renamed or moved is the same one, and one with its old name is another', async () => {
  await machine()
  const number = await pullRequest()
  const { store, github } = desk
  const { repo } = github
  const statusComment = { side: 'github', kind: 'status', number: 900, about: ticket } as const
  // Its name when the pull request was opened, reached by an installation that no longer exists.
  await store.repositories.setInstallation('old-owner/shop', 1)
  await store.pullRequests.link({ repo: 'old-owner/shop', number, ticket, branch: 'x', state: 'open', closedAt: null })
  await store.comments.set({ ...statusComment, repo: 'old-owner/shop' }, '5', 'x')
  await store.cursors.set('github:old-owner/shop', { began: 'then' })
  const { id } = (await github.api('dev', 'GET', `/repos/${repo}`)) as { id: number }
  // It has its present name since the first delivery.
  await store.repositories.rename(id, 'old-owner/shop')
  await github.merge(number)
  await desk.decided()
  expect(await states()).toContain('delete pending')
  const links = await store.pullRequests.ofTicket(ticket)
  expect(links.map(link => `${link.repo}#${link.number}`)).toEqual([`${repo}#${number}`])
  expect((await store.comments.get({ ...statusComment, repo }))?.id).toBe('5')
  expect(await store.cursors.get('github:old-owner/shop')).toBeNull()
  expect(await store.cursors.get(`github:${repo}`)).toEqual({ began: 'then' })

  const other = { repo: 'acme/tools', number: 1, ticket: 'DROP-99' }
  await store.pullRequests.link({ ...other, branch: 'x', state: 'open', closedAt: null })
  await store.repositories.rename(1_000_001, 'acme/tools')
  await store.repositories.rename(1_000_002, 'acme/tools')
  expect(await store.pullRequests.ofTicket('DROP-99')).toEqual([])
})
