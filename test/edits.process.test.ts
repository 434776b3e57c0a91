/** The lists of edits in docs/architecture.md: each is made, to the letter, in one copy of the tree, which must then be right. */
import { execFile, execFileSync } from 'node:child_process'
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'

vi.setConfig({ testTimeout: 300_000 })

const root = resolve(import.meta.dirname, '..')
type Edit = { list: string; step: string; path: string; where: string; anchor: string; text: string }

/** A numbered step that makes an edit: "New file `a`:", "At the end of `a`:", "In `a`, before the line `b`:". Its text is in the fence below. */
const STEP =
  /^(\d+)\. (?:(New file|At the end of) `([^`]+)`|In `([^`]+)`, (before|after|instead of) the line `([^`]+)`):\n\n +```\w+\n([\s\S]*?)^ +```$/gm

const readLists = (page: string): Map<string, Edit[]> => {
  const [, ...lists] = page.slice(page.indexOf('\n## Five changes\n')).split(/^### /m)
  return new Map(
    lists.map(text => {
      const [list = ''] = text.split('\n')
      const edits = [...text.matchAll(STEP)].map(
        ([, step = '', whole, wholePath, linePath, where, anchor = '', code = '']): Edit => ({
          ...{ list, step, anchor, path: wholePath ?? linePath ?? '', where: whole ?? where ?? '' },
          // A fence is indented as far as the text of its step.
          text: code.replaceAll(new RegExp(`^ {${step.length + 2}}`, 'gm'), ''),
        }),
      )
      const steps = [...text.matchAll(/^\d+\. (?!Run `npm run docs`\.$)/gm)]
      if (edits.length !== steps.length)
        throw new Error(`"${list}" has ${steps.length} steps, and ${edits.length} are edits`)
      return [list, edits]
    }),
  )
}

const makeEdit = (copy: string, { list, step, path, where, anchor, text }: Edit): void => {
  const file = join(copy, path)
  const wrong = (problem: string) => new Error(`"${list}", step ${step}: ${path} ${problem}`)
  if (where === 'New file') {
    if (existsSync(file)) throw wrong('exists already')
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
    return
  }
  if (!existsSync(file)) throw wrong('does not exist')
  if (where === 'At the end of') {
    appendFileSync(file, text)
    return
  }
  const lines = readFileSync(file, 'utf8').split('\n')
  const matching = lines.flatMap((line, index) => (line.trim() === anchor ? [index] : []))
  const [at] = matching
  if (at === undefined || matching.length > 1) throw wrong(`has ${matching.length} lines "${anchor}", not one`)
  lines.splice(where === 'after' ? at + 1 : at, where === 'instead of' ? 1 : 0, text.replace(/\n$/, ''))
  writeFileSync(file, lines.join('\n'))
}

const lists = readLists(readFileSync(join(root, 'docs/architecture.md'), 'utf8'))
const edits = [...lists.values()].flat()
const listsOf = (output: string) =>
  [...lists].filter(([, all]) => all.some(({ path }) => output.includes(path))).map(([list]) => list)

let copy: string
const run = (program: string, ...argv: string[]): Promise<string> =>
  new Promise((done, failed) => {
    const env = {
      ...process.env,
      PATH: `${join(root, 'node_modules/.bin')}${delimiter}${process.env.PATH}`,
      NO_COLOR: '1',
      FORCE_COLOR: undefined,
    }
    execFile(program, argv, { cwd: copy, env, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      const output = `${stdout}${stderr}`
      if (error === null) done(output)
      else
        failed(
          new Error(
            `${program} after the lists ${listsOf(output).join(', ') || '(unknown)'}:\n${output.slice(0, 10_000)}`,
          ),
        )
    })
  })

beforeAll(async () => {
  copy = mkdtempSync(join(tmpdir(), 'agent-swarm-edits-'))
  const files = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
  })
  for (const file of files.split('\0'))
    if (file !== '' && existsSync(join(root, file))) cpSync(join(root, file), join(copy, file))
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'))
})
afterAll(() => rmSync(copy, { recursive: true, force: true }))

test('five lists make their edits', async () => {
  expect([...lists.keys()]).toHaveLength(5)
  for (const all of lists.values()) expect(all.at(-1)?.path).toMatch(/^test\/.*\.test\.ts$/)
  for (const edit of edits) makeEdit(copy, edit)
  await run('node', 'scripts/docs.ts')
})

const code = edits.map(({ path }) => path).filter(path => path.endsWith('.ts'))

test.for<[string, ...string[]]>([
  // Several threads would do the same work several times.
  ['tsc', '--noEmit', '--singleThreaded'],
  ['biome', 'ci', '--error-on-warnings', ...new Set(code)],
  ['knip'],
])('after the edits, %s has no complaint', async ([program, ...argv]) => {
  await run(program, ...argv)
})

test('after the edits, the tests that they add or edit pass, and so do those of the modules', async () => {
  const tests = ['test/architecture.test.ts', ...code.filter(path => path.endsWith('.test.ts'))]
  await run('vitest', 'run', '--project', 'unit', '--maxWorkers', '1', '--reporter', 'dot', ...tests)
})
