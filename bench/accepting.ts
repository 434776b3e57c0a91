/** (c) Deliveries accepted per second, signature checked and on disk, against Probot's own server with an empty handler. Both log as they do by default. */
import { spawn } from 'node:child_process'
import { createHmac, generateKeyPairSync } from 'node:crypto'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import examples from '@octokit/webhooks-examples' with { type: 'json' }
import type { Row } from './main.ts'
import { botEnvironment, entry, finish, median, withHome } from './measure.ts'

const ROUNDS = 7
const SECONDS = 2
const TARGETS = { 10: 0.9, 100: 1.2 } as const

/** GitHub's own recorded push (7 KB), to a branch of no ticket: accepted, decided, ignored. */
const recorded = (examples as unknown as { name: string; examples: Record<string, unknown>[] }[]).find(
  one => one.name === 'push',
)?.examples[0]
const body = JSON.stringify({ ...recorded, ref: 'refs/heads/main', after: 'a'.repeat(40), installation: { id: 1 } })
const signature = `sha256=${createHmac('sha256', 'bench-secret').update(body).digest('hex')}`

const serve = async (words: string[], environment: Record<string, string | undefined>) => {
  const child = spawn(process.execPath, words, { env: environment, stdio: ['ignore', 'ignore', 'pipe'] })
  const url = await new Promise<string>((resolve, reject) => {
    let said = ''
    child.stderr.on('data', chunk => {
      if (said.length < 10_000) said += chunk
      const found = said.match(/listens on (http:\S+)/)?.[1]
      if (found !== undefined) resolve(found)
    })
    child.on('exit', () => reject(new Error(said)))
  })
  return { url: `${url}/api/github/webhooks`, stop: () => child.kill('SIGKILL') }
}

/** Requests per second; the load comes from a process of its own, each request a delivery of its own. */
const load = async (url: string, connections: number): Promise<number> => {
  const autocannon = createRequire(import.meta.url).resolve('autocannon')
  const script = `
    const autocannon = require(${JSON.stringify(autocannon)})
    const { randomUUID } = require('node:crypto')
    autocannon({ url: ${JSON.stringify(url)}, connections: ${connections}, duration: ${SECONDS}, method: 'POST', body: ${JSON.stringify(body)},
      headers: { 'content-type': 'application/json', 'x-github-event': 'push', 'x-hub-signature-256': '${signature}' },
      requests: [{ setupRequest: request => ({ ...request, headers: { ...request.headers, 'x-github-delivery': randomUUID() } }) }],
    }, (error, result) => console.log(JSON.stringify(error ? { error: String(error) } : { ok: result['2xx'], bad: result.non2xx + result.errors, seconds: result.duration })))`
  const ran = await finish(process.execPath, ['-e', script])
  const told = JSON.parse(ran.stdout) as { ok: number; bad: number; seconds: number; error?: string }
  if (told.error !== undefined || told.bad > 0) throw new Error(`the load at ${url}: ${ran.stdout}`)
  return told.ok / told.seconds
}

export const accepting = (): Promise<Row[]> =>
  withHome(async home => {
    const { privateKey } = generateKeyPairSync('rsa', {
      modulusLength: 2048,
      privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
      publicKeyEncoding: { type: 'pkcs1', format: 'pem' },
    })
    const rows: Row[] = []
    for (const connections of [10, 100] as const) {
      const environment = { ...botEnvironment(join(home, String(connections)), privateKey), LOG_LEVEL: 'info' }
      const ours = await serve([entry, 'bot'], environment)
      const theirs = await serve([join(import.meta.dirname, 'probot-server.ts')], environment)
      try {
        const ratios: number[] = []
        const [mine, probots]: [number[], number[]] = [[], []]
        for (let round = 0; round < ROUNDS; round += 1) {
          const a = await load(ours.url, connections)
          const b = await load(theirs.url, connections)
          mine.push(a)
          probots.push(b)
          ratios.push(a / b)
        }
        const ratio = median(ratios)
        rows.push({
          row: 'c',
          what: `deliveries accepted per second / Probot's Server with an empty handler, ${connections} connections, median of ${ROUNDS}`,
          measured: `${ratio.toFixed(2)} (${Math.round(median(mine))} / ${Math.round(median(probots))} per s)`,
          target: `>= ${TARGETS[connections]}`,
          ok: ratio >= TARGETS[connections],
        })
      } finally {
        ours.stop()
        theirs.stop()
      }
    }
    return rows
  })
