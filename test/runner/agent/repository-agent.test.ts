import { expect, test } from 'vitest'
import { repositoryAgent } from '../../../src/runner/agent/repository-agent.ts'

/** A repository whose default branch has this file; null: it has none. */
const read = (file: string | null) => repositoryAgent({ readFile: async () => file })('acme/shop', 'DROP-1')

test('what the file says of agents', async () => {
  expect(await read(null)).toBeUndefined()
  expect(await read('workspace: { setup: npm ci }\n')).toBeUndefined()
  expect(await read('agent: { use: none }\ncommands: { nonsense: 5 }\n')).toEqual({ use: 'none' })
})

test.for([
  ['workspace: { setup: 5 }', /agent-swarm\.yml:2: workspace\.setup/],
  ['size: { cpus: many }', /agent-swarm\.yml:2: size\.cpus/],
  ['workspace: [', /agent-swarm\.yml:\d/],
  [`# ${'x'.repeat(16_000)}`, /larger than 16000 characters/],
] as const)('a file with an error is not one that says nothing: %#', async ([line, reason]) => {
  await expect(read(`agent: { use: none }\n${line}\n`)).rejects.toThrow(reason)
})
