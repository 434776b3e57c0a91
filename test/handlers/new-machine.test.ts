/** Which project a new machine gets, and whether an agent starts on its ticket. */
import { expect, test } from 'vitest'
import type { NewMachine, Rules } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import { createAction, refusedRepository } from '../../handlers/new-machine.ts'
import { rules, ticketEvent, ticketFacts } from './fixtures.ts'

const create = { kind: 'create', ticket: 'DROP-1', by: { via: 'jira', who: 'me' }, replyTo: null } as const
const newMachine = (more: Partial<NewMachine> = {}): NewMachine => ({
  ...{ repositories: ['acme/shop'], isMapped: false, pullRequest: null, withBranch: null },
  ...{ summary: 'Pay by card', text: null, me: 'me' },
  ...more,
})
const two = ['acme/shop', 'acme/api']
const pullRequest = { repo: 'acme/api', branch: 'DROP-1-x', fromFork: false }

test.for<[what: string, facts: Partial<NewMachine>, named: string | null, gets: string | null]>([
  ['the only one that serves it', {}, null, 'acme/shop null'],
  ['the first of the map', { repositories: two, isMapped: true }, null, 'acme/shop null'],
  ['several without a map: none', { repositories: two }, null, null],
  ['the one of the open pull request, with its branch', { repositories: two, pullRequest }, null, 'acme/api DROP-1-x'],
  [
    'the one of the open pull request, before the first of the map',
    { repositories: two, isMapped: true, pullRequest },
    null,
    'acme/api DROP-1-x',
  ],
  ['the one with a branch', { repositories: two, isMapped: true, withBranch: 'acme/api' }, null, 'acme/api null'],
  ['the one that is named', { repositories: two, pullRequest }, 'acme/shop', 'acme/shop null'],
  ['the one that is named, as GitHub writes it', { repositories: two }, 'ACME/Shop', 'acme/shop null'],
  [
    'the named one of the pull request: its branch',
    { repositories: two, pullRequest },
    'acme/api',
    'acme/api DROP-1-x',
  ],
  ['all of an owner: none', { repositories: ['acme/*'], isMapped: true }, null, null],
  [
    'all of an owner, and one by its name',
    { repositories: ['acme/*', 'acme/shop'], isMapped: true },
    null,
    'acme/shop null',
  ],
  ['all of an owner, and one is named', { repositories: ['acme/*'], isMapped: true }, 'acme/new', 'acme/new null'],
  [
    'a closed pull request: its repository',
    { repositories: two, pullRequest: { ...pullRequest, branch: null } },
    null,
    'acme/api null',
  ],
  ['a fork: none', { pullRequest: { repo: 'acme/shop', branch: null, fromFork: true } }, null, null],
  [
    'a fork, and one is named',
    { pullRequest: { repo: 'acme/shop', branch: null, fromFork: true } },
    'acme/shop',
    'acme/shop null',
  ],
])('%s', ([, facts, named, gets]) => {
  const { project, noProject } = createAction(create, newMachine(facts), rules, named)
  expect(project === undefined ? null : `${project.repo} ${project.branch}`).toBe(gets)
  expect(noProject === undefined).toBe(gets !== null)
  expect(project?.summary ?? 'Pay by card').toBe('Pay by card')
})

test.for<[Partial<NewMachine>, string]>([
  [
    { repositories: two },
    'No project was cloned: `acme/shop`, `acme/api` serve DROP, and no branch of DROP-1 was found in them. To choose one: `/swarm create acme/shop`, or `agent-swarm create DROP-1 --repo acme/shop` on the host of the machines.',
  ],
  [
    { repositories: ['acme/*'], isMapped: true },
    'No project was cloned: every repository of `acme` serves DROP, and no branch of DROP-1 was found in them. To choose one: `/swarm create acme/shop`, or `agent-swarm create DROP-1 --repo acme/shop` on the host of the machines.',
  ],
  [
    { pullRequest: { repo: 'acme/shop', branch: null, fromFork: true } },
    'No project was cloned: the pull request is from a fork, so its branch is not in `acme/shop`. For a new branch there: `/swarm create acme/shop`.',
  ],
])('without a project, people read how to choose one: %j', ([facts, text]) =>
  expect(createAction(create, newMachine(facts), rules).noProject).toBe(text),
)

test('where no repository serves the ticket, a create is what it was', () => {
  expect(createAction(create, newMachine({ repositories: [] }), rules)).toEqual(create)
  expect(createAction(create, undefined, rules)).toEqual(create)
})

test.for<[string, string[], string | null]>([
  ['acme/shop', two, null],
  ['Acme/SHOP', two, null],
  ['acme/new', ['acme/*'], null],
  ['acmes/new', ['acme/*'], '`acmes/new` does not serve DROP. These do: `acme/*`.'],
  ['evil/shop', two, '`evil/shop` does not serve DROP. These do: `acme/shop`, `acme/api`.'],
  ['evil/shop', [], '`evil/shop` does not serve DROP: no repository does.'],
])('%s where %j serve', ([repo, repositories, why]) =>
  expect(refusedRepository('DROP-1', repo, newMachine({ repositories }))).toBe(why),
)

const task = { summary: 'Pay by card', description: 'As a customer …', acceptance: '- it works' }
const withAgent = (reporters: 'me' | 'any' | string[]): Rules => ({ ...rules, agent: { reporters, rounds: 0 } })
test.for<[what: string, rules: Rules, facts: Partial<NewMachine>, gets: 'a task' | RegExp | null]>([
  ['no agent', rules, { text: { task, reporter: 'me' } }, null],
  ['a ticket of the token', withAgent('me'), { text: { task, reporter: 'me' } }, 'a task'],
  ['a ticket of somebody else', withAgent('me'), { text: { task, reporter: 'mallory' } }, /agent\.reporters/],
  ['a ticket of nobody', withAgent('me'), { text: { task, reporter: null } }, /agent\.reporters/],
  ['anybody', withAgent('any'), { text: { task, reporter: 'mallory' } }, 'a task'],
  ['a listed account', withAgent(['5b10']), { text: { task, reporter: '5b10' } }, 'a task'],
  ['an account that is not listed', withAgent(['5b10']), { text: { task, reporter: 'me' } }, /agent\.reporters/],
  ['Jira cannot be read', withAgent('any'), { text: 'unreadable' }, /Jira could not be read/],
  ['no Jira', withAgent('any'), { text: null }, /cannot read DROP-1 in Jira/],
  ['its repository wants none', rules, { text: 'unwanted' }, /agent-swarm\.yml` of its repository wants none/],
  ['no project', withAgent('any'), { repositories: [], text: { task, reporter: 'me' } }, /no project/],
])('an agent: %s', ([, asked, facts, gets]) => {
  const { task: given, noAgent } = createAction(create, newMachine(facts), asked)
  if (gets === 'a task') expect([given, noAgent]).toEqual([task, undefined])
  else if (gets === null) expect([given, noAgent]).toEqual([undefined, undefined])
  else expect([given, noAgent]).toEqual([undefined, expect.stringMatching(gets)])
})

test('a move into progress creates the machine with its project and task', () => {
  const facts = ticketFacts('indeterminate', { newMachine: newMachine({ text: { task, reporter: 'me' } }) })
  expect(handlers.ticket(ticketEvent('indeterminate'), facts, withAgent('me'))).toMatchObject({
    actions: [{ kind: 'create', project: { repo: 'acme/shop', branch: null, summary: 'Pay by card' }, task }],
  })
})
