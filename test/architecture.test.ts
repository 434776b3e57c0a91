/** The modules and what each may import, checked against the code's own imports. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '..')
const sources = new Map(
  ['handlers', 'providers', 'base-image', 'src'].flatMap(folder =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter(name => name.endsWith('.ts'))
      .map(name => join(folder, name))
      .map(file => [file, readFileSync(join(root, file), 'utf8')] as const),
  ),
)

/** `own`: a file of this project, as its path from the root; otherwise a package. */
type Import = { from: string; to: string; own: boolean }
const imports: Import[] = [...sources].flatMap(([file, text]) =>
  [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map(([, name = '']) => {
    const own = name.startsWith('.')
    return { from: file, to: own ? relative(root, resolve(root, dirname(file), name)) : name, own }
  }),
)
const breaches = (isBreach: (imported: Import) => boolean) =>
  imports.filter(isBreach).map(({ from, to }) => `${from} imports ${to}`)
const within = (path: string, ...folders: string[]) =>
  folders.some(folder => path === folder || path.startsWith(`${folder}/`))

/** Everything that these folders may import of our own; they may always import themselves. */
const mayImport = (folder: string, ...allowed: string[]) =>
  breaches(({ from, to, own }) => own && within(from, folder) && !within(to, folder, ...allowed))
/** What must stay outside these folders. */
const mayNotImport = (folder: string, ...forbidden: string[]) =>
  breaches(({ from, to, own }) => own && within(from, folder) && within(to, ...forbidden))

const PURE = ['src/domain.ts', 'src/branches.ts', 'src/errors.ts', 'src/nearest.ts', 'src/schema']

test('the sources are read', () => {
  expect(sources.size).toBeGreaterThan(100)
  expect(imports.length).toBeGreaterThan(300)
})

test('no import cycle, types included', () => {
  const targets = new Map([...sources.keys()].map(file => [file, [] as string[]]))
  for (const { from, to, own } of imports) if (own && sources.has(to)) targets.get(from)?.push(to)
  const done = new Set<string>()
  const cycles: string[] = []
  const visit = (file: string, path: readonly string[]) => {
    const at = path.indexOf(file)
    if (at !== -1) cycles.push([...path.slice(at), file].join(' > '))
    if (at !== -1 || done.has(file)) return
    for (const next of targets.get(file) ?? []) visit(next, [...path, file])
    done.add(file)
  }
  for (const file of sources.keys()) visit(file, [])
  expect(cycles).toEqual([])
})

test('handlers are pure: words, failures, schemas and helpers in; no disk, network, clock or chance', () => {
  expect(mayImport('handlers', ...PURE)).toEqual([])
  expect(breaches(({ from, to }) => within(from, 'handlers') && to.startsWith('node:'))).toEqual([])
  const impure = [...sources].filter(
    ([file, text]) =>
      within(file, 'handlers') && /\b(Date\.now|new Date\(\)|Math\.random|process\.|fetch\()/.test(text),
  )
  expect(impure.map(([file]) => file)).toEqual([])
})

test('providers know the words, the failures, the door to programs, locks, schema forms and the base image', () => {
  expect(
    mayImport(
      'providers',
      ...PURE,
      ...['check', 'exec', 'files', 'lock-file', 'shell-word'].map(name => `src/${name}.ts`),
      'base-image',
    ),
  ).toEqual([])
})

test('no provider knows another', () => {
  const provider = (path: string) => path.match(/^providers\/([^/]+)\//)?.[1]
  expect(
    breaches(
      ({ from, to }) => provider(from) !== undefined && provider(to) !== undefined && provider(from) !== provider(to),
    ),
  ).toEqual([])
})

test('only configuration, runner and CLI know the table of providers', () => {
  expect(
    breaches(({ from, to }) => to === 'providers/index.ts' && !within(from, 'src/config', 'src/runner', 'src/cli')),
  ).toEqual([])
})

test('the schemas know the words alone, and the words know only types of schemas', () => {
  expect(mayImport('src/schema', 'src/domain.ts', 'src/nearest.ts')).toEqual([])
})

test('only the bot and the schema of the CLI know handlers', () => {
  expect(
    breaches(({ from, to, own }) => own && within(to, 'handlers') && !within(from, 'handlers', 'src/bot', 'src/store')),
  ).toEqual([])
})

test("GitHub's and Jira's modules know no stage and not each other", () => {
  const stages = ['src/bot/inbox', 'src/bot/runners', 'src/bot/publish']
  expect(mayNotImport('src/bot/github', ...stages, 'src/bot/jira', 'src/bot/index.ts')).toEqual([])
  expect(mayNotImport('src/bot/jira', ...stages, 'src/bot/github', 'src/bot/index.ts')).toEqual([])
})

test('the stages know nothing of each other; only the wiring knows more than one', () => {
  const stages = ['src/bot/inbox', 'src/bot/runners', 'src/bot/publish']
  for (const stage of stages)
    expect(mayNotImport(stage, ...stages.filter(other => other !== stage), 'src/bot/index.ts')).toEqual([])
  const stagesOf = (file: string) =>
    new Set(imports.filter(({ from }) => from === file).flatMap(({ to }) => stages.filter(stage => within(to, stage))))
  const wiring = [...sources.keys()].filter(file => stagesOf(file).size > 1)
  expect(wiring).toEqual(['src/bot/index.ts'])
})

test('the runner holds no client of GitHub or Jira, and bot and runner do not know each other', () => {
  const clients = ['probot', 'octokit', '@octokit/rest', 'jira.js', 'jira.js/core']
  expect(breaches(({ from, to }) => clients.includes(to) && !within(from, 'src/bot'))).toEqual([])
  expect(mayNotImport('src/runner', 'src/bot', 'src/store')).toEqual([])
  expect(mayNotImport('src/bot', 'src/runner', 'src/registry', 'providers')).toEqual([])
  expect(mayNotImport('src/store', 'src/bot', 'src/runner', 'src/registry', 'providers')).toEqual([])
})

test('the selftest knows neither the bot nor the command line', () => {
  expect(mayNotImport('src/selftest', 'src/bot', 'src/store', 'src/cli')).toEqual([])
})

test('services know neither bot, runner nor command line', () => {
  expect(mayNotImport('src/service', 'src/bot', 'src/store', 'src/runner', 'src/registry', 'src/cli')).toEqual([])
})

test('one door to other programs', () => {
  const doors = ['execa', 'node:child_process', 'child_process']
  expect(breaches(({ from, to }) => doors.includes(to) && from !== 'src/exec.ts')).toEqual([])
})

test('one reader of the environment', () => {
  const readers = [...sources].filter(([, text]) =>
    /process\.env/.test(text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, '')),
  )
  expect(readers.map(([file]) => file)).toEqual(['src/config/config.ts'])
})

test('short commands load no schema: what they print is typed only', () => {
  const loading = [...sources].filter(([, text]) => /^import (?!type\b)[^']*'[./]+\/json\.ts'/m.test(text))
  expect(loading.map(([file]) => file)).toEqual([])
  expect(breaches(({ to }) => to === 'src/cli/json.ts').length).toBeGreaterThan(0)
})

/** What an import of this file loads at once: files of ours and packages; neither types nor what is imported later. */
const loadedBy = (entry: string): string[] => {
  const loaded = new Set<string>()
  const visit = (file: string) => {
    loaded.add(file)
    const text = sources.get(file)?.replaceAll(/\/\*[\s\S]*?\*\//g, '') ?? ''
    for (const [, names = '', name = ''] of text.matchAll(
      /^(?:import|export) (?!type\b)(?:([\w\s{},*$]+?) from )?'([^']+)'/gm,
    )) {
      const isTypes =
        /^\{[^}]*\}$/.test(names) &&
        names
          .slice(1, -1)
          .split(',')
          .every(each => /^\s*(type\s.*)?$/.test(each))
      const target = name.startsWith('.') ? relative(root, resolve(root, dirname(file), name)) : name
      if (!isTypes && !loaded.has(target)) visit(target)
    }
  }
  visit(entry)
  return [...loaded]
}

test('commands load projects, links and agents only where they are used', () => {
  const parts = [
    ...['project', 'link', 'git-gateway', 'model-gateway', 'requests', 'agent'].map(name => `src/runner/${name}`),
    'src/selftest',
  ]
  const schemas = ['workspace', 'repository-file', 'yaml'].map(name => `src/schema/${name}.ts`)
  const small = ['src/runner/project/access.ts', 'src/runner/link/guest-files.ts']
  const loading = (entry: string, ...packages: string[]) =>
    loadedBy(entry).filter(
      file =>
        packages.includes(file) ||
        (within(file, ...parts, ...schemas, 'src/cli/project-access.ts') && !small.includes(file)),
    )
  expect(loading('src/cli/main.ts', 'valibot', 'execa')).toEqual([])
  for (const command of ['list', 'status'])
    expect(loading(`src/cli/commands/${command}.ts`, 'yaml', 'execa'), command).toEqual([])
  // Their own words for phases, and whether an agent may run there, are a few lines each.
  const ofChanges = ['src/runner/project/phases.ts', 'src/runner/project/follow.ts', 'src/runner/agent/own-system.ts']
  expect(loading('src/cli/commands/changes.ts').sort()).toEqual(ofChanges.sort())
  expect(loadedBy('src/cli/commands/doctor.ts').filter(file => within(file, 'src/selftest'))).toEqual([])
  // The measure itself.
  expect(loadedBy('src/cli/selftest.ts')).toContain('src/selftest/promises.ts')
  expect(loadedBy('src/runner/project/read.ts')).toContain('valibot')
})

test('no class, no enum', () => {
  const found = [...sources].filter(([, text]) =>
    /^\s*(export\s+)?(abstract\s+)?(class|enum)\s/m.test(text.replaceAll(/\/\*[\s\S]*?\*\//g, '')),
  )
  expect(found.map(([file]) => file)).toEqual([])
})

/** Functions by indentation: from the line that declares one to the line that closes it. */
const functionLengths = (text: string): { name: string; lines: number }[] => {
  const lines = text.split('\n')
  const indent = (line: string) => line.length - line.trimStart().length
  return lines.flatMap((line, start) => {
    const [, name] = line.match(/^\s*(?:export )?(?:const (\w+)\b.*=|(?:async )?function (\w+))/)?.filter(Boolean) ?? []
    if (name === undefined) return []
    let end = start + 1
    const goesOn = (next: string) =>
      next.trim() === '' || indent(next) > indent(line) || /^\s*[)\]}]+.*(=>|\{)\s*$/.test(next)
    while (end < lines.length && goesOn(lines[end] ?? '')) end += 1
    const isFunction = /=>|function/.test(lines.slice(start, Math.min(end, start + 40)).join(' '))
    return isFunction ? [{ name, lines: end - start }] : []
  })
}

test('no function is over 120 lines', () => {
  const long = [...sources].flatMap(([file, text]) =>
    functionLengths(text)
      .filter(({ lines }) => lines > 120)
      .map(({ name, lines }) => `${file}: ${name} has ${lines} lines`),
  )
  expect(long).toEqual([])
  // The measure itself: a function of 121 lines is found.
  expect(functionLengths(`const long = () => {\n${'  step()\n'.repeat(120)}}\n`)).toEqual([
    { name: 'long', lines: 121 },
  ])
})

test('no test mocks a module: the files of a worker share modules, so the mock would stay for those after it', () => {
  const mocking = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts') && name !== 'architecture.test.ts')
    .filter(name => /\bvi\.(do)?mock\(/i.test(readFileSync(join(root, 'test', name), 'utf8')))
  expect(mocking).toEqual([])
})

test('whoever signs as GitHub does validates what is sent against the description, or sends nonsense on purpose', () => {
  const signers = ['test', 'demo'].flatMap(folder =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter(name => name.endsWith('.ts'))
      .map(name => join(folder, name))
      .filter(file => /['"]x-hub-signature-256['"]: /.test(readFileSync(join(root, file), 'utf8'))),
  )
  expect(signers.sort()).toEqual(['test/bot/http/server.test.ts', 'test/support/github-webhooks.ts'])
})

test('what takes all its samples when the run is long is part of the long run', () => {
  const run = readFileSync(join(root, 'scripts/test-long.sh'), 'utf8')
  const asks = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .map(name => join('test', name))
    .filter(file => file.endsWith('.test.ts') && /'[^']*\/samples\.ts'/.test(readFileSync(join(root, file), 'utf8')))
  expect(asks.length).toBeGreaterThan(5)
  expect(asks.filter(file => !run.includes(file) && file !== relative(root, import.meta.filename))).toEqual([])
})
