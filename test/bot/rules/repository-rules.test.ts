/** A repository's rules, from its file on GitHub to what happens to a machine. */
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { until } from '../../support/wait.ts'
import { type Desk, openDesk, tickets } from '../desk.ts'
import { environmentOf, openStage } from '../stage.ts'

const FILE = '.github/agent-swarm.yml'
let ahead = 0
let desk: Desk
beforeAll(async () => {
  desk = await openDesk({
    people: { dev: 'push', mallory: 'push' },
    issues: tickets(9),
    clock: () => Date.now() + ahead,
  })
})
afterAll(() => desk.close())

const rules = async (content: string) => {
  await desk.github.write('main', FILE, content)
  await desk.decided()
}
const opened = async (branch: string) => {
  await desk.github.push(branch)
  const number = await desk.github.open(branch, 'x')
  await desk.decided()
  return number
}
const reads = () => desk.github.requests.filter(({ path }) => path.includes('agent-swarm.yml'))
const states = async (ticket: string) => (await desk.states(ticket)).filter(state => !state.startsWith('checkpoint'))

test('the file of the default branch is in effect, and the one of the pull request is not', async () => {
  await desk.machine('DROP-1')
  await rules('projects: [DROP]\nclosed: nothing\nsize: { cpus: 1 }\nlabels: [agent]\n')
  const number = await opened('drop-1-x')
  // The attack: the branch brings rules of its own.
  await desk.github.write('drop-1-x', FILE, 'closed: delete\nmerged: delete\ngraceMinutes: 0\n', 'mallory')
  await desk.github.close(number)
  await desk.decided()
  expect(await states('DROP-1')).toEqual([])
  expect(reads().length).toBeGreaterThan(0)
  for (const { path } of reads()) expect(path).not.toMatch(/ref=/)
})

test('a ticket follows the repository that names its project: without the label, no machine', async () => {
  await desk.jira.move('DROP-2', 'In Progress')
  await desk.decided()
  expect(await desk.states('DROP-2')).toEqual([])
  await rules('projects: [DROP]\nclosed: nothing\nsize: { cpus: 1 }\n')
  await desk.jira.move('DROP-3', 'In Progress')
  await desk.decided()
  expect(await desk.actionsOf('DROP-3')).toMatchObject([{ kind: 'create', machine: { cpus: 1 } }])
})

test('a known file is not read again before its time, and then with its ETag', async () => {
  const before = reads().length
  await opened('drop-4-x')
  expect(reads().length).toBe(before)
  ahead += 6 * 60_000
  await opened('drop-4-y')
  expect(
    reads()
      .slice(before)
      .map(({ status }) => status),
  ).toEqual([304])
})

test('a file with errors does not count: the version before stays in effect, and the tickets are updated', async () => {
  const number = await opened('drop-1-y')
  await rules('closed: destroy\n')
  const file = await desk.store.repositories.file(desk.github.repo)
  expect(file?.problems).toEqual([
    expect.stringMatching(/^\.github\/agent-swarm\.yml:1: closed must be one of stop, delete, nothing/),
  ])
  expect(await desk.messages()).toContain('status:DROP-1')
  const before = await desk.states('DROP-1')
  await desk.github.close(number)
  await desk.decided()
  expect(await desk.states('DROP-1')).toEqual(before)
})

test('a file that cannot be read stays as it was, and is not asked for again for a minute', async () => {
  const before = await desk.store.repositories.file(desk.github.repo)
  ahead += 6 * 60_000
  for (let n = 0; n < 2; n += 1) desk.github.faults.push({ match: /agent-swarm\.yml/, answer: { status: 502 } })
  await opened('drop-4-z')
  expect(desk.github.faults).toHaveLength(1)
  desk.github.faults.length = 0
  ahead += 61_000
  expect(await desk.store.repositories.file(desk.github.repo)).toEqual(before)
})

test('minutes of grace after a merge: /swarm start and fork keep the machine, and without them it is deleted', async () => {
  await rules('graceMinutes: 30\n')
  await desk.machine('DROP-5')
  await desk.machine('DROP-6')
  await desk.machine('DROP-16')
  const [kept, gone, forked] = [
    await opened('drop-5-kept'),
    await opened('drop-6-gone'),
    await opened('drop-16-forked'),
  ]
  await desk.github.merge(kept)
  await desk.github.merge(forked)
  await desk.decided()
  expect(await desk.store.inbox.scheduledAt('DROP-5')).not.toBeNull()
  expect(await states('DROP-5')).toEqual([])
  const commentId = await desk.github.comment(kept, '/swarm start')
  await desk.decided()
  expect(await desk.store.inbox.scheduledAt('DROP-5')).toBeNull()
  expect(await desk.actionsOf('DROP-5')).toMatchObject([{ kind: 'checkpoint' }, { kind: 'start', cancelsDelete: true }])
  const [request] = await desk.store.requests.ofComment({ repo: desk.github.repo, number: kept, commentId })
  expect(request?.action).toMatchObject({ cancelsDelete: true })
  await desk.github.comment(forked, '/swarm fork')
  await desk.decided()
  expect(await desk.store.inbox.scheduledAt('DROP-16')).toBeNull()
  await desk.github.merge(gone)
  await desk.decided()
  ahead += 31 * 60_000
  expect(await desk.store.inbox.acceptScheduled(Date.now() + ahead)).toBe(1)
  await desk.decided()
  expect(await states('DROP-6')).toEqual(['delete pending'])
  expect(await states('DROP-5')).toEqual(['start pending'])
})

test('a rule for a command reserves it for logins, teams and Jira accounts; an unreadable team is nobody', async () => {
  const team = await desk.github.team('ops', 'dev')
  await rules(`commands: { delete: [${team}], restore: [Mallory], stop: ['jira:557058:boss'], start: [] }\n`)
  await desk.machine('DROP-7')
  const number = await opened('drop-7-x')
  const last = async () => (await desk.store.requests.audit('DROP-7', 1))[0]
  const command = async (body: string, login: string) => {
    await desk.github.comment(number, body, login)
    await desk.decided()
    return last()
  }
  const count = async (kind: string) =>
    (await desk.actionsOf('DROP-7')).filter(action => action.kind === kind && action.replyTo !== null).length
  const refused = { verdict: 'refused', reason: expect.stringMatching(/^only .* may use `|^nobody may use `/) }

  expect(await command('/swarm delete', 'mallory')).toMatchObject(refused)
  expect(await command('/swarm start', 'dev')).toMatchObject({ verdict: 'refused' })
  expect(await command('/swarm restore', 'dev')).toMatchObject(refused)
  expect(await command('/swarm stop', 'dev')).toMatchObject(refused)
  desk.github.faults.push({ match: /GET .*\/teams\/ops\/memberships\/dev/, answer: { status: 403 } })
  expect(await command('/swarm delete', 'dev')).toMatchObject({
    verdict: 'refused',
    reason: expect.stringContaining('Team members cannot be read: the App needs the permission'),
  })
  expect((await desk.actionsOf('DROP-7')).filter(({ replyTo }) => replyTo !== null)).toEqual([])
  // Whoever is refused by a rule has write access, and gets an answer: it is in the ticket's history as well.
  const history = await desk.store.requests.history('DROP-7', 9)
  expect(history.map(({ what, verdict }) => [what, verdict])).toContainEqual(['/swarm stop', 'refused'])
  expect(await desk.messages()).toContain('status:DROP-7')

  expect(await command('/swarm restore', 'mallory')).toMatchObject({ verdict: 'allowed', by: { who: 'mallory' } })
  expect(await command('/swarm checkpoint', 'mallory')).toMatchObject({ reason: 'mallory has write access' })
  expect(await command('/swarm delete', 'dev')).toMatchObject({
    verdict: 'allowed',
    reason: expect.stringMatching(/^dev has write access.*delete/),
  })
  const kinds = ['restore', 'checkpoint', 'delete', 'stop', 'start']
  expect(await Promise.all(kinds.map(count))).toEqual([1, 1, 1, 0, 0])

  await desk.jira.assign('DROP-7', '557058:boss')
  await desk.jira.write('DROP-7', '/swarm stop\n/swarm delete', { by: '557058:boss' })
  await desk.decided()
  expect(await Promise.all(['stop', 'delete'].map(count))).toEqual([1, 1])
  const by = { via: 'jira', who: '557058:boss' }
  expect(await desk.store.requests.audit('DROP-7', 2)).toMatchObject([
    { by, place: 'DROP-7', what: '/swarm delete', verdict: 'refused' },
    { by, place: 'DROP-7', what: '/swarm stop', verdict: 'allowed' },
  ])
})

test('a whole bot shows the minutes of grace, and what somebody does by hand in that time keeps the machine', async () => {
  const stage = await openStage({ people: { dev: 'push' }, issues: tickets(1), clock: () => Date.now() + ahead })
  onTestFinished(() => stage.close())
  await stage.github.write('main', FILE, 'graceMinutes: 30\n')
  await stage.heartbeat([environmentOf('DROP-1')])
  await stage.github.push('drop-1-by-hand')
  const number = await stage.github.open('drop-1-by-hand', 'x')
  await stage.decided()
  await stage.github.merge(number)
  await stage.decided()
  const isShown = async () => (await stage.github.comments(number)).some(({ body }) => /delete[sd]? at /.test(body))
  await until('the status with the delete', isShown)
  const by = { via: 'cli', who: 'dev' } as const
  const at = new Date(Date.now() + ahead + 1_000).toISOString()
  ahead += 2_000
  await stage.heartbeat([environmentOf('DROP-1')], {
    manualOperations: [{ id: 1, ticket: 'DROP-1', kind: 'start', by, at }],
  })
  await until('the status without it', async () => !(await isShown()))
  expect((await stage.states('DROP-1')).filter(state => state.startsWith('delete'))).toEqual([])
})
