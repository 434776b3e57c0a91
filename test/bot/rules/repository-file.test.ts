import { Ajv } from 'ajv'
import { describe, expect, test } from 'vitest'
import { documents } from '../../../scripts/docs.ts'
import { readRepositoryFile, standardRules } from '../../../src/bot/rules/repository-file.ts'

const standard = standardRules({ projects: ['DROP', 'WEB'], assignees: 'me', jiraCommanders: [] })
const read = (content: string) => readRepositoryFile(content, standard)

test('an empty file changes nothing', async () => {
  expect(await read('# nothing yet\n')).toEqual({ rules: standard, named: [], problems: [] })
})

test('everything that can be said', async () => {
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
`)
  expect(problems).toEqual([])
  expect(rules).toEqual({
    projects: ['DROP'],
    assignees: 'any',
    labels: ['agent'],
    branches: ['feature/*'],
    machine: { baseImage: 'node-24', cpus: 4, diskGiB: 60 },
    closed: 'nothing',
    merged: 'stop',
    done: 'delete',
    graceMinutes: 30,
    commands: { delete: ['octocat', 'mona_acme', 'acme/platform', 'jira:5b10'] },
    jiraCommanders: [],
    keep: { newest: 3, days: 14 },
  })
})

test('a project that the bot does not serve is left out, and told', async () => {
  expect(await read('projects: [WEB, SECRET]\n')).toMatchObject({
    rules: { projects: ['WEB'] },
    named: ['WEB', 'SECRET'],
    problems: ['.github/agent-swarm.yml:1: the bot does not serve the project SECRET (JIRA_PROJECTS); it is left out.'],
  })
  expect((await read('projects: [SECRET]\n')).rules?.projects).toEqual([])
})

test.for([['- closed: stop\n'], ['closed\n'], ['5\n']])(
  'what is no lines of settings is told: %j',
  async ([content]) => {
    expect(await read(content ?? '')).toMatchObject({
      rules: null,
      problems: ['.github/agent-swarm.yml must be lines of "name: value".'],
    })
  },
)

test('every mistake is told at once, with its line; and none of the file counts', async () => {
  expect(
    await read(`projects: [DROP, a-b]
label: [x]
size:
  cpus: 0
  ram: 4
merged: destroy
graceMinutes: soon
`),
  ).toEqual({
    rules: null,
    named: [],
    problems: [
      '.github/agent-swarm.yml:1: projects[1] is no project key of Jira, as DROP: "a-b".',
      '.github/agent-swarm.yml:4: size.cpus must be a whole number from 1 to 64, and is 0.',
      '.github/agent-swarm.yml:5: size.ram is no setting; there are cpus, memoryMiB, diskGiB.',
      '.github/agent-swarm.yml:6: merged must be one of stop, delete, nothing, and is "destroy".',
      '.github/agent-swarm.yml:7: graceMinutes must be a whole number from 0 to 10080, and is "soon".',
      '.github/agent-swarm.yml:2: label is no setting; did you mean labels?',
    ],
  })
})

describe('a hostile file', () => {
  const lol = ['a: &a [x,x,x,x,x,x,x,x,x]']
  for (const [at, name] of [...'bcdefghi'].entries())
    lol.push(`${name}: &${name} [${Array(9).fill(`*${'abcdefgh'[at]}`).join(',')}]`)
  test.for([
    ['aliases of aliases', lol.join('\n'), /aliases/],
    ['nesting without end', `labels: ${'['.repeat(15_000)}`, /agent-swarm\.yml/],
    ['more than a page', `# ${'x'.repeat(20_000)}`, /larger than 16000 characters/],
    ['names that objects inherit', '__proto__: { projects: [SECRET] }\ntoString: 1\n', /toString is no setting/],
    ['a tag that makes things', 'labels: !!js/undefined ""\n', /agent-swarm\.yml:1/],
    ['a regular expression', 'branches: ["(a+)+$[x"]\n', /is no pattern of a branch/],
    ['control characters', 'labels: ["a\\e[31m b"]\n', /is no label/],
  ] as const)('%s', async ([, content, expected]) => {
    const began = performance.now()
    const { rules, problems } = await read(content)
    expect(rules).toBeNull()
    expect(problems.join()).toMatch(expected)
    expect(problems.join('').length).toBeLessThan(4_000)
    expect(performance.now() - began).toBeLessThan(2_000)
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
