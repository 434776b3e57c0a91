/** What is made of tables in the code is what the code says now, and the editor's schemas judge as the parser does. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Ajv } from 'ajv'
import { describe, expect, test } from 'vitest'
import { documents } from '../scripts/docs.ts'
import { settings } from '../src/settings.ts'

const root = resolve(import.meta.dirname, '..')

test.for(Object.keys(documents))('%s is as npm run docs writes it', name => {
  expect(readFileSync(join(root, name), 'utf8')).toBe(documents[name]?.())
})

test('nothing is left of what is made no more', () => {
  const made = readdirSync(join(root, 'docs/json')).map(name => `docs/json/${name}`)
  expect(made.filter(name => !(name in documents))).toEqual([])
})

describe('config.schema.json', () => {
  const schema = JSON.parse(documents['docs/config.schema.json']?.() ?? '')
  const valid = new Ajv().compile(schema)
  test('has every setting, with its meaning', () => {
    expect(Object.keys(schema.properties)).toEqual(Object.keys(settings))
    for (const { description } of Object.values<{ description: string }>(schema.properties))
      expect(description).toMatch(/\. Environment variable [A-Z_]+\.$/)
  })
  test('takes every example and every default', () => {
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
  ])('refuses %j', given => expect(valid(given)).toBe(false))
})
