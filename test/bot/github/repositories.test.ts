/** Which repositories are watched, and whose. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openGitHub } from '../../../src/bot/github/open.ts'
import { openLog } from '../../../src/log.ts'
import { openStore } from '../../../src/store/sqlite/index.ts'
import { type GitHubStandIn, startGitHub, WEBHOOK_SECRET } from '../../support/github.ts'

let hub: GitHubStandIn
beforeAll(async () => {
  hub = await startGitHub({ more: ['api', 'site'] })
})
afterAll(() => hub.stop())

/** A log that keeps its warnings. */
const openWarnings = () => {
  const warnings: string[] = []
  const log = openLog('silent')
  return {
    warnings,
    log: Object.assign(Object.create(log), { warn: (_: object, text: string) => warnings.push(text) }),
  }
}
const watched = async (repositories: string[], via: 'app' | 'token') => {
  const { warnings, log } = openWarnings()
  const settings =
    via === 'token'
      ? ({ via, token: 'token-dev', repositories, apiUrl: hub.url } as const)
      : ({
          ...{ via, appId: hub.app.id, privateKey: hub.app.privateKey, webhookSecret: WEBHOOK_SECRET },
          ...{ repositories, apiUrl: hub.url },
        } as const)
  const store = openStore(':memory:', Date.now)
  const github = await openGitHub(settings, { log, paced: false, repositories: store.repositories })
  const names = (await github.repositories()).sort()
  await github.repositories()
  return { names, warnings }
}
const page = (full_names: string[], push = true) => ({
  match: /^GET \/user\/repos/,
  answer: {
    status: 200,
    body: full_names.map((full_name, id) => ({ id: id + 100, full_name, permissions: { push } })),
  },
})

test.for<['app' | 'token', string[], string[]]>([
  ['app', ['acme/shop'], ['acme/shop']],
  ['app', ['Acme/SHOP', 'acme/none'], ['acme/shop']],
  ['app', ['acme/*'], ['acme/api', 'acme/shop', 'acme/site']],
  ['token', ['acme/shop', 'acme/api'], ['acme/api', 'acme/shop']],
  ['token', ['acme/*'], ['acme/api', 'acme/shop', 'acme/site']],
  ['token', ['acme/*', 'acme/shop'], ['acme/api', 'acme/shop', 'acme/site']],
])('by %s, %j watches %j', async ([via, list, expected]) => expect((await watched(list, via)).names).toEqual(expected))

test('of a *, the 20 that were pushed to last are polled, and none of another owner', async () => {
  const many = Array.from({ length: 100 }, (_, n) => (n % 2 === 0 ? `acme/r${n}` : `evil/r${n}`))
  hub.faults.push(page(many), page(many))
  const { names } = await watched(['acme/*'], 'token')
  expect(names).toHaveLength(20)
  expect(names.every(name => name.startsWith('acme/'))).toBe(true)
})

test('an installation of another owner is refused, and logged once', async () => {
  expect(await watched(['other/shop'], 'app')).toEqual({
    names: [],
    warnings: ['an installation of the App on acme is refused: GITHUB_REPOSITORIES lists nothing of it'],
  })
})

test('a repository that was renamed is found under its listed name, which is told', async () => {
  const moved = { status: 200, body: { id: 900, full_name: 'acme/new-shop', private: true } }
  const { log, warnings } = openWarnings()
  const store = openStore(':memory:', Date.now)
  hub.faults.push({ match: /^GET \/repos\/acme\/old-shop$/, answer: moved })
  const settings = { via: 'token', token: 'token-dev', repositories: ['acme/old-shop'], apiUrl: hub.url } as const
  const github = await openGitHub(settings, { log, paced: false, repositories: store.repositories })
  expect(await github.repositories()).toEqual(['acme/new-shop'])
  expect(warnings).toEqual(['acme/old-shop is acme/new-shop now'])
  expect(await store.repositories.namesOf('acme/new-shop')).toEqual(['acme/new-shop', 'acme/old-shop'])
})
