import { expect, test } from 'vitest'
import { checkServes, projectFor } from '../../src/cli/project-choice.ts'
import { readServing } from '../../src/config/serving.ts'

const clone = (repo: string) => ({ project: { repo, branch: null, summary: null } })
const none = { noProject: expect.stringContaining('agent-swarm create DROP-1 --repo ') }

test.for([
  ['the only one', ['acme/shop'], ['DROP'], clone('acme/shop')],
  ['the first of the map', ['acme/shop', 'acme/api'], ['DROP:acme/api+acme/shop'], clone('acme/api')],
  ['several without a map', ['acme/shop', 'acme/api'], ['DROP'], none],
  ['all of an owner', ['acme/*'], ['DROP:acme/*'], none],
  ['another project', ['acme/shop'], ['WEB'], {}],
  ['no repository', [], ['DROP'], {}],
] as const)('the project of a machine: %s', ([, repositories, projects, expected]) =>
  expect(projectFor('DROP-1', readServing(repositories, projects))).toEqual(expected),
)

test('a repository that serves the ticket, or of which nothing is known, may be named; another one is refused', () => {
  const serving = readServing(['acme/shop', 'acme/api'], ['DROP', 'WEB:acme/api'])
  expect(() => checkServes('DROP-1', 'Acme/Shop', serving)).not.toThrow()
  expect(() => checkServes('DROP-1', 'acme/shop', readServing([], []))).not.toThrow()
  expect(() => checkServes('WEB-1', 'acme/shop', serving)).toThrow('acme/shop does not serve WEB. These do: acme/api')
})
