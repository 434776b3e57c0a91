/** Redirects over real HTTP: to the same origin they are followed, to another one nothing is sent. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { unknown } from 'valibot'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openToken } from '../src/bot/github/token.ts'
import { openJira } from '../src/bot/jira/client.ts'
import { openLog } from '../src/log.ts'
import { openBotClient } from '../src/runner/bot-client.ts'
import { sameOriginFetch } from '../src/same-origin.ts'

type Received = { method: string | undefined; url: string | undefined; authorization: string | undefined; body: string }
const listen = async (handle: (received: Received) => { status: number; location?: string; body?: unknown }) => {
  const all: Received[] = []
  const server: Server = createServer(async (request, response) => {
    const { method, url, headers } = request
    const received = { method, url, authorization: headers.authorization, body: await text(request) }
    all.push(received)
    const { status, location, body } = handle(received)
    response.writeHead(status, { 'content-type': 'application/json', ...(location === undefined ? {} : { location }) })
    response.end(body === undefined ? '{}' : JSON.stringify(body))
  }).listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, all, close: () => server.closeAllConnections() ?? server.close() }
}
type Stand = Awaited<ReturnType<typeof listen>>
let elsewhere: Stand
let here: Stand
let redirect: { status: number; location: string }
beforeEach(async () => {
  elsewhere = await listen(() => ({ status: 200 }))
  here = await listen(({ url }) =>
    url?.startsWith('/moved') === true ? { status: 200, body: { moved: 1 } } : redirect,
  )
})
afterEach(() => {
  here.close()
  elsewhere.close()
})

describe('a redirect', () => {
  test.for([301, 302, 303, 307, 308])('%i to another origin is refused, and nothing is sent there', async status => {
    redirect = { status, location: `${elsewhere.url}/x` }
    await expect(sameOriginFetch(here.url, { headers: { authorization: 'secret' } })).rejects.toThrow(elsewhere.url)
    await expect(sameOriginFetch(here.url, { method: 'POST', body: 'secret' })).rejects.toThrow('another address')
    expect(elsewhere.all).toEqual([])
  })
  test('to the same origin is followed, with method and body by 307 and 308', async () => {
    redirect = { status: 301, location: '/moved' }
    expect(await (await sameOriginFetch(here.url)).json()).toEqual({ moved: 1 })
    redirect = { status: 307, location: '/moved' }
    await sameOriginFetch(here.url, { method: 'POST', body: 'all of it' })
    expect(here.all.at(-1)).toMatchObject({ method: 'POST', url: '/moved', body: 'all of it' })
    redirect = { status: 302, location: '/moved' }
    await expect(sameOriginFetch(here.url, { method: 'POST', body: 'x' })).rejects.toThrow('it redirects a POST (302)')
  })
  test('of a whole Request is followed with all of it, or not, as it says', async () => {
    redirect = { status: 308, location: '/moved' }
    const write = () => new Request(here.url, { method: 'POST', body: 'all of it', headers: { authorization: 'x' } })
    expect(await (await sameOriginFetch(write())).json()).toEqual({ moved: 1 })
    expect(here.all.map(({ method, url, body, authorization }) => [method, url, body, authorization])).toEqual([
      ['POST', '/', 'all of it', 'x'],
      ['POST', '/moved', 'all of it', 'x'],
    ])
    expect((await sameOriginFetch(new Request(here.url, { redirect: 'manual' }))).status).toBe(308)
    redirect = { status: 308, location: `${elsewhere.url}/x` }
    await expect(sameOriginFetch(write())).rejects.toThrow('another address')
    expect(elsewhere.all).toEqual([])
  })
  test('that goes in circles ends', async () => {
    redirect = { status: 302, location: '/again' }
    await expect(sameOriginFetch(here.url)).rejects.toThrow('more than 5 times')
    expect(here.all.length).toBeLessThan(10)
  })
})

describe('no credential follows a redirect', () => {
  beforeEach(() => {
    redirect = { status: 307, location: `${elsewhere.url}/stolen` }
  })
  test('of the runner', async () => {
    const bot = openBotClient({ url: here.url, token: 'the-token-of-a-runner', log: openLog('silent') })
    const { signal } = new AbortController()
    await expect(bot.post('heartbeat', {}, unknown(), { signal })).rejects.toThrow(elsewhere.url)
    expect(elsewhere.all).toEqual([])
  })
  test('of GitHub', async () => {
    const settings = { via: 'token', token: 'ghp_secret', repositories: [], apiUrl: here.url } as const
    await expect(openToken(settings, { log: openLog('silent'), paced: false }).login()).rejects.toThrow()
    expect([here.all.length > 0, elsewhere.all]).toEqual([true, []])
  })
  test('of Jira', async () => {
    const jira = openJira({
      url: here.url,
      email: 'dev@example.org',
      apiToken: 'secret',
      webhookSecret: null,
      automationSecret: null,
    })
    await expect(jira.me()).rejects.toThrow('cannot be reached')
    expect([here.all.length > 0, elsewhere.all]).toEqual([true, []])
  })
})
