/** What rows with many deliveries share: a server process, deliveries of GitHub, and a process that sends them. */
import { spawn } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { createRequire } from 'node:module'
import examples from '@octokit/webhooks-examples' with { type: 'json' }
import { finish } from './measure.ts'

/** A push that GitHub recorded, 7 KB. */
const recorded = (examples as unknown as { name: string; examples: Record<string, unknown>[] }[]).find(
  example => example.name === 'push',
)?.examples[0]
export type Signed = { body: string; signature: string }
/** To a branch of no ticket: accepted, decided, ignored. */
export const push = (branch: string, more: object = {}, secret = 'bench-secret-of-16-characters'): Signed => {
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

export type Served = { url: string; pid: number | undefined; output: () => string; stop: () => void }
export const serve = async (words: string[], environment: Record<string, string | undefined>): Promise<Served> => {
  const child = spawn(process.execPath, words, { env: environment, stdio: ['ignore', 'ignore', 'pipe'] })
  let output = ''
  const url = await new Promise<string>((resolve, reject) => {
    child.stderr.on('data', chunk => {
      if (output.length < 1_000_000) output += chunk
      const url = output.match(/listens on (http:\S+)/)?.[1]
      if (url !== undefined) resolve(url)
    })
    child.on('exit', () => reject(new Error(output)))
  })
  return { url, pid: child.pid, output: () => output, stop: () => child.kill('SIGKILL') }
}

/** Sends the deliveries in turn, each with a new id, for `duration` seconds or `amount` times. `ok` counts the answers with 2xx. */
export const pound = async (
  url: string,
  load: { connections: number; deliveries: readonly Signed[] } & ({ duration: number } | { amount: number }),
): Promise<{ ok: number; bad: number; seconds: number }> => {
  const { deliveries, ...options } = load
  const autocannon = createRequire(import.meta.url).resolve('autocannon')
  const script = `
    const autocannon = require(${JSON.stringify(autocannon)})
    const { randomUUID } = require('node:crypto')
    autocannon({ url: ${JSON.stringify(`${url}/api/github/webhooks`)}, ...${JSON.stringify(options)}, method: 'POST',
      headers: { 'content-type': 'application/json', 'x-github-event': 'push' },
      requests: ${JSON.stringify(deliveries)}.map(({ body, signature }) => ({ body, setupRequest: request => ({ ...request,
        headers: { ...request.headers, 'x-hub-signature-256': signature, 'x-github-delivery': randomUUID() } }) })),
    }, (error, result) => console.log(JSON.stringify(error ? { error: String(error) } : { ok: result['2xx'], bad: result.non2xx + result.errors, seconds: result.duration })))`
  const ran = await finish(process.execPath, ['-e', script])
  const result = JSON.parse(ran.stdout) as { ok: number; bad: number; seconds: number; error?: string }
  if (result.error !== undefined) throw new Error(`loading ${url}: ${result.error}`)
  return result
}
