/**
 * The package that `npm pack` makes, installed into an empty prefix and used from there.
 *
 * npm cannot resolve dependencies without a network. So it installs the tarball without dependencies in its package.json, and
 * the declared ones are linked from the checkout by name: an undeclared import fails. With AGENT_SWARM_TEST_INSTALL=registry
 * npm installs the tarball as it is, with its dependencies from the registry.
 */
import { execFile, execFileSync, spawn } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { baseScript, setupScript } from '../../base-image/scripts.ts'
import { until } from '../support/wait.ts'

const root = resolve(import.meta.dirname, '../..')
const fromRegistry = process.env.AGENT_SWARM_TEST_INSTALL === 'registry'
const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-package-'))
const prefix = join(folder, 'prefix')
const installed = join(prefix, 'lib/node_modules/agent-swarm')
const command = join(prefix, 'bin/agent-swarm')
const home = join(folder, 'state')
/** Node 24 is the first on PATH, as for everybody who installs it. */
const environment = {
  PATH: [dirname(process.execPath), join(prefix, 'bin'), '/usr/bin', '/bin'].join(delimiter),
  HOME: folder,
  AGENT_SWARM_HOME: home,
  AGENT_SWARM_PROVIDER: 'synthetic',
}
const npm = (words: string[], cwd: string) =>
  execFileSync('npm', [...words, '--no-audit', '--no-fund', '--no-update-notifier'], { cwd, encoding: 'utf8' })
type Ran = { code: number; stdout: string; stderr: string }
const swarm = (...words: string[]): Promise<Ran> => swarmWith({}, ...words)
const swarmWith = (more: Record<string, string>, ...words: string[]): Promise<Ran> =>
  new Promise(done => {
    execFile(command, words, { cwd: tmpdir(), env: { ...environment, ...more } }, (error, stdout, stderr) =>
      done({ stdout, stderr, code: error === null ? 0 : ((error.code as unknown as number) ?? 1) }),
    )
  })
const filesIn = (path: string): string[] =>
  readdirSync(path, { recursive: true, encoding: 'utf8' }).filter(name => statSync(join(path, name)).isFile())
const changes = () => execFileSync('git', ['status', '--porcelain'], { cwd: root, encoding: 'utf8' })

let packed: { size: number; unpackedSize: number; files: string[] }
let before: string
beforeAll(() => {
  before = changes()
  npm(['pack', '--pack-destination', folder], root)
  const tarball = join(folder, 'agent-swarm-0.1.0.tgz')
  execFileSync('tar', ['-xzf', tarball, '-C', folder])
  const unpacked = join(folder, 'package')
  const files = filesIn(unpacked)
  const bytes = files.reduce((sum, file) => sum + statSync(join(unpacked, file)).size, 0)
  packed = { size: statSync(tarball).size, unpackedSize: bytes, files }
  if (fromRegistry) {
    npm(['install', '--global', '--prefix', prefix, tarball], folder)
    return
  }
  const { dependencies, ...rest } = JSON.parse(readFileSync(join(unpacked, 'package.json'), 'utf8'))
  const alone = join(folder, 'alone')
  cpSync(unpacked, join(alone, 'package'), { recursive: true })
  writeFileSync(join(alone, 'package/package.json'), JSON.stringify(rest))
  execFileSync('tar', ['-czf', join(folder, 'alone.tgz'), '-C', alone, 'package'])
  npm(['install', '--global', '--offline', '--prefix', prefix, join(folder, 'alone.tgz')], folder)
  for (const name of Object.keys(dependencies)) {
    const link = join(installed, 'node_modules', name)
    mkdirSync(dirname(link), { recursive: true })
    symlinkSync(join(root, 'node_modules', name), link)
  }
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

test('it holds the files that are needed, and no others', () => {
  const sources = ['handlers', 'providers', 'base-image', 'src'].flatMap(folder =>
    filesIn(join(root, folder)).map(file => join(folder, file)),
  )
  // The schemas of what commands print are only types at run time.
  const needed = sources.filter(file => file !== 'src/cli/json.ts')
  const compiled = needed.flatMap(file =>
    file.endsWith('.ts') ? [file.replace(/\.ts$/, '.js'), file.replace(/\.ts$/, '.js.map')] : [file],
  )
  expect(packed.files.sort()).toEqual(
    [
      'CHANGELOG.md',
      'LICENSE',
      'README.md',
      'app.yml',
      'bin/agent-swarm.js',
      'man/agent-swarm.1',
      'package.json',
      // The pages, and the schemas for editors and programs.
      ...filesIn(join(root, 'docs')).map(file => join('docs', file)),
      ...readdirSync(join(root, 'completions')).map(file => join('completions', file)),
      ...compiled.map(file => join('dist', file)),
      // What the runner puts into each machine.
      ...['git-remote-agent-swarm', 'link.sh', 'mcp.mjs', 'swarm'].map(file => join('dist/guest', file)),
    ].sort(),
  )
  expect(packed.size).toBeLessThan(2_700_000)
  expect(packed.unpackedSize).toBeLessThan(10_500_000)
})

test('its pages link to files in it, except for source folders', () => {
  const pages = packed.files.filter(file => file.endsWith('.md'))
  const links = pages.flatMap(page =>
    [...readFileSync(join(folder, 'package', page), 'utf8').matchAll(/\]\((?![a-z]+:|#)([^)#]+)/g)].map(([, to = '']) =>
      join(dirname(page), to),
    ),
  )
  expect(links.length).toBeGreaterThan(20)
  const sources = /^(handlers|providers|base-image|src)(\/|$)/
  const paths = [...packed.files, ...packed.files.map(dirname)]
  expect(links.filter(to => !sources.test(to) && !paths.includes(to))).toEqual([])
})

test('every script has a source map with its TypeScript, and names no path outside the package', () => {
  const scripts = packed.files.filter(file => file.startsWith('dist/') && file.endsWith('.js'))
  for (const script of scripts) {
    const text = readFileSync(join(folder, 'package', script), 'utf8')
    expect(text).toMatch(new RegExp(`//# sourceMappingURL=${script.split('/').at(-1)}\\.map\\s*$`))
    const map = JSON.parse(readFileSync(join(folder, 'package', `${script}.map`), 'utf8'))
    const source = script.replace(/^dist\//, '').replace(/\.js$/, '.ts')
    expect(map.sourcesContent).toEqual([readFileSync(join(root, source), 'utf8')])
    expect(map.sources.map((path: string) => join(dirname(script), path))).toEqual([source])
    expect([map.sourceRoot ?? '', text.includes(root)]).toEqual(['', false])
  }
})

test('man finds the manual page', () => {
  const page = realpathSync(join(prefix, 'share/man/man1/agent-swarm.1'))
  expect(page).toBe(realpathSync(join(installed, 'man/agent-swarm.1')))
})

test('packing does not change the checkout', () => expect(changes()).toBe(before))

test('it imports exactly the packages that it declares', () => {
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const imported = packed.files
    .filter(file => file.endsWith('.js'))
    .flatMap(file => [
      ...readFileSync(join(folder, 'package', file), 'utf8').matchAll(
        /(?:^import .*from |^import |\bimport\(|\brequire\()'([^'.][^']*)'/gm,
      ),
    ])
    .map(([, name = '']) => name)
    .filter(name => !name.startsWith('node:'))
    .map(name => name.match(/^(@[^/]+\/)?[^/]+/)?.[0])
  expect([...new Set(imported)].sort()).toEqual(Object.keys(dependencies).sort())
})

test('--version and --help work, and create no folder', async () => {
  expect(await swarm('--version')).toEqual({ code: 0, stdout: '0.1.0\n', stderr: '' })
  expect(existsSync(home)).toBe(false)
  expect((await swarm('--help')).stdout).toContain('create ')
})

test('--version loads nothing', async () => {
  const cache = join(folder, 'compiled')
  expect(await swarmWith({ NODE_COMPILE_CACHE: cache }, '--version')).toMatchObject({ code: 0 })
  // Only the entry was compiled. npm run bench -- b measures the time.
  expect(filesIn(cache)).toHaveLength(1)
})

test('it creates, lists and deletes a machine', async () => {
  expect(await swarm('list', '--json')).toEqual({ code: 0, stdout: '[]\n', stderr: '' })
  expect(await swarm('create', 'DROP-1')).toMatchObject({ code: 0, stdout: expect.stringContaining('as-drop-1-') })
  expect(JSON.parse((await swarm('list', '--json')).stdout)).toMatchObject([{ ticket: 'DROP-1', status: 'running' }])
  expect(await swarm('ssh', 'DROP-1', '--', 'echo $((6 * 7))')).toMatchObject({ code: 0, stdout: '42\n' })
  expect(await swarm('delete', 'DROP-1')).toMatchObject({ code: 0 })
})

test('it loads and asks every hypervisor', async () => {
  const { stdout, code } = await swarm('providers', '--json')
  expect(code).toBe(0)
  expect(JSON.parse(stdout)).toContainEqual(expect.objectContaining({ name: 'kvm', capabilities: expect.any(Array) }))
})

test('a stack names the lines of the TypeScript', async () => {
  // Prints the stack of each write to stdout.
  const hook = 'process.stdout.write = () => process.stderr.write(new Error().stack)'
  const { stderr } = await swarmWith(
    { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(hook)}` },
    'list',
    '--json',
  )
  const [, line] = stderr.match(/\/src\/cli\/terminal\/output\.ts:(\d+):\d+/) ?? []
  expect(readFileSync(join(root, 'src/cli/terminal/output.ts'), 'utf8').split('\n')[Number(line) - 1]).toContain(
    'stdout.write',
  )
})

test('it finds the installed scripts of the base image', async () => {
  const scripts = await import(pathToFileURL(join(installed, 'dist/base-image/scripts.js')).href)
  for (const file of ['contents.sh', 'seal.sh'] as const) expect(scripts.baseScript(file)).toBe(baseScript(file))
  expect(scripts.setupScript({ profile: 'full', extra: [] })).toBe(setupScript({ profile: 'full', extra: [] }))
})

test('it proves a provider by itself', async () => {
  const { code, stdout } = await swarm('doctor', '--selftest')
  expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/✓ .*deleting removes everything/) })
})

test('up is healthy, and ends at SIGTERM', async () => {
  const child = spawn(command, ['up', '--port', '0'], {
    env: {
      ...environment,
      JIRA_HOST: 'http://127.0.0.1:9',
      JIRA_EMAIL: 'a@example.org',
      JIRA_API_TOKEN: 'x',
      JIRA_PROJECTS: 'DROP',
      JIRA_WEBHOOK_SECRET: 'x-secret-of-16-characters',
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let output = ''
  child.stderr.on('data', chunk => {
    output += chunk
  })
  try {
    const url = await until('up to be up', () => output.match(/listens on (http:[^\s,]+)/)?.[1])
    expect((await fetch(`${url}/healthz`)).status).toBe(200)
  } finally {
    const gone = new Promise(done => child.once('exit', done))
    child.kill('SIGTERM')
    expect(await gone).toBe(0)
  }
})
