/** What rows that flood a bot share: a server as a process, deliveries of GitHub's, and the load, from a process of its own. */
import { spawn } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { createRequire } from 'node:module'
import examples from '@octokit/webhooks-examples' with { type: 'json' }
import { finish } from './measure.ts'

/** GitHub's own recorded push, 7 KB. */
const recorded = (examples as unknown as { name: string; examples: Record<string, unknown>[] }[]).find(
  one => one.name === 'push',
)?.examples[0]
export type Signed = { body: string; signature: string }
/** To a branch of no ticket: accepted, decided, ignored. */
export const push = (branch: string, more: object = {}, secret = 'bench-secret'): Signed => {
  const installation = { id: 1 }
  const body = JSON.stringify({
    ...recorded,
    ref: `refs/heads/${branch}`,
    after: 'a'.repeat(40),
    installation,
    ...more,
  })
  return { body, signature: `sha256=${createHmac('sha256', secret).update(body).digest('hex')}` }
}

export type Served = { url: string; pid: number | undefined; said: () => string; stop: () => void }
export const serve = async (words: string[], environment: Record<string, string | undefined>): Promise<Served> => {
  const child = spawn(process.execPath, words, { env: environment, stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  const url = await new Promise<string>((resolve, reject) => {
    child.stderr.on('data', chunk => {
      if (said.length < 1_000_000) said += chunk
      const found = said.match(/listens on (http:\S+)/)?.[1]
      if (found !== undefined) resolve(found)
    })
    child.on('exit', () => reject(new Error(said)))
  })
  return { url, pid: child.pid, said: () => said, stop: () => child.kill('SIGKILL') }
}

/** Sends these, one after the other, for a time or so often; each is a delivery of its own. `ok`: those that were answered 2xx. */
export const pound = async (
  url: string,
  load: { connections: number; deliveries: readonly Signed[] } & ({ duration: number } | { amount: number }),
): Promise<{ ok: number; bad: number; seconds: number }> => {
  const { deliveries, ...much } = load
  const autocannon = createRequire(import.meta.url).resolve('autocannon')
  const script = `
    const autocannon = require(${JSON.stringify(autocannon)})
    const { randomUUID } = require('node:crypto')
    autocannon({ url: ${JSON.stringify(`${url}/api/github/webhooks`)}, ...${JSON.stringify(much)}, method: 'POST',
      headers: { 'content-type': 'application/json', 'x-github-event': 'push' },
      requests: ${JSON.stringify(deliveries)}.map(({ body, signature }) => ({ body, setupRequest: request => ({ ...request,
        headers: { ...request.headers, 'x-hub-signature-256': signature, 'x-github-delivery': randomUUID() } }) })),
    }, (error, result) => console.log(JSON.stringify(error ? { error: String(error) } : { ok: result['2xx'], bad: result.non2xx + result.errors, seconds: result.duration })))`
  const ran = await finish(process.execPath, ['-e', script])
  const told = JSON.parse(ran.stdout) as { ok: number; bad: number; seconds: number; error?: string }
  if (told.error !== undefined) throw new Error(`the load at ${url}: ${told.error}`)
  return told
}
