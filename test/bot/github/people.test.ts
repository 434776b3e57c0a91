import { expect, test } from 'vitest'
import type { Octokit } from '../../../src/bot/github/client.ts'
import { accessOf } from '../../../src/bot/github/people.ts'

/** GitHub's answers about one account; counts the questions. */
const github = (role: string | null, isPrivate = false) => {
  const asked = { permission: 0, repository: 0 }
  const words: Record<string, string> = { triage: 'read', maintain: 'write' }
  const octokit = {
    rest: {
      repos: {
        getCollaboratorPermissionLevel: async () => {
          asked.permission += 1
          if (role === null) throw Object.assign(new Error('Not Found'), { status: 404 })
          return { data: { permission: words[role] ?? role, role_name: role, user: null } }
        },
        get: async () => {
          asked.repository += 1
          return { data: { private: isPrivate } }
        },
      },
    },
  } as unknown as Octokit
  return { octokit, asked }
}

test.for<[string | null, boolean, string, boolean]>([
  ['admin', false, 'admin', true],
  ['maintain', false, 'write', true],
  ['triage', false, 'read', true],
  ['read', false, 'read', false],
  ['read', true, 'read', true],
  ['none', true, 'none', false],
  [null, true, 'none', false],
])('%s, in a private repository: %s', async ([role, isPrivate, permission, isColleague]) => {
  const { octokit } = github(role, isPrivate)
  expect(await accessOf({}, octokit, 'acme/shop', 'dev', 0)).toEqual({ permission, isColleague })
})

test('an answer is remembered for ten minutes, for one account in one repository', async () => {
  const { octokit, asked } = github('read')
  const owner = {}
  const ask = (repo: string, login: string, at: number) => accessOf(owner, octokit, repo, login, at)
  for (let at = 0; at < 600_000; at += 1_000) await ask('acme/shop', 'dev', at)
  expect(asked).toEqual({ permission: 1, repository: 1 })
  await ask('acme/shop', 'Dev', 1)
  expect(asked.permission).toBe(1)
  await ask('acme/web', 'dev', 1)
  await ask('acme/shop', 'other', 1)
  expect(asked.permission).toBe(3)
  await ask('acme/shop', 'dev', 600_000)
  expect(asked.permission).toBe(4)
})

test.for([1, 400])('a clock that is set back or ahead by %i days keeps no permission for long', async days => {
  const { octokit, asked } = github('read')
  const owner = {}
  const now = 1_000 * 24 * 60 * 60_000
  await accessOf(owner, octokit, 'acme/shop', 'dev', now)
  await accessOf(owner, octokit, 'acme/shop', 'dev', now - days * 24 * 60 * 60_000)
  await accessOf(owner, octokit, 'acme/shop', 'dev', now + days * 24 * 60 * 60_000)
  expect(asked.permission).toBe(3)
})
