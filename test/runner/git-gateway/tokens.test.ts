import { expect, test } from 'vitest'
import { openTokens } from '../../../src/runner/git-gateway/tokens.ts'

const MINUTE = 60_000
const need = { repo: 'acme/shop', ticket: 'DROP-1', need: 'read' as const }

const openStage = (lifetime: number | null) => {
  let now = 0
  let asked = 0
  const source = {
    tokenFor: async () => {
      asked += 1
      return {
        token: `token-${asked}`,
        username: 'x',
        expiresAt: lifetime === null ? null : now + lifetime,
        remoteUrl: 'https://github.com/acme/shop',
      }
    },
  }
  const tokens = openTokens(source, () => now)
  const wait = (ms: number) => {
    now += ms
  }
  return { tokens, wait, count: () => asked }
}

test('a token is kept for five minutes at most', async () => {
  const { tokens, wait, count } = openStage(60 * MINUTE)
  await tokens.tokenFor(need)
  wait(5 * MINUTE - 1)
  expect(await tokens.tokenFor(need)).toMatchObject({ token: 'token-1' })
  wait(1)
  expect(await tokens.tokenFor(need)).toMatchObject({ token: 'token-2' })
  expect(count()).toBe(2)
})

test('it is not used in the minute before it expires', async () => {
  const { tokens, wait } = openStage(3 * MINUTE)
  await tokens.tokenFor(need)
  wait(2 * MINUTE)
  expect(await tokens.tokenFor(need)).toMatchObject({ token: 'token-2' })
})

test("another ticket's, another repository's and another right's tokens are others", async () => {
  const { tokens, count } = openStage(null)
  for (const change of [{}, { ticket: 'DROP-2' }, { repo: 'acme/api' }, { need: 'write' as const }])
    await tokens.tokenFor({ ...need, ...change })
  expect(count()).toBe(4)
})

test('what a ticket had is forgotten, also what is under way', async () => {
  const { tokens } = openStage(null)
  const first = tokens.tokenFor(need)
  tokens.forget(ticket => ticket === 'DROP-1')
  await first
  expect(await tokens.tokenFor(need)).toMatchObject({ token: 'token-2' })
  tokens.forget(ticket => ticket === 'DROP-2')
  expect(await tokens.tokenFor(need)).toMatchObject({ token: 'token-2' })
})

test('what all tickets had is forgotten', async () => {
  const { tokens, count } = openStage(null)
  for (const ticket of ['DROP-1', 'DROP-2']) await tokens.tokenFor({ ...need, ticket })
  tokens.forget(() => true)
  for (const ticket of ['DROP-1', 'DROP-2']) await tokens.tokenFor({ ...need, ticket })
  expect(count()).toBe(4)
})
