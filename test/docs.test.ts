/** Generated docs are up to date, and the editor's schemas accept what the parser accepts. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Ajv } from 'ajv'
import { describe, expect, onTestFinished, test } from 'vitest'
import { documents } from '../scripts/docs.ts'
import { usageOf } from '../src/cli/command.ts'
import { commands } from '../src/cli/command-table.ts'
import { type Setting, settings } from '../src/config/settings.ts'
import { openRegistry } from '../src/registry/registry.ts'
import { openStore } from '../src/store/sqlite/index.ts'

const root = resolve(import.meta.dirname, '..')

test.for(Object.keys(documents))('%s is as npm run docs writes it', name => {
  expect(readFileSync(join(root, name), 'utf8')).toBe(documents[name]?.())
})

test('docs/json holds no other files', () => {
  const files = readdirSync(join(root, 'docs/json')).map(name => `docs/json/${name}`)
  expect(files.filter(name => !(name in documents))).toEqual([])
})

test('every object in docs/json is closed', () => {
  const open = (schema: unknown): unknown[] => {
    if (typeof schema !== 'object' || schema === null) return []
    const isOpen = 'properties' in schema && !('additionalProperties' in schema)
    return [...(isOpen ? [schema] : []), ...Object.values(schema).flatMap(open)]
  }
  for (const [name, content] of Object.entries(documents))
    if (name.startsWith('docs/json/')) expect([name, open(JSON.parse(content()))]).toEqual([name, []])
})

test.for([
  'README.md',
  'CHANGELOG.md',
  ...readdirSync(join(root, 'docs')).flatMap(name => (name.endsWith('.md') ? [`docs/${name}`] : [])),
])('every table of %s has a line of dashes under its header', name => {
  const lines = readFileSync(join(root, name), 'utf8')
    .replaceAll(/^ *```[\s\S]*?^ *```/gm, '')
    .split('\n')
    .map(line => line.trim())
  const headers = lines.flatMap((line, at) => (/^\|/.test(line) && !/^\|/.test(lines[at - 1] ?? '') ? [at] : []))
  expect(headers.filter(at => !/^\|(?:\s*:?-+:?\s*\|)+$/.test(lines[at + 1] ?? '')).map(at => lines[at])).toEqual([])
})

test('docs/operating.md says of every table how long its rows are kept', () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-docs-'))
  onTestFinished(() => rmSync(home, { recursive: true }))
  const page = readFileSync(join(root, 'docs/operating.md'), 'utf8')
  const [, section = ''] = page.match(/^## What is kept, and for how long\n([\s\S]*?)^##/m) ?? []
  const rows = section.split('\n')
  const missingIn = (name: string): string[] => {
    const db = new DatabaseSync(join(home, name), { readOnly: true })
    onTestFinished(() => db.close())
    const tables = db.prepare(`select name from sqlite_master where type = 'table' and name not glob 'sqlite_*'`).all()
    return tables
      .map(table => String(table.name))
      .filter(table => !rows.some(row => row.includes(`\`${name}\``) && row.includes(`\`${table}\``)))
  }
  openRegistry(join(home, 'registry.db')).close()
  openStore(join(home, 'bot.db'), Date.now).close()
  expect([missingIn('registry.db'), missingIn('bot.db')]).toEqual([[], []])
})

const has = (program: string) => spawnSync(program, ['--version']).status === 0

describe('the manual page', () => {
  const path = join(root, 'man/agent-swarm.1')
  test.skipIf(!has('groff'))('is rendered by groff without a warning, for every character set', () => {
    for (const device of ['utf8', 'ascii', 'latin1'])
      expect(spawnSync('groff', ['-man', `-T${device}`, '-ww', path], { encoding: 'utf8' })).toMatchObject({
        status: 0,
        stderr: '',
        stdout: expect.stringContaining('before-refactor'),
      })
  })
  test.skipIf(!has('man'))('shows every command with its options in man', () => {
    const { stdout } = spawnSync('man', ['-l', path], {
      encoding: 'utf8',
      env: { PATH: process.env.PATH, MANWIDTH: '200', MANPAGER: 'cat', LC_ALL: 'C.UTF-8', GROFF_NO_SGR: '1' },
    })
    // Bold characters are written twice.
    const page = stdout.replaceAll(/.[\b]/g, '')
    for (const [name, command] of Object.entries(commands)) {
      const [, section = ''] = page.split(`\n   ${usageOf(name, command)}\n`)
      const [text = ''] = section.split(/\n {3}(?=\S)|\n(?=\S)/)
      expect(text).toContain(command.example)
      for (const flag of Object.keys(command.options)) expect(text).toContain(`--${flag}`)
    }
  })
})

describe('config.schema.json', () => {
  const schema = JSON.parse(documents['docs/config.schema.json']?.() ?? '')
  const valid = new Ajv().compile(schema)
  test('describes every setting', () => {
    expect(Object.keys(schema.properties)).toEqual(Object.keys(settings))
    for (const [name, { env }] of Object.entries<Setting>(settings))
      if (env !== null) expect(schema.properties[name].description).toMatch(/\. Environment variable [A-Z_]+\.$/)
  })
  test('accepts every example and every default', () => {
    for (const [name, { example, ...row }] of Object.entries(settings)) {
      expect([name, valid({ [name]: example })]).toEqual([name, true])
      if ('default' in row) expect([name, valid({ [name]: row.default })]).toEqual([name, true])
    }
  })
  test.for([
    { prot: 1 },
    { port: 'x' },
    { port: 70_000 },
    { provider: 'vmware' },
    { jiraProjects: ['a-b'] },
    { jiraAssignees: 'you' },
  ])('refuses %j', settings => expect(valid(settings)).toBe(false))
})
