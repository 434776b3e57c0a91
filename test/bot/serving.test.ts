/**
 * Two repositories of one App: acme/shop serves DROP, acme/site serves WEB. Everything that somebody who owns acme/site tries
 * against the tickets of DROP.
 */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { checkFork } from '../../src/bot/github/fork.ts'
import { openGitHub } from '../../src/bot/github/open.ts'
import { openGitHubPoll } from '../../src/bot/github/poll.ts'
import { openLog } from '../../src/log.ts'
import { type Desk, openDesk, tickets } from './desk.ts'

const OTHER = 'acme/site'
const SPARE = 'acme/spare'
let desk: Desk
beforeAll(async () => {
  desk = await openDesk({
    people: { dev: 'push', mallory: 'admin' },
    issues: { ...tickets(9), 'WEB-1': 'web' },
    more: ['site', 'spare'],
    repositories: ['acme/shop', OTHER],
    projects: ['DROP:acme/shop', `WEB:${OTHER}`],
  })
  await desk.caughtUp()
  for (const ticket of ['DROP-1', 'DROP-2', 'WEB-1']) await desk.machine(ticket)
  await desk.machine('DROP-3', { status: 'stopped' })
})
afterAll(() => desk.close())

const { api, common } = {
  api: (...given: Parameters<Desk['github']['api']>) => desk.github.api(...given),
  common: () => desk.github.common('mallory'),
}
const repository = (full: string) => api('acme', 'GET', `/repos/${full}`)
/** An event of another repository, as GitHub sends it. */
const send = async (full: string, event: string, payload: object) => {
  const id = randomUUID()
  await desk.github.deliver(event, { ...payload, ...(await common()), repository: await repository(full) }, id)
  await desk.decided()
  return desk.verdict(id)
}
/** Pushes a branch of another repository, without its event. */
const branch = async (full: string, name: string) => {
  const main = (await api('acme', 'GET', `/repos/${full}/git/ref/heads/main`)) as { object: { sha: string } }
  await api('acme', 'POST', `/repos/${full}/git/refs`, { ref: `refs/heads/${name}`, sha: main.object.sha })
  const content = Buffer.from(name).toString('base64')
  const path = `/repos/${full}/contents/${encodeURIComponent(name)}.txt`
  const { commit } = (await api('acme', 'PUT', path, { message: name, content, branch: name })) as unknown as {
    commit: { sha: string }
  }
  return commit.sha
}
const open = async (full: string, name: string, title: string) => {
  await branch(full, name)
  const pull = { title, head: name, base: 'main', body: 'DROP-1' }
  const { number } = (await api('mallory', 'POST', `/repos/${full}/pulls`, pull)) as { number: number }
  return number
}
const pullEvent = async (full: string, action: string, number: number) =>
  send(full, 'pull_request', {
    action,
    number,
    pull_request: await api('acme', 'GET', `/repos/${full}/pulls/${number}`),
  })
const comment = async (full: string, number: number, body: string) => {
  const written = await api('mallory', 'POST', `/repos/${full}/issues/${number}/comments`, { body })
  const { pull_request: _, ...issue } = { ...(await desk.github.issueOf(1)), number, pull_request: null }
  const url = `https://api.github.com/repos/${full}/pulls/${number}`
  const links = { url, html_url: url, diff_url: url, patch_url: url }
  return send(full, 'issue_comment', { action: 'created', issue: { ...issue, pull_request: links }, comment: written })
}
const push = async (full: string, name: string, after: string) => {
  const last = desk.github.deliveries.findLast(({ event }) => event === 'push')?.payload as object
  return send(full, 'push', { ...last, ref: `refs/heads/${name}`, after })
}
/** Everything that happened to tickets of DROP. */
const dropActions = async () =>
  (await desk.store.queue.list()).map(({ action }) => action).filter(({ ticket }) => ticket.startsWith('DROP'))

test('the repository that serves the project acts on its tickets', async () => {
  await desk.github.push('drop-2-x')
  const number = await desk.github.open('drop-2-x', 'x')
  await desk.decided()
  expect(await desk.store.pullRequests.ofTicket('DROP-2')).toMatchObject([{ repo: 'acme/shop', number }])
  expect(await dropActions()).toMatchObject([{ kind: 'checkpoint', ticket: 'DROP-2' }])
})

test('so does the other one on tickets of its own project', async () => {
  await push(OTHER, 'web-1-pushed', await branch(OTHER, 'web-1-pushed'))
  const number = await open(OTHER, 'web-1-x', 'x')
  await pullEvent(OTHER, 'opened', number)
  await comment(OTHER, number, '/swarm stop')
  expect(await desk.states('WEB-1')).toEqual(['checkpoint pending', 'stop pending'])
})

for (const repo of [OTHER, SPARE])
  test(`${repo} can neither link, command, checkpoint, start, stop nor delete them`, async () => {
    const before = await dropActions()
    const sha = await branch(repo, 'drop-1-pushed')
    await push(repo, 'drop-1-pushed', sha)
    const number = await open(repo, 'drop-1-x', 'DROP-1: x')
    await pullEvent(repo, 'opened', number)
    for (const command of ['delete --force', 'stop', 'start', 'checkpoint', 'restore', 'create', 'status'])
      await comment(repo, number, `/swarm ${command}`)
    await api('acme', 'PATCH', `/repos/${repo}/pulls/${number}`, { state: 'closed' })
    await pullEvent(repo, 'closed', number)
    await api('acme', 'PATCH', `/repos/${repo}/pulls/${number}`, { state: 'open' })
    await pullEvent(repo, 'reopened', number)
    await api('acme', 'PUT', `/repos/${repo}/pulls/${number}/merge`, {})
    await pullEvent(repo, 'closed', number)
    // The stopped one, by its title.
    await pullEvent(repo, 'opened', await open(repo, 'patch', 'DROP-3: x'))
    expect(await dropActions()).toEqual(before)
    for (const ticket of ['DROP-1', 'DROP-3']) expect(await desk.store.pullRequests.ofTicket(ticket)).toEqual([])
    expect((await desk.store.tickets.get('DROP-1')).hadPullRequest).toBe(false)
  })

test('an event of a repository that is not listed is ignored, at the cost of no request once it is known', async () => {
  const sha = await branch(SPARE, 'web-1-pushed')
  const before = desk.github.requests.length
  expect(await push(SPARE, 'web-1-pushed', sha)).toEqual({
    verdict: 'ignored',
    reason: 'acme/spare is not listed in GITHUB_REPOSITORIES',
  })
  expect(desk.github.requests.length).toBe(before)
})

test('an event of another owner is refused', async () => {
  const id = randomUUID()
  const evil = { ...(await repository(OTHER)), full_name: 'evil/shop' }
  const last = desk.github.deliveries.findLast(({ event }) => event === 'push')?.payload as object
  await desk.github.deliver('push', { ...last, ref: 'refs/heads/drop-1', repository: evil }, id)
  await desk.decided()
  expect(await desk.verdict(id)).toEqual({ verdict: 'refused', reason: 'GITHUB_REPOSITORIES lists nothing of evil' })
})

test('polls of the other repository find nothing of DROP, and what a poll delivers is judged again', async () => {
  const before = await dropActions()
  await branch(OTHER, 'drop-1-polled')
  await open(OTHER, 'drop-1-open', 'DROP-1')
  await desk.caughtUp()
  const log = openLog('silent')
  const repositories = ['acme/shop', OTHER, SPARE]
  const github = await openGitHub(
    { via: 'token', token: 'token-dev', repositories, apiUrl: desk.github.url },
    { log, paced: false },
  )
  const found: string[] = []
  const poll = openGitHubPoll({
    ...{ ...desk.context, github, everyMs: 1, log, parts: ['pushes', 'comments', 'pulls'] },
    accept: async deliveries => void found.push(...deliveries.map(({ body }) => body)),
  })
  await poll.round()
  await branch(OTHER, 'drop-1-polled-again')
  await branch(OTHER, 'web-1-polled')
  await poll.round()
  await poll.compare()
  expect(found.filter(body => body.includes(OTHER) && !body.includes('web-1'))).toEqual([])
  expect(found.some(body => body.includes('web-1-polled'))).toBe(true)
  expect(await dropActions()).toEqual(before)
})

test('a fork that was allowed there commands nothing of DROP', async () => {
  const number = await open(OTHER, 'drop-1-fork', 'DROP-1')
  const onlyAt = 'b'.repeat(40)
  desk.github.forks.set(number, onlyAt)
  const before = await dropActions()
  await comment(OTHER, number, `/swarm allow ${onlyAt}\n/swarm delete --force`)
  expect(await dropActions()).toEqual(before)
  const replyTo = { repo: OTHER, number, commentId: 1, line: 0 }
  const action = { kind: 'stop', ticket: 'DROP-1', by: { via: 'github', who: 'mallory' }, replyTo, onlyAt } as const
  expect(await checkFork(desk.context, action)).toMatchObject({ kind: 'refused' })
})

test('its rules are in effect for its own project alone', async () => {
  await desk.store.repositories.setFile(OTHER, {
    ...{
      etag: null,
      good: 'projects: [DROP, WEB]\nsize: { cpus: 9 }\nclosed: delete\n',
      problems: [],
      checkedAt: Date.now(),
    },
  })
  expect(await desk.context.rulesOf(OTHER)).toMatchObject({ projects: ['WEB'], machine: { cpus: 9 } })
  expect(await desk.context.rulesOfTicket('DROP-7')).toMatchObject({ machine: {}, closed: 'stop' })
  expect(await desk.context.rulesOfTicket('WEB-7')).toMatchObject({ machine: { cpus: 9 }, projects: ['DROP', 'WEB'] })
  await desk.jira.move('DROP-7', 'In Progress')
  await desk.decided()
  expect(await desk.actionsOf('DROP-7')).toMatchObject([{ kind: 'create', machine: {} }])
})

test('an issue that is moved to another project takes its machine along, and leaves the repository that does not serve it', async () => {
  await desk.machine('DROP-8')
  await desk.github.push('drop-8-x')
  const number = await desk.github.open('drop-8-x', 'x')
  await desk.decided()
  await desk.jira.rekey('DROP-8', 'WEB-8')
  await desk.decided()
  await desk.machine('WEB-8')
  expect((await desk.states('WEB-8')).at(-1)).toBe('move pending')
  const before = await desk.states('WEB-8')
  await desk.github.comment(number, '/swarm delete --force')
  await desk.github.merge(number)
  await desk.decided()
  expect(await desk.states('WEB-8')).toEqual(before)
  expect(await desk.store.pullRequests.ofTicket('WEB-8')).toEqual([])
  // The repository that serves it acts on it.
  await pullEvent(OTHER, 'opened', await open(OTHER, 'web-8-y', 'x'))
  expect(await desk.store.pullRequests.ofTicket('WEB-8')).toMatchObject([{ repo: OTHER }])
})
