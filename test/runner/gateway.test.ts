/** What a runner takes for git from a bot, and from its operator. */
import * as v from 'valibot'
import { expect, onTestFinished, test } from 'vitest'
import { openLog } from '../../src/log.ts'
import type { BotClient } from '../../src/runner/bot-client.ts'
import { botTokens, openGateway, repositoryLimits } from '../../src/runner/gateway.ts'
import { REPOSITORY_LIMITS } from '../../src/runner/git-gateway/git.ts'
import { gitTokenResponse } from '../../src/schema/runner-protocol.ts'
import { openTestContext } from '../support/context.ts'

const answering = (host: string, botUrl: string) => {
  const bot = {
    post: async () => ({ token: 'ghs_x', host, expiresAt: '2026-11-28T12:00:00.000Z' }),
  } as unknown as BotClient
  const source = botTokens(bot, { runnerId: 'runner-1', botUrl }, new AbortController().signal)
  return source.tokenFor({ repo: 'acme/shop', ticket: 'DROP-1', need: 'read' })
}

test.for([
  ['https://github.com', 'https://bot.example.org', 'https://github.com/acme/shop.git'],
  ['https://git.example.org/', 'https://bot.example.org', 'https://git.example.org/acme/shop.git'],
  ['http://127.0.0.1:3000', 'http://127.0.0.1:4000', 'http://127.0.0.1:3000/acme/shop.git'],
] as const)('%s from %s', async ([host, botUrl, remoteUrl]) => {
  expect(await answering(host, botUrl)).toMatchObject({ token: 'ghs_x', remoteUrl })
})

test.for(['http://127.0.0.1:3000', 'https://localhost', 'http://[::1]:80', 'http://0x7f.1', 'no address'] as const)(
  'a bot elsewhere does not lead git to this host: %s',
  async host => {
    await expect(answering(host, 'https://bot.example.org')).rejects.toThrow('is on this host')
  },
)

test("an operator's limits hold for their repository, in whatever case it is written, and for no other", () => {
  const settings = { 'Acme/Assets': { pushMiB: 2, mirrorGiB: 40 }, 'acme/infra': { push: false } }
  expect(repositoryLimits(settings, 'acme/assets')).toEqual({
    push: true,
    pushBytes: 2 * 1024 ** 2,
    mirrorBytes: 40 * 1024 ** 3,
  })
  expect(repositoryLimits(settings, 'acme/infra')).toEqual({ ...REPOSITORY_LIMITS, push: false })
  expect(repositoryLimits(settings, 'acme/shop')).toEqual(REPOSITORY_LIMITS)
})

const answer = { token: 'ghs_x', host: 'https://github.com', expiresAt: '2026-11-28T12:00:00.000Z' }
test.for([
  ['what the bot says', { projects: ['WEB', 'DROP'] }, {}, ['WEB', 'DROP']],
  ['an earlier bot: the project of the ticket', {}, {}, ['DROP']],
  ['the list of this home, where it has one', { projects: ['WEB', 'DROP'] }, { DROP: ['acme/shop'] }, ['DROP']],
] as const)('the projects by which branches name their tickets: %s', async ([, said, own, projects]) => {
  const it = await openTestContext()
  onTestFinished(() => it.close())
  const serving = { repositories: ['acme/shop'], projects: own, mapped: [] }
  it.context.config = { ...it.context.config, serving }
  const bot = { post: async () => v.parse(gitTokenResponse, { ...answer, ...said }) } as unknown as BotClient
  const tokens = botTokens(
    bot,
    { runnerId: 'runner-1', botUrl: 'https://bot.example.org' },
    new AbortController().signal,
  )
  const gateway = openGateway(it.context, { log: openLog('silent'), tokens })
  onTestFinished(() => gateway.close())
  expect(await gateway.projectsOf({ ticket: 'DROP-1', repo: 'acme/Shop' })).toEqual(projects)
})

test('a bot cannot say anything but keys of projects', () =>
  expect(v.is(gitTokenResponse, { ...answer, projects: ['DROP', '.*'] })).toBe(false))
