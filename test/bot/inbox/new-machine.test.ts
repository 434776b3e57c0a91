/** Creates of the bot: the project and the task that they carry. */
import { expect, onTestFinished, test } from 'vitest'
import type { Action } from '../../../src/schema/action.ts'
import { openDesk as open, tickets } from '../desk.ts'

const openDesk: typeof open = async options => {
  const desk = await open(options)
  onTestFinished(() => desk.close())
  return desk
}
type Create = Extract<Action, { kind: 'create' }>
const createOf = async ({ actionsOf }: Awaited<ReturnType<typeof open>>, ticket = 'DROP-1'): Promise<Create> => {
  const create = (await actionsOf(ticket)).find((action): action is Create => action.kind === 'create')
  if (create === undefined) throw new Error(`no create of ${ticket}`)
  return create
}
const moved = async (desk: Awaited<ReturnType<typeof open>>, ticket = 'DROP-1') => {
  await desk.jira.move(ticket, 'In Progress')
  expect(await desk.decided()).toEqual([])
  return createOf(desk, ticket)
}
const repositories = ['acme/shop', 'acme/api']
const twoMapped = { more: ['api'], repositories, projects: ['DROP:acme/shop+acme/api'] }

test('a ticket that is moved gets the only repository, and its title', async () => {
  const create = await moved(await openDesk({ issues: { 'DROP-1': 'Pay\nby card' } }))
  expect(create.project).toEqual({ repo: 'acme/shop', branch: null, summary: 'Pay by card' })
  expect([create.noProject, create.task, create.noAgent]).toEqual([undefined, undefined, undefined])
})

test('the first of the map, and the one with a branch of the ticket before it', async () => {
  const desk = await openDesk({ ...twoMapped, issues: tickets(12) })
  await desk.caughtUp()
  expect((await moved(desk, 'DROP-2')).project?.repo).toBe('acme/shop')
  const { sha } = (
    (await desk.github.api('dev', 'GET', '/repos/acme/api/git/ref/heads/main')) as { object: { sha: string } }
  ).object
  // DROP-12's branch begins with the key of DROP-1.
  await desk.github.api('dev', 'POST', '/repos/acme/api/git/refs', { ref: 'refs/heads/DROP-12-x', sha })
  expect((await moved(desk, 'DROP-1')).project?.repo).toBe('acme/shop')
  expect((await moved(desk, 'DROP-12')).project?.repo).toBe('acme/api')
})

test('a branch of another form is known from a push, also in a repository that only a wildcard lets in', async () => {
  const push = async (desk: Awaited<ReturnType<typeof open>>, branch: string) => {
    await desk.github.push(branch)
    await desk.decided()
  }
  const mapped = await openDesk({ ...twoMapped, projects: ['DROP:acme/api+acme/shop'], issues: tickets(3) })
  await push(mapped, 'feature/DROP-1-login')
  await push(mapped, 'drop-12-x')
  expect((await moved(mapped, 'DROP-1')).project?.repo).toBe('acme/shop')
  // The branch of another ticket, and one that was deleted since.
  expect((await moved(mapped, 'DROP-2')).project?.repo).toBe('acme/api')
  await push(mapped, 'drop-3-x')
  await mapped.github.api('dev', 'DELETE', '/repos/acme/shop/git/refs/heads/drop-3-x')
  expect((await moved(mapped, 'DROP-3')).project?.repo).toBe('acme/api')

  const wild = await openDesk({ repositories: ['acme/*'], projects: ['DROP:acme/*'], issues: tickets(2) })
  await wild.caughtUp()
  await push(wild, 'drop-1-x')
  expect((await moved(wild, 'DROP-1')).project?.repo).toBe('acme/shop')
  expect((await moved(wild, 'DROP-2')).noProject).toContain('no branch of DROP-2 was found in them')
})

test('an open pull request names repository and branch', async () => {
  const desk = await openDesk()
  await desk.github.push('DROP-1-card')
  await desk.github.open('DROP-1-card', 'Pay by card')
  await desk.decided()
  expect((await moved(desk)).project).toMatchObject({ repo: 'acme/shop', branch: 'DROP-1-card' })
})

test('GitHub that cannot be reached is asked again for a minute, and then the map decides', async () => {
  let ahead = 0
  const desk = await openDesk({ ...twoMapped, clock: () => Date.now() + ahead })
  await desk.caughtUp()
  const away = () => {
    for (let n = 0; n < 4; n += 1) desk.github.faults.push({ match: /matching-refs/, answer: { status: 503 } })
  }
  away()
  await desk.jira.move('DROP-1', 'In Progress')
  expect(await desk.decided()).toEqual([expect.stringContaining('looking for a branch of DROP-1')])
  expect(await desk.states('DROP-1')).toEqual([])
  ahead = 61_000
  away()
  expect(await desk.decided()).toEqual([])
  expect((await createOf(desk)).project?.repo).toBe('acme/shop')
  desk.github.faults.length = 0
})

test('several without a map: no project, and how to choose one', async () => {
  const create = await moved(await openDesk({ more: ['api'], repositories }))
  expect(create.project).toBeUndefined()
  expect(create.noProject).toContain('`agent-swarm create DROP-1 --repo acme/shop`')
})

test('a repository whose own file does not serve the project is passed over', async () => {
  const desk = await openDesk({ ...twoMapped, projects: ['DROP:acme/shop+acme/api', 'WEB:acme/shop'] })
  await desk.github.write('main', '.github/agent-swarm.yml', 'projects: [WEB]\n')
  await desk.decided()
  expect((await moved(desk)).project?.repo).toBe('acme/api')
})

test('a repository that was renamed is named as it is now', async () => {
  const desk = await openDesk({ projects: ['DROP:acme/shop'] })
  await desk.store.repositories.rename(77, 'acme/shop')
  await desk.store.repositories.rename(77, 'acme/store')
  expect((await moved(desk)).project?.repo).toBe('acme/store')
})

test('/swarm create on GitHub: its own repository, another that serves, and one that does not', async () => {
  const desk = await openDesk({ ...twoMapped, issues: tickets(3) })
  const commanded = async (ticket: string, command: string) => {
    await desk.github.push(`${ticket}-x`)
    const number = await desk.github.open(`${ticket}-x`, 'x')
    await desk.github.comment(number, command)
    expect(await desk.decided()).toEqual([])
  }
  await commanded('DROP-1', '/swarm create')
  expect((await createOf(desk)).project).toEqual({ repo: 'acme/shop', branch: 'DROP-1-x', summary: 'a ticket' })
  await commanded('DROP-2', '/swarm create acme/api')
  expect((await createOf(desk, 'DROP-2')).project).toEqual({
    repo: 'acme/api',
    branch: null,
    summary: 'a ticket',
    named: true,
  })
  await commanded('DROP-3', '/swarm create evil/shop')
  expect(await desk.states('DROP-3')).toEqual([])
  const [refused] = await desk.store.requests.audit('DROP-3', 1)
  expect(refused).toMatchObject({
    verdict: 'refused',
    what: '/swarm create evil/shop',
    by: { who: 'dev' },
    reason: '`evil/shop` does not serve DROP. These do: `acme/shop`, `acme/api`.',
  })
})

test('/swarm create in Jira, where Jira tells no title at that moment', async () => {
  const desk = await openDesk({ ...twoMapped })
  await desk.jira.write('DROP-1', '/swarm create acme/api')
  await desk.decided()
  expect((await createOf(desk)).project).toEqual({ repo: 'acme/api', branch: null, summary: 'a ticket', named: true })
})

test("a fork's pull request: no project, and why", async () => {
  const desk = await openDesk()
  await desk.github.push('DROP-1-x')
  const number = await desk.github.open('DROP-1-x', 'x')
  const head = 'c'.repeat(40)
  desk.github.forks.set(number, head)
  await desk.github.comment(number, `/swarm allow ${head}\n/swarm create`)
  await desk.decided()
  const create = await createOf(desk)
  expect([create.project, create.noProject]).toEqual([undefined, expect.stringContaining('is from a fork')])
})

// ── The task ──

const agent = { use: 'claude' } as const
const paragraph = (text: string) => ({ type: 'paragraph', content: [{ type: 'text', text }] })
const doc = (...content: unknown[]) => ({ type: 'doc', version: 1, content })
const heading = (text: string) => ({ type: 'heading', attrs: { level: 2 }, content: [{ type: 'text', text }] })

test('the task is the text of the ticket when the move is decided', async () => {
  const desk = await openDesk({ agent, issues: { 'DROP-1': `Pay by card ${'x'.repeat(200)}` } })
  const issue = desk.jira.issue('DROP-1')
  Object.assign(issue?.fields ?? {}, {
    description: doc(
      paragraph('Customers pay.'),
      heading('Acceptance criteria'),
      paragraph('It works.'),
      heading('Notes'),
    ),
  })
  const create = await moved(desk)
  expect(create.project?.summary).toHaveLength(100)
  expect(create.task).toEqual({
    summary: `Pay by card ${'x'.repeat(200)}`,
    description: 'Customers pay.\n\n## Acceptance criteria\n\nIt works.\n\n## Notes',
    acceptance: 'It works.',
  })
})

test('a field for acceptance criteria counts before the section, and its name is read once', async () => {
  const desk = await openDesk({ agent, issues: tickets(2) })
  desk.jira.fields.push({ id: 'customfield_10042', name: 'Acceptance Criteria', custom: true })
  for (const ticket of ['DROP-1', 'DROP-2']) {
    Object.assign(desk.jira.issue(ticket)?.fields ?? {}, { customfield_10042: doc(paragraph('It is fast.')) })
    expect((await moved(desk, ticket)).task?.acceptance).toBe('It is fast.')
  }
  expect(desk.jira.requests.filter(({ path }) => path === '/rest/api/3/field')).toHaveLength(1)
})

test("another's ticket gets its machine without an agent, and why", async () => {
  const desk = await openDesk({ agent })
  Object.assign(desk.jira.issue('DROP-1')?.fields ?? {}, { reporter: { accountId: 'mallory' } })
  const { task, noAgent, project } = await moved(desk)
  expect([task, noAgent, project?.repo]).toEqual([undefined, expect.stringContaining('agent.reporters'), 'acme/shop'])
})

test('a repository that wants no agent says so, as a create without a word means that the operator has none', async () => {
  const desk = await openDesk({ agent })
  await desk.github.write('main', '.github/agent-swarm.yml', 'projects: [DROP]\nagent: { use: none }\n')
  await desk.decided()
  expect((await moved(desk)).noAgent).toContain('of its repository wants none')
})

test('without an agent of the operator, the text is not read', async () => {
  const desk = await openDesk()
  await moved(desk)
  expect(desk.jira.requests.filter(({ path }) => /description|\/field/.test(path))).toEqual([])
})

test('Jira that cannot be read is asked again for a minute; then the machine comes without an agent', async () => {
  let ahead = 0
  const desk = await openDesk({ agent, issues: tickets(2), clock: () => Date.now() + ahead })
  await moved(desk, 'DROP-2')
  await desk.jira.move('DROP-1', 'In Progress')
  desk.jira.setDown(true)
  expect(await desk.decided()).toHaveLength(1)
  expect(await desk.states('DROP-1')).toEqual([])
  ahead = 61_000
  expect(await desk.decided()).toEqual([])
  expect((await createOf(desk)).noAgent).toContain('Jira could not be read')
})
