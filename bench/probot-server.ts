/** Probot with its defaults and a handler that does nothing: the reference for accepting deliveries. */

import { pino } from 'pino'
import { Probot, Server } from 'probot'

const log = pino({ level: 'info' })
const server = new Server({
  Probot: Probot.defaults({
    appId: 7,
    privateKey: process.env.PRIVATE_KEY ?? '',
    secret: 'bench-secret-of-16-characters',
    log: log as never,
  }),
  log: log as never,
  host: '127.0.0.1',
  port: 0,
  webhookPath: '/api/github/webhooks',
} as ConstructorParameters<typeof Server>[0])
await server.load(app => {
  app.on('push', () => {})
})
const listening = await server.start()
const address = listening.address()
process.stderr.write(
  `listens on http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}\n`,
)
