import { is } from 'valibot'
import { expect, test } from 'vitest'
import { parseAnswer, shown } from '../../../src/runner/project/guest.ts'
import { parseStep } from '../../../src/runner/project/steps.ts'
import { planWorkspace } from '../../../src/runner/project/workspace.ts'
import { repository } from '../../../src/schema/basics.ts'
import { readProjectFile } from '../../../src/schema/repository-file.ts'

const NOTHING = { workspace: undefined, problems: [] }
const plan = (files: Record<string, string>, hasMise = false) =>
  planWorkspace('acme/shop', undefined, NOTHING, { files: new Map(Object.entries(files)), hasMise })
const DEV = '.devcontainer/devcontainer.json'

test.for([
  ['a command line', '{"postCreateCommand": "npm ci && npm test"}', 'npm ci && npm test'],
  ['words', '{"postCreateCommand": ["echo", "$(id); \'x\'"]}', "echo '$(id); '\\''x'\\'''"],
  ['several', '{"postCreateCommand": {"a": "one", "b": ["two", "3"]}}', '(\none\n)\n(\ntwo 3\n)'],
  ['comments and commas', '{ // x\n /* y */ "postCreateCommand": "a // b", }', 'a // b'],
] as const)('postCreateCommand: %s', ([, text, commands]) =>
  expect(plan({ [DEV]: text }).setup).toEqual({ commands, source: DEV }),
)

test.for([
  ['nested deeply', '['.repeat(50_000)],
  ['huge', `{"postCreateCommand": "${'x'.repeat(200_000)}"}`],
  ['half', '{"postCreateCommand": '],
  ['a number', '{"postCreateCommand": 7}'],
  ['no words', '{"postCreateCommand": []}'],
  ['a NUL', '{"postCreateCommand": "a\\u0000b"}'],
  ['many', JSON.stringify({ postCreateCommand: Object.fromEntries(Array.from({ length: 51 }, (_, n) => [n, 'a'])) })],
] as const)('a devcontainer.json that cannot be taken is told: %s', ([, text]) => {
  const { setup, problems } = plan({ [DEV]: text })
  expect(setup).toBeNull()
  expect(problems).toEqual([expect.stringContaining(DEV)])
})

test.for([
  ['install of Cursor', { '.cursor/environment.json': '{"install": "make"}' }, false, '.cursor/environment.json'],
  [
    'a devcontainer without a command leaves it to Cursor',
    { [DEV]: '{}', '.cursor/environment.json': '{"install": "make"}' },
    false,
    '.cursor/environment.json',
  ],
  ['mise, before the rest', { 'mise.toml': '', [DEV]: '{"postCreateCommand": "make"}' }, true, `mise.toml and ${DEV}`],
  ['no mise in the machine', { '.tool-versions': 'node 24' }, false, undefined],
  ['nothing', {}, true, undefined],
] as const)('what is there: %s', ([, files, hasMise, source]) =>
  expect(plan(files, hasMise).setup?.source).toBe(source),
)

test('setup: "" of the repository or the operator means none', () => {
  const found = { files: new Map([[DEV, '{"postCreateCommand": "make"}']]), hasMise: false }
  const file = { workspace: { setup: 'a', start: 'b' }, problems: [] }
  expect(planWorkspace('acme/shop', { setup: ' ' }, file, found)).toMatchObject({
    setup: null,
    start: { commands: 'b', source: '.github/agent-swarm.yml' },
    path: '~/shop',
  })
})

test.for([
  ['cyclic', 'a: &a [*a]\nworkspace: {}'],
  ['a bomb', `a: &a [x]\n${Array.from({ length: 30 }, (_, n) => `b${n}: &b${n} [*a,*a]`).join('\n')}`],
  ['a path outside', 'workspace: {path: ../../etc}'],
  ['a pattern outside', 'workspace: {save: [../x]}'],
  ['a variable with a line break', 'workspace: {env: {A: "b\\nc"}}'],
] as const)('a hostile file counts for nothing, and is told: %s', async ([, text]) => {
  const { workspace, problems } = await readProjectFile(text)
  expect([workspace, problems.length > 0]).toEqual([undefined, true])
})

const NOW = new Date('2026-11-23T09:45:00Z')
test.for([
  ['done', 'ended 0 1700000000 1700000012', { state: 'done', exit: 0, seconds: 12 }],
  ['failed', 'ended 3 1700000000 1700000012', { state: 'failed', exit: 3, seconds: 12 }],
  ['a clock that went back', 'ended 0 1700000012 1700000000', { state: 'done', seconds: 0 }],
  ['running', 'running - 1700000000 -', { state: 'running', exit: null, seconds: null }],
  ['gone', 'gone - 1700000000 -', { state: 'failed', exit: null }],
  ['an exit status that does not exist', 'ended 999 1700000000 1700000012', { state: 'failed', exit: null }],
  [
    'a time that does not exist',
    'ended 0 999999999999999 1',
    { state: 'failed', exit: null, startedAt: NOW.toISOString() },
  ],
  ['anything', '\u001b[2J', { state: 'failed', exit: null }],
] as const)('what a machine says of a step: %s', ([, text, expected]) =>
  expect(parseStep(text, 'x', NOW)).toMatchObject({ source: 'x', ...expected }),
)

test.for([
  ['nothing', ''],
  ['no end', 'branch\tYQ==\n'],
  ['another line', 'branch\tYQ==\nhello\nend\n'],
  ['not base64', 'branch\t$(id)\nend\n'],
] as const)('an answer of a machine that is not understood: %s', ([, stdout]) =>
  expect(() => parseAnswer(stdout)).toThrow("the machine's answer"),
)

test('the reason of a machine moves no cursor', () => {
  const reason = Buffer.from('\u001b[31mno\r\n\u202eway').toString('base64')
  expect(() => parseAnswer(`failed\t${reason}\nend\n`)).toThrow('[31mno\n way')
  expect(shown('x'.repeat(50), 10)).toHaveLength(10)
})

test.for(['acme/..', 'acme/.', '../shop', 'acme/shop/x', '-acme/shop'])('%s is not a repository', name =>
  expect(is(repository, name)).toBe(false),
)
