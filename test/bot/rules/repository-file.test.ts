import { Ajv } from 'ajv'
import { describe, expect, test } from 'vitest'
import type { Rules } from '../../../handlers/handler.ts'
import { documents } from '../../../scripts/docs.ts'
import { readRepositoryFile, type repositoryFile, standardRules } from '../../../src/bot/rules/repository-file.ts'
import { readProjectFile } from '../../../src/schema/repository-file.ts'

const standard = standardRules({ projects: ['DROP', 'WEB'], assignees: 'me', jiraCommanders: [] })
const read = (content: string) => readRepositoryFile(content, standard)

test('an empty file changes nothing', async () => {
  expect(await read('# nothing yet\n')).toEqual({ rules: standard, projects: [], problems: [] })
})

test('every member', async () => {
  const { rules, problems } = await read(`
projects: [drop]
assignees: any
labels: [agent]
branches: [feature/*]
baseImage: node-24
size: { cpus: 4, diskGiB: 60 }
closed: nothing
merged: stop
done: delete
graceMinutes: 30
commands: { delete: [octocat, mona_acme, acme/platform, 'jira:5b10'] }
keep: { pushCheckpoints: 3, days: 14 }
agent: { minutes: 30, rounds: 1 }
`)
  expect(problems).toEqual([])
  expect(rules).toEqual({
    projects: ['DROP'],
    assignees: 'me',
    onlyAssignees: 'any',
    labels: ['agent'],
    branches: ['feature/*'],
    machine: { baseImage: 'node-24', cpus: 4, diskGiB: 60 },
    closed: 'nothing',
    merged: 'stop',
    done: 'delete',
    graceMinutes: 30,
    commands: { delete: ['octocat', 'mona_acme', 'acme/platform', 'jira:5b10'] },
    jiraCommanders: [],
    agent: null,
    keep: { newest: 3, days: 14 },
    transitions: {},
  })
})

test('a repository takes rounds away from its agents, or all of them', async () => {
  const operator = { ...standard, agent: { reporters: 'me', rounds: 3 } } as const
  const roundsOf = async (content: string) => (await readRepositoryFile(content, operator)).rules?.agent?.rounds ?? 0
  expect(await roundsOf('agent: { rounds: 1 }\n')).toBe(1)
  expect(await roundsOf('agent: { rounds: 9 }\n')).toBe(3)
  expect(await roundsOf('agent: { use: none }\n')).toBe(0)
  expect(await roundsOf('closed: stop\n')).toBe(3)
})

test('a project that the bot does not serve is left out, with a message', async () => {
  expect(await read('projects: [WEB, SECRET]\n')).toMatchObject({
    rules: { projects: ['WEB'] },
    projects: ['WEB', 'SECRET'],
    problems: [
      '.github/agent-swarm.yml:1: this repository does not serve the project SECRET (JIRA_PROJECTS); the rest of the file is in effect.',
    ],
  })
  expect((await read('projects: [SECRET]\n')).rules?.projects).toEqual([])
})

test('what the file names is less than, or as much as, the operator allows: every member', async () => {
  const operator: Rules = {
    ...standard,
    ...{ projects: ['DROP'], assignees: ['5b10a', '5b10b'], jiraCommanders: ['boss'], keep: { newest: 4, days: null } },
    agent: { reporters: 'me', rounds: 2 },
  }
  /** A file that asks for more, and the rules that come of it. */
  const table: Record<keyof (typeof repositoryFile)['entries'], [asks: string, gets: Partial<Rules>]> = {
    projects: ['[DROP, WEB, SECRET]', { projects: ['DROP'] }],
    // Whose tickets get machines: those that both allow.
    assignees: ['any', { assignees: ['5b10a', '5b10b'], onlyAssignees: 'any' }],
    labels: ['[agent]', { labels: ['agent'] }],
    branches: ['["*"]', { branches: ['*'] }],
    // The runner refuses images that it does not have, and sizes beyond its limits.
    baseImage: ['other', { machine: { baseImage: 'other' } }],
    size: ['{ cpus: 64 }', { machine: { cpus: 64 } }],
    // What becomes of the machines of its own pull requests and tickets.
    closed: ['delete', { closed: 'delete' }],
    merged: ['nothing', { merged: 'nothing' }],
    done: ['delete', { done: 'delete' }],
    graceMinutes: ['10080', { graceMinutes: 10_080 }],
    // Write access is required all the same.
    commands: ['{ delete: [mallory] }', { commands: { delete: ['mallory'] } }],
    keep: ['{ pushCheckpoints: 100, days: 365 }', { keep: { newest: 4, days: 365 } }],
    // The runner's: it runs in the machine.
    workspace: ['{ setup: npm ci }', {}],
    agent: ['{ minutes: 1440, rounds: 20, budget: { tokens: 1000000000 } }', { agent: { reporters: 'me', rounds: 2 } }],
  }
  for (const [name, [asks, gets]] of Object.entries(table)) {
    const { rules } = await readRepositoryFile(`${name}: ${asks}\n`, operator)
    expect(rules, name).toEqual({ ...operator, ...gets })
  }
})

test.for([['- closed: stop\n'], ['closed\n'], ['5\n']])(
  'a file that is not lines of settings is refused: %j',
  async ([content]) => {
    expect(await read(content ?? '')).toMatchObject({
      rules: null,
      problems: ['.github/agent-swarm.yml must be lines of "name: value".'],
    })
  },
)

test('all errors are reported at once, with their lines, and none of the file counts', async () => {
  expect(
    await read(`projects: [DROP, a-b]
label: [x]
size:
  cpus: 0
  ram: 4
merged: destroy
graceMinutes: soon
`),
  ).toMatchObject({
    rules: null,
    projects: [],
    problems: [
      /^\.github\/agent-swarm\.yml:1: projects\[1\] is .*"a-b"/,
      /yml:4: size\.cpus must be a whole number from 1 to 64.* 0\.$/,
      /yml:5: size\.ram is .*cpus, memoryMiB, diskGiB/,
      /yml:6: merged must be one of stop, delete, nothing.*"destroy"/,
      /yml:7: graceMinutes must be a whole number from 0 to 10080.*"soon"/,
      /yml:2: label is .*did you mean labels\?/,
    ].map(pattern => expect.stringMatching(pattern)),
  })
})

describe('a hostile file', () => {
  const lol = ['a: &a [x,x,x,x,x,x,x,x,x]']
  for (const [index, name] of [...'bcdefghi'].entries())
    lol.push(`${name}: &${name} [${Array(9).fill(`*${'abcdefgh'[index]}`).join(',')}]`)
  test.for([
    ['aliases of aliases', lol.join('\n'), /aliases/],
    ['endless nesting', `labels: ${'['.repeat(15_000)}`, /agent-swarm\.yml/],
    ['a large file', `# ${'x'.repeat(20_000)}`, /larger than 16000 characters/],
    ['names of inherited members', '__proto__: { projects: [SECRET] }\ntoString: 1\n', /toString is /],
    ['a tag that creates values', 'labels: !!js/undefined ""\n', /agent-swarm\.yml:1/],
    ['a regular expression', 'branches: ["(a+)+$[x"]\n', /is not a branch pattern/],
    ['control characters', 'labels: ["a\\e[31m b"]\n', /is not a Jira label/],
  ] as const)('%s', async ([, content, expected]) => {
    const { rules, problems } = await read(content)
    expect(rules).toBeNull()
    expect(problems.join()).toMatch(expected as RegExp)
    expect(problems.join('').length).toBeLessThan(4_000)
    expect(({} as Record<string, unknown>).projects).toBeUndefined()
  })
})

describe('agent-swarm.schema.json judges as the parser does', () => {
  const valid = new Ajv().compile(JSON.parse(documents['docs/agent-swarm.schema.json']?.() ?? ''))
  test.for([
    [{}, true],
    [{ projects: ['DROP'], size: { cpus: 4 }, keep: { days: 3 } }, true],
    [{ assignees: 'me' }, true],
    [{ assignees: ['5b10a'] }, true],
    [{ assignees: 'you' }, false],
    [{ size: { cpus: 0 } }, false],
    [{ size: { ram: 1 } }, false],
    [{ merged: 'destroy' }, false],
    [{ label: [] }, false],
    [{ commands: { delete: ['a b'] } }, false],
    [{ commands: { fly: ['octocat'] } }, false],
    [{ commands: { delete: ['octocat'] } }, true],
    [{ branches: ['a b'] }, false],
  ] as const)('%j', async ([given, expected]) => {
    expect(valid(given)).toBe(expected)
    expect((await read(JSON.stringify(given))).rules !== null).toBe(expected)
  })
})

test('workspace and agent: their errors are reported with the others, and the runner reads the same members', async () => {
  const bad = 'workspace:\n  setup: [npm]\n  path: ../x\nagent:\n  use: claude\n  minute: 5\nclosed: never\n'
  const { rules, problems } = await read(bad)
  expect(rules).toBeNull()
  expect(
    problems
      .map(problem =>
        problem
          .replace(/^[^:]*:/, '')
          .split(' ')
          .slice(0, 2)
          .join(' '),
      )
      .sort(),
  ).toEqual(['2: workspace.setup', '3: workspace.path', '5: agent.use', '6: agent.minute', '7: closed'])
  expect((await readProjectFile(bad)).problems).toHaveLength(4)
  expect(
    await readProjectFile('workspace: { setup: npm ci }\nagent: { rounds: 1 }\ncommands: { nonsense: 5 }\n'),
  ).toEqual({
    ...{ workspace: { setup: 'npm ci' }, agent: { rounds: 1 }, problems: [] },
  })
  expect(await readProjectFile('')).toEqual({ workspace: undefined, agent: undefined, problems: [] })
  expect((await readProjectFile('- a\n')).problems).toHaveLength(1)
})

test('a repository that wants no agent gets none', async () => {
  const operator: Rules = { ...standard, agent: { reporters: 'any', rounds: 0 } }
  expect((await readRepositoryFile('agent: { use: none }\n', operator)).rules?.agent).toBeNull()
})
