/** The rooms and who may enter which, held against the code's own imports. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '..')
const rooms = ['handlers', 'providers', 'base-image', 'src']
const files = rooms.flatMap(room =>
  readdirSync(join(root, room), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts'))
    .map(name => join(room, name)),
)
const sources = new Map(files.map(file => [file, readFileSync(join(root, file), 'utf8')]))

type Import = { from: string; to: string; own: boolean }
const imports: Import[] = [...sources].flatMap(([file, text]) =>
  [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map(([, name = '']) => {
    const own = name.startsWith('.')
    return { from: file, to: own ? relative(root, resolve(root, dirname(file), name)) : name, own }
  }),
)
const breaking = (rule: (one: Import) => boolean) => imports.filter(rule).map(one => `${one.from} imports ${one.to}`)
const within = (path: string, ...folders: string[]) =>
  folders.some(folder => path === folder || path.startsWith(`${folder}/`))

test('the rooms are read at all', () => {
  expect(files.length).toBeGreaterThan(20)
  expect(imports.length).toBeGreaterThan(60)
})

test('handlers know the words and the failures, and nothing else of ours', () => {
  const allowed = ['handlers', 'src/domain.ts', 'src/errors.ts', 'src/nearest.ts']
  expect(breaking(one => within(one.from, 'handlers') && one.own && !within(one.to, ...allowed))).toEqual([])
})

test('handlers reach no disk, network or clock', () => {
  expect(breaking(one => within(one.from, 'handlers') && !one.own && one.to.startsWith('node:'))).toEqual([])
  const impure = [...sources].filter(
    ([file, text]) =>
      within(file, 'handlers') && /\b(Date\.now|new Date\(\)|Math\.random|process\.|fetch\()/.test(text),
  )
  expect(impure.map(([file]) => file)).toEqual([])
})

test('providers know the words, the failures, the door to programs and the base image', () => {
  const allowed = [
    ...['providers', 'base-image', 'src/domain.ts', 'src/errors.ts', 'src/exec.ts', 'src/files.ts'],
    'src/schema/forms.ts',
  ]
  expect(breaking(one => within(one.from, 'providers') && one.own && !within(one.to, ...allowed))).toEqual([])
})

test('one hypervisor does not know another', () => {
  const room = (path: string) => path.match(/^providers\/([^/]+)\//)?.[1]
  expect(
    breaking(one => room(one.from) !== undefined && room(one.to) !== undefined && room(one.from) !== room(one.to)),
  ).toEqual([])
})

test('only the bot knows the table of handlers; handlers and providers do not know each other', () => {
  expect(breaking(one => within(one.to, 'handlers') && one.own && !within(one.from, 'handlers', 'src/bot'))).toEqual([])
  expect(breaking(one => within(one.from, 'handlers') && within(one.to, 'providers'))).toEqual([])
})

test('only configuration, runner and CLI know the table of providers', () => {
  expect(
    breaking(one => one.to === 'providers/index.ts' && !within(one.from, 'src/config', 'src/runner', 'src/cli')),
  ).toEqual([])
})

test('the runner holds no GitHub or Jira client', () => {
  const outside = ['probot', 'octokit', '@octokit/rest', 'jira.js', 'jira.js/core']
  expect(breaking(one => outside.includes(one.to) && !within(one.from, 'src/bot'))).toEqual([])
  expect(breaking(one => within(one.from, 'src/runner') && within(one.to, 'src/bot'))).toEqual([])
  expect(
    breaking(
      one =>
        within(one.from, 'src/bot') && one.own && within(one.to, 'src/runner', 'src/registry/registry.ts', 'providers'),
    ),
  ).toEqual([])
})

test('one door to other programs', () => {
  expect(
    breaking(one => ['execa', 'node:child_process', 'child_process'].includes(one.to) && one.from !== 'src/exec.ts'),
  ).toEqual([])
})

test('one reader of the environment', () => {
  const readers = [...sources].filter(([, text]) =>
    /process\.env/.test(text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, '')),
  )
  expect(readers.map(([file]) => file)).toEqual(['src/config/config.ts'])
})

test('the forms of what commands print are types alone when one runs: short commands load no valibot', () => {
  const loading = [...sources].filter(([, text]) => /^import (?!type\b)[^']*'[./]+\/json\.ts'/m.test(text))
  expect(loading.map(([file]) => file)).toEqual([])
  expect(breaking(one => one.to === 'src/cli/json.ts').length).toBeGreaterThan(0)
})

test('no class, no enum', () => {
  const found = [...sources].filter(([, text]) =>
    /^\s*(export\s+)?(abstract\s+)?(class|enum)\s/m.test(text.replaceAll(/\/\*[\s\S]*?\*\//g, '')),
  )
  expect(found.map(([file]) => file)).toEqual([])
})

test('who signs as GitHub does holds what is sent against the description, or sends nonsense on purpose', () => {
  const signs = ['test', 'demo'].flatMap(room =>
    readdirSync(join(root, room), { recursive: true, encoding: 'utf8' })
      .filter(
        name =>
          name.endsWith('.ts') && /['"]x-hub-signature-256['"]: /.test(readFileSync(join(root, room, name), 'utf8')),
      )
      .map(name => join(room, name)),
  )
  expect(signs.sort()).toEqual(['test/bot/server.test.ts', 'test/support/github.ts'])
})
