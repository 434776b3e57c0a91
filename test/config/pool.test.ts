/** The setting `pool`, as an operator writes it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readConfig } from '../../src/config/config.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-config-'))
})
afterEach(() => rmSync(home, { recursive: true, force: true }))

const read = (yaml: string, environment: Record<string, string> = {}) => {
  writeFileSync(join(home, 'config.yaml'), yaml, { mode: 0o600 })
  return readConfig({}, { AGENT_SWARM_HOME: home, ...environment })
}

test('without it, nothing is kept ready', async () => {
  expect((await read('')).pool).toEqual([])
})

test('an image or a repository, with defaults', async () => {
  expect((await read('pool: [{image: node-24}, {repository: acme/shop, ready: 3, hold: disk}]')).pool).toEqual([
    { image: 'node-24', repository: null, ready: 1, most: 3, hold: 'memory' },
    { image: null, repository: 'acme/shop', ready: 3, most: 5, hold: 'disk' },
  ])
})

test.for<[string, string, string]>([
  ['neither', 'pool: [{ready: 2}]', 'must name an image or a repository, and not both'],
  ['both', 'pool: [{image: a, repository: acme/shop}]', 'must name an image or a repository, and not both'],
  ['more ready than there may be', 'pool: [{image: a, ready: 3, most: 2}]', 'must have `most` no smaller than `ready`'],
  [
    'the same one twice',
    'pool: [{repository: acme/shop}, {repository: Acme/Shop}]',
    'names an image or a repository twice',
  ],
  ['another place', 'pool: [{image: a, hold: cloud}]', 'must be one of memory, disk'],
  ['an unknown member', 'pool: [{image: a, redy: 2}]', 'did you mean ready?'],
  ['no list', 'pool: {image: a}', 'must be a list'],
])('%s is refused', async ([, yaml, message]) => {
  await expect(read(yaml)).rejects.toThrow(message)
})

test('a repository that may not act at all keeps the bot from starting', async () => {
  const { botProblems } = await read('pool: [{repository: acme/shop}, {repository: acme/api}]', {
    ...{ GITHUB_TOKEN: 'github_pat_x', GITHUB_REPOSITORIES: 'acme/api', JIRA_PROJECTS: 'DROP' },
  })
  expect(botProblems).toEqual(['pool: GITHUB_REPOSITORIES does not list acme/shop. Add it there, or remove it here.'])
})
