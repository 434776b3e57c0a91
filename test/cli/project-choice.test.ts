import { expect, test } from 'vitest'
import { projectFor } from '../../src/cli/project-choice.ts'
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
