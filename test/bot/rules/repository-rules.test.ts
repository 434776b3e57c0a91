/** A repository's rules, from its file on GitHub to what becomes of a machine. */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Environment } from '../../../src/schema/environment.ts'
import { openMemory } from '../../../src/store/sqlite/memory.ts'
import { until } from '../../support/wait.ts'
import { environmentOf, openStage, type Stage } from '../stage.ts'

const FILE = '.github/agent-swarm.yml'
let ahead = 0
let stage: Stage
beforeAll(async () => {
  stage = await openStage({
    people: { dev: 'push', mallory: 'push' },
    issues: { 'DROP-1': 'one', 'DROP-2': 'two', 'DROP-3': 'three', 'DROP-4': 'four' },
    clock: () => Date.now() + ahead,
  })
})
afterAll(() => stage.close())

const rules = async (content: string) => {
  await stage.github.write('main', FILE, content)
  await stage.decided()
}
const has = (...environments: Environment[]) => stage.heartbeat(environments)
const opened = async (branch: string, title = 'x') => {
  await stage.github.push(branch)
  const number = await stage.github.open(branch, title)
  await stage.decided()
  return number
}
const reads = () => stage.github.asked.filter(one => one.path.includes('agent-swarm.yml'))
const status = (number: number, part: string) =>
  until(
    `a status comment with ${part}`,
    async () => (await stage.github.comments(number)).find(one => one.body.includes(part)),
    { within: 20_000 },
  )
test('the file of the default branch says what a close means; the one of the pull request says nothing', async () => {
  await has(environmentOf('DROP-1'))
  await rules('projects: [DROP]\nclosed: nothing\nsize: { cpus: 1 }\nlabels: [agent]\n')
  const number = await opened('drop-1-x')
  // The attack: the branch brings rules of its own, and its push and its pull request tell of them.
  await stage.github.write('drop-1-x', FILE, 'closed: delete\nmerged: delete\ngraceMinutes: 0\n', 'mallory')
  await stage.github.close(number)
  await stage.decided()
  expect(stage.told('DROP-1').filter(one => !one.startsWith('checkpoint'))).toEqual([])
  expect(reads().length).toBeGreaterThan(0)
  for (const { path } of reads()) expect(path).not.toMatch(/ref=/)
})

test('a ticket follows the repository that names its project: no label, no machine', async () => {
  await stage.jira.move('DROP-2', 'In Progress')
  await stage.decided()
  expect(stage.told('DROP-2')).toEqual([])
  await rules('projects: [DROP]\nclosed: nothing\nsize: { cpus: 1 }\n')
  await stage.jira.move('DROP-3', 'In Progress')
  await stage.decided()
  expect(stage.actionsOf('DROP-3').map(one => one.action)).toMatchObject([{ kind: 'create', machine: { cpus: 1 } }])
})

test('what is known is not asked for again before its time, and then by its ETag', async () => {
  const before = reads().length
  await opened('drop-4-x')
  expect(reads().length).toBe(before)
  ahead += 6 * 60_000
  await opened('drop-4-y')
  expect(reads().length).toBe(before + 1)
})

test('a file with mistakes does not count, and its pull requests say so', async () => {
  await has(environmentOf('DROP-1'))
  const number = await opened('drop-1-y')
  await rules('closed: destroy\n')
  const told = await status(number, 'The rules of this repository have mistakes')
  expect(told.body).toContain('.github/agent-swarm.yml:1: closed must be one of stop, delete, nothing')
  const before = stage.told('DROP-1')
  await stage.github.close(number)
  await stage.decided()
  // What held before holds on.
  expect(stage.told('DROP-1')).toEqual(before)
}, 60_000)

test('a merge with minutes of grace: told, kept by /swarm start, and deleted when nobody starts it', async () => {
  await rules('graceMinutes: 30\n')
  await has(environmentOf('DROP-1'), environmentOf('DROP-4'))
  const kept = await opened('drop-1-kept')
  const gone = await opened('drop-4-gone')
  for (const number of [2, 3]) await stage.github.close(number).catch(() => {})
  await stage.github.merge(kept)
  await stage.decided()
  await status(kept, 'it will be deleted at ')
  const deletes = (ticket: string) => stage.told(ticket).filter(one => one.startsWith('delete'))
  expect(deletes('DROP-1')).toEqual([])
  await stage.github.comment(kept, '/swarm start')
  await stage.decided()
  await status(kept, 'The delete that was to follow the merge is called off.')
  await stage.github.merge(gone)
  await stage.decided()
  ahead += 31 * 60_000
  await has(environmentOf('DROP-1'), environmentOf('DROP-4'))
  await until('the delete', () => deletes('DROP-4').length > 0, { within: 20_000 })
  expect(deletes('DROP-1')).toEqual([])
}, 90_000)

test('in the minutes of grace what somebody does by hand keeps the machine, and is told at once', async () => {
  await rules('graceMinutes: 30\n')
  await has(environmentOf('DROP-3'))
  const number = await opened('drop-3-by-hand')
  await stage.github.merge(number)
  await stage.decided()
  await status(number, 'it will be deleted at ')
  const by = { via: 'cli', who: 'dev' } as const
  const at = new Date(Date.now() + ahead + 1_000).toISOString()
  ahead += 2_000
  await stage.heartbeat([environmentOf('DROP-3')], { asked: [{ id: 1, ticket: 'DROP-3', kind: 'start', by, at }] })
  await until(
    'a status without it',
    async () => !(await stage.github.comments(number)).some(one => one.body.includes('it will be deleted at ')),
    { within: 20_000 },
  )
  expect(stage.told('DROP-3').filter(one => one.startsWith('delete'))).toEqual([])
}, 60_000)

test('a rule for a command keeps it for logins, teams and Jira accounts; a team that cannot be read is nobody', async () => {
  const team = await stage.github.team('ops', 'dev')
  await rules(`commands: { delete: [${team}], restore: [Mallory], stop: ['jira:557058:boss'], start: [] }\n`)
  await has(environmentOf('DROP-2'))
  const number = await opened('drop-2-x')
  const asked = (kind: string) =>
    stage.actionsOf('DROP-2').filter(({ action }) => action.kind === kind && action.replyTo !== null).length
  const audit = () => {
    const memory = openMemory(join(stage.home, 'memory.db'), Date.now)
    const [line] = memory.audit('DROP-2', 1)
    memory.close()
    return line
  }
  const says = async (body: string, login: string) => {
    await stage.github.comment(number, body, login)
    await stage.decided()
    return audit()
  }
  const others = (name: string) => `a rule keeps the command ${name} for others`

  expect(await says('/swarm delete', 'mallory')).toMatchObject({ verdict: 'refused', reason: others('delete') })
  expect(await says('/swarm start', 'dev')).toMatchObject({ verdict: 'refused', reason: others('start') })
  expect(await says('/swarm restore', 'dev')).toMatchObject({ verdict: 'refused', reason: others('restore') })
  expect(await says('/swarm stop', 'dev')).toMatchObject({ verdict: 'refused', reason: others('stop') })
  stage.github.faults.push({ match: /GET .*\/teams\/ops\/memberships\/dev/, answer: { status: 403 } })
  expect(await says('/swarm delete', 'dev')).toMatchObject({
    verdict: 'refused',
    reason: expect.stringContaining('the teams that it names cannot be read: the App needs the permission'),
  })
  expect(stage.actionsOf('DROP-2').filter(one => one.action.replyTo !== null)).toEqual([])

  expect(await says('/swarm restore', 'mallory')).toMatchObject({ verdict: 'allowed', who: 'mallory' })
  expect(await says('/swarm checkpoint', 'mallory')).toMatchObject({ reason: 'mallory has write access' })
  expect(await says('/swarm delete', 'dev')).toMatchObject({
    verdict: 'allowed',
    reason: 'dev has write access, and a rule for delete names them',
  })
  expect(['restore', 'checkpoint', 'delete', 'stop', 'start'].map(asked)).toEqual([1, 1, 1, 0, 0])
  // Who is refused by a rule has write access, and is told; it stands on the status comment as well.
  await status(number, 'Not done: a rule keeps the command delete for others.')
  await status(number, '`/swarm stop`, asked for on GitHub by `dev`: refused: a rule keeps the command stop for others')

  await stage.jira.assign('DROP-2', '557058:boss')
  await stage.jira.write('DROP-2', '/swarm stop\n/swarm delete', { by: '557058:boss' })
  await stage.decided()
  expect(['stop', 'delete'].map(asked)).toEqual([1, 1])
  expect(audit()).toMatchObject({ who: '557058:boss', place: 'DROP-2', what: '/swarm stop', verdict: 'allowed' })
}, 90_000)
