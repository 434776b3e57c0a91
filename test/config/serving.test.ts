/** Which repositories may act, and on which projects. */
import { expect, test } from 'vitest'
import { readConfig } from '../../src/config/config.ts'
import {
  isListed,
  readServing,
  servedProjects,
  servingProblems,
  servingRepositories,
  servingWarnings,
} from '../../src/config/serving.ts'

test.for<[string, string[], string[], string, string[]]>([
  [
    'without maps, a listed repository serves every project',
    ['acme/shop'],
    ['DROP', 'WEB'],
    'acme/shop',
    ['DROP', 'WEB'],
  ],
  ['in any case', ['Acme/Shop'], ['drop'], 'acme/shop', ['DROP']],
  ['one that is not listed serves none', ['acme/shop'], ['DROP'], 'acme/api', []],
  ['one of another owner serves none', ['acme/*'], ['DROP:acme/*'], 'evil/shop', []],
  ['an owner whose name begins alike is another', ['acme/*'], ['DROP:acme/*'], 'acme2/shop', []],
  ['what only a * lets in serves no project without a map', ['acme/*', 'acme/shop'], ['DROP'], 'acme/api', []],
  ['what is listed by its name beside a * does', ['acme/*', 'acme/shop'], ['DROP'], 'acme/shop', ['DROP']],
  ['what only a * lets in serves what names it', ['acme/*'], ['DROP:acme/api', 'WEB:acme/shop'], 'acme/api', ['DROP']],
  ['a map leaves out the others', ['acme/shop', 'acme/api'], ['DROP:acme/api', 'WEB'], 'acme/shop', ['WEB']],
  ['a map with several', ['acme/shop', 'acme/api'], ['DROP:acme/api+acme/shop'], 'acme/shop', ['DROP']],
  ['a map with a *', ['acme/*'], ['DROP:acme/*'], 'acme/new', ['DROP']],
  ['a map with a * lets in nothing that is not listed', ['acme/shop'], ['DROP:acme/*'], 'acme/new', []],
  ['a project twice has both maps', ['a/b', 'a/c'], ['DROP:a/b', 'drop:a/c'], 'a/c', ['DROP']],
])('%s', ([, repositories, projects, repo, served]) =>
  expect(servedProjects([repo], readServing(repositories, projects))).toEqual(served),
)

test.for<[string, string[], string[], string[], string[]]>([
  [
    'in the order of the map',
    ['acme/api', 'acme/shop'],
    ['DROP:acme/shop+acme/api'],
    ['acme/shop', 'acme/api'],
    ['DROP'],
  ],
  ['without a map, those that are listed by name', ['acme/*', 'acme/shop'], ['DROP'], ['acme/shop'], []],
  ['all of an owner', ['acme/*'], ['DROP:acme/*'], ['acme/*'], ['DROP']],
  [
    'all of an owner, of whom two are listed',
    ['acme/a', 'acme/b', 'x/c'],
    ['DROP:acme/*'],
    ['acme/a', 'acme/b'],
    ['DROP'],
  ],
  ['what is not listed serves nothing', ['acme/a'], ['DROP:acme/b+acme/a'], ['acme/a'], ['DROP']],
  ['another project', ['acme/a'], ['WEB'], [], []],
])('who serves DROP: %s', ([, repositories, projects, served, mapped]) => {
  const serving = readServing(repositories, projects)
  expect([servingRepositories('DROP', serving), serving.mapped]).toEqual([served, mapped])
})

test('a repository is listed under a name that it had', () => {
  expect(isListed(['acme/new', 'acme/shop'], ['acme/shop'])).toBe(true)
  expect(isListed(['acme/new'], ['acme/shop'])).toBe(false)
})

test.for<[string, string[], string[], RegExp[]]>([
  ['all is served', ['acme/shop'], ['DROP', 'WEB:acme/shop'], []],
  ['a * alone', ['acme/*'], ['DROP'], [/no repository serves DROP.*JIRA_PROJECTS=DROP:acme\/shop/]],
  ['a map beside the list', ['acme/shop'], ['DROP:acme/api'], [/acme\/api shall serve DROP.*does not list it/]],
  ['a map of another owner', ['acme/shop'], ['DROP:evil/*'], [/evil\/\* shall serve DROP/]],
])('what stops the start: %s', ([, repositories, projects, expected]) => {
  const problems = servingProblems(readServing(repositories, projects))
  expect(problems).toEqual(expected.map(pattern => expect.stringMatching(pattern)))
})

test('a * in a map is a warning', () => {
  expect(servingWarnings(readServing(['acme/*'], ['DROP:acme/*', 'WEB:acme/shop']))).toEqual([
    expect.stringMatching(/every repository of acme serves DROP/),
  ])
})

const token = { AGENT_SWARM_HOME: '/nowhere', GITHUB_TOKEN: 't' }
test('the configuration reads both lists, and needs them with a token as with an App', async () => {
  const given = { ...token, GITHUB_REPOSITORIES: 'acme/shop,acme/*', JIRA_PROJECTS: 'drop:acme/shop+acme/api, WEB' }
  const config = await readConfig({}, given)
  expect(config).toMatchObject({
    projects: ['DROP', 'WEB'],
    serving: { projects: { DROP: ['acme/shop', 'acme/api'], WEB: ['acme/shop'] } },
    botProblems: [],
  })
  const without = await readConfig({}, { ...token, JIRA_PROJECTS: 'DROP' })
  expect(without.botProblems).toEqual([expect.stringMatching(/^GITHUB_REPOSITORIES is missing/)])
})

test.for([
  'DROP:',
  'DROP:shop',
  'DROP:acme/shop+',
  'DROP:acme/shop;acme/api',
  'DROP:*',
  'DROP:acme/sh*p',
  ':acme/shop',
])('a map that is not one is refused: %s', async projects => {
  await expect(readConfig({}, { ...token, GITHUB_REPOSITORIES: 'acme/shop', JIRA_PROJECTS: projects })).rejects.toThrow(
    /JIRA_PROJECTS\[0\] is not a Jira project key/,
  )
})
