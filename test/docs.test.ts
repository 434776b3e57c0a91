/** Generated docs are up to date, and the editor's schemas accept what the parser accepts. */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Ajv } from 'ajv'
import { describe, expect, test } from 'vitest'
import { documents } from '../scripts/docs.ts'
import { usageOf } from '../src/cli/command.ts'
import { commands } from '../src/cli/command-table.ts'
import { type Setting, settings } from '../src/config/settings.ts'

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
