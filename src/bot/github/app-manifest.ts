/**
 * Makes a GitHub App of app.yml, with its owner's consent in the browser: a page on loopback hands the manifest to GitHub,
 * GitHub sends the browser back with a code, and the code is exchanged for the App's id, key and secret. The page is there
 * for this once. https://docs.github.com/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
 */
import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Octokit } from '@octokit/rest'
import { fail } from '../../errors.ts'
import { isToken } from '../http/signature.ts'
import { readManifest } from './check.ts'
import { githubFailure, watchedFetch, webUrlOf } from './client.ts'

/** As long as GitHub takes the code. */
const WITHIN_MS = 60 * 60_000
const CODE = /^[A-Za-z0-9_-]{1,100}$/

export type MadeApp = { appId: number; privateKey: string; webhookSecret: string; page: string }

const attribute = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
const page = (body: string) =>
  `<!doctype html><meta charset="utf-8"><title>agent-swarm</title><body style="font:1.1em system-ui;margin:4em auto;max-width:36em">${body}`

/** `publicUrl` is where GitHub reaches the bot. `tell` is given the address to open. */
export const makeApp = async ({
  apiUrl,
  publicUrl,
  organization,
  tell,
  signal,
}: {
  apiUrl: string | null
  publicUrl: string
  /** Who owns the App; null: whoever is logged in. */
  organization: string | null
  tell: (address: string) => void
  signal: AbortSignal
}): Promise<MadeApp> => {
  const state = randomBytes(32).toString('base64url')
  const start = `/${randomBytes(16).toString('base64url')}`
  const web = webUrlOf(apiUrl)
  const owner = organization === null ? '' : `/organizations/${encodeURIComponent(organization)}`
  const octokit = new Octokit({
    ...(apiUrl === null ? {} : { baseUrl: apiUrl }),
    request: { fetch: watchedFetch(null).fetch },
    log: { debug() {}, info() {}, warn() {}, error() {} },
  })
  const manifest = await readManifest()
  const { promise: made, resolve, reject } = Promise.withResolvers<MadeApp>()

  let own = ''
  const answer = (response: ServerResponse, status: number, body: string, headers: Record<string, string> = {}) =>
    response
      .writeHead(status, {
        'content-type': 'text/html; charset=utf-8',
        'cache-control': 'no-store',
        'referrer-policy': 'no-referrer',
        'content-security-policy': `default-src 'none'; style-src 'unsafe-inline'; form-action ${web}`,
        connection: 'close',
        ...headers,
      })
      .end(page(body))

  let taken = false
  const exchange = async (code: string, response: ServerResponse) => {
    taken = true
    try {
      const { data } = await octokit.rest.apps.createFromManifest({ code })
      const { id, pem, webhook_secret, html_url } = data
      if (webhook_secret === null) throw fail('refused', 'making the App: GitHub gave it no webhook secret')
      answer(response, 303, 'Go on to install it.', { location: `${html_url}/installations/new` })
      resolve({ appId: id, privateKey: pem, webhookSecret: webhook_secret, page: html_url })
    } catch (error) {
      answer(response, 502, 'GitHub did not give the App’s key. The terminal says why.')
      reject(githubFailure(error, "exchanging GitHub's code for the App", Date.now()))
    }
  }
  const serve = (request: IncomingMessage, response: ServerResponse) => {
    request.resume()
    const url = URL.parse(request.url ?? '/', own)
    // Another name for this address is another site's page that asks through the browser.
    if (request.method !== 'GET' || `http://${request.headers.host}` !== own || url === null)
      return answer(response, 404, 'There is nothing here.')
    if (url.pathname === start) {
      const given = {
        ...manifest,
        hook_attributes: { url: new URL('/api/github/webhooks', publicUrl).href, active: true },
        redirect_url: `${own}/made`,
      }
      return answer(
        response,
        200,
        `<h1>Make the GitHub App</h1><p>GitHub shows what it may do, and lets you change its name.</p>
<form method="post" action="${attribute(`${web}${owner}/settings/apps/new?state=${state}`)}">
<input type="hidden" name="manifest" value="${attribute(JSON.stringify(given))}"><button autofocus>Go on to GitHub</button></form>`,
      )
    }
    if (url.pathname !== '/made') return answer(response, 404, 'There is nothing here.')
    const [code, told] = [url.searchParams.get('code') ?? '', url.searchParams.get('state') ?? '']
    if (!isToken(state, told))
      return answer(response, 403, 'This did not begin here. Open the address in the terminal.')
    if (!CODE.test(code) || taken) return answer(response, 400, 'There is no code in this address, or it was used.')
    return void exchange(code, response)
  }
  const server = createServer({ headersTimeout: 10_000, requestTimeout: 10_000 }, serve)
  const ended = () => reject(fail('cancelled', 'making the App: cancelled'))
  const late = setTimeout(
    () =>
      reject(
        fail('timeout', 'making the App: GitHub sent nobody back within an hour', 'Begin again: agent-swarm init'),
      ),
    WITHIN_MS,
  )
  try {
    await new Promise<void>((listening, failed) => {
      server.once('error', failed)
      server.listen(0, '127.0.0.1', listening)
    })
    own = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    signal.addEventListener('abort', ended, { once: true })
    if (signal.aborted) ended()
    tell(`${own}${start}`)
    return await made
  } finally {
    clearTimeout(late)
    signal.removeEventListener('abort', ended)
    server.close()
    server.closeIdleConnections()
  }
}
