/** Whether the bot accepts this runner, as its answers say. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { openLog } from '../../src/log.ts'
import { openBotClient } from '../../src/runner/bot-client.ts'
import { fence } from '../../src/schema/runner-protocol.ts'

test('a token that was revoked closes what is done for the bot, once, until the bot accepts it again', async () => {
  let status = 204
  const server = createServer((request, response) => {
    request.resume()
    response.writeHead(status).end()
  })
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
  onTestFinished(() => void server.close())
  let closings = 0
  const bot = openBotClient({
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    ...{ token: 'the-token-of-a-runner', log: openLog('silent'), onClosed: () => (closings += 1) },
  })
  const post = async (answered: number) => {
    status = answered
    await bot.post('heartbeat', {}, fence, { signal: new AbortController().signal }).catch(() => {})
    return [bot.closed(), closings]
  }
  const revoked = expect.stringContaining('does not accept the token')
  expect(await post(204)).toEqual([null, 0])
  // A bot that has a problem, or lacks a right, says nothing about the token.
  expect(await post(503)).toEqual([null, 0])
  expect(await post(403)).toEqual([null, 0])
  expect(await post(401)).toEqual([revoked, 1])
  expect(await post(503)).toEqual([revoked, 1])
  expect(await post(401)).toEqual([revoked, 1])
  expect(await post(204)).toEqual([null, 1])
  expect(await post(401)).toEqual([revoked, 2])
})
