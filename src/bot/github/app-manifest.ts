/**
 * Creates a GitHub App from app.yml, with the consent of its owner in the browser: a page on loopback hands the manifest to
 * GitHub, GitHub sends the browser back with a code, and the code is exchanged for the App's id, key and secret.
 * https://docs.github.com/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
 */
import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Octokit } from '@octokit/rest'
import { fail } from '../../errors.ts'
import { isToken } from '../http/signature.ts'
import { type Features, readManifest } from './app-needs.ts'
import { githubFailure, watchedFetch, webUrlOf } from './client.ts'

/** GitHub accepts the code for an hour. */
const DEADLINE_MS = 60 * 60_000
const CODE = /^[A-Za-z0-9_-]{1,100}$/

export type CreatedApp = { appId: number; privateKey: string; webhookSecret: string; page: string }
type Reply = { status: number; body: string; location?: string }
const NOT_FOUND: Reply = { status: 404, body: 'Not found.' }

const escaped = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
const pageOf = (body: string) =>
  `<!doctype html><meta charset="utf-8"><title>agent-swarm</title><body style="font:1.1em system-ui;margin:4em auto;max-width:36em">${body}`
const consentPage = (action: string, manifest: object) =>
  `<h1>Create the GitHub App</h1><p>GitHub shows its permissions, and lets you change its name.</p>
<form method="post" action="${escaped(action)}">
<input type="hidden" name="manifest" value="${escaped(JSON.stringify(manifest))}"><button autofocus>Continue to GitHub</button></form>`

const exchangeCode = async (apiUrl: string | null, code: string): Promise<CreatedApp> => {
  const octokit = new Octokit({
    ...(apiUrl === null ? {} : { baseUrl: apiUrl }),
    request: { fetch: watchedFetch(null).fetch },
    log: { debug() {}, info() {}, warn() {}, error() {} },
  })
  const { data } = await octokit.rest.apps.createFromManifest({ code })
  const { id, pem, webhook_secret, html_url } = data
  if (webhook_secret === null) throw fail('refused', 'creating the App: GitHub gave it no webhook secret')
  return { appId: id, privateKey: pem, webhookSecret: webhook_secret, page: html_url }
}

/**
 * `features` decide what it asks for. `publicUrl` is the address at which GitHub reaches the bot. `organization` owns the App; null: whoever is signed in.
 * `onAddress` gets the address to open in a browser.
 */
export const createApp = async (
  {
    apiUrl,
    publicUrl,
    organization,
    features,
  }: { apiUrl: string | null; publicUrl: string; organization: string | null; features: Features },
  onAddress: (address: string) => void,
  signal: AbortSignal,
): Promise<CreatedApp> => {
  const state = randomBytes(32).toString('base64url')
  const start = `/${randomBytes(16).toString('base64url')}`
  const web = webUrlOf(apiUrl)
  const owner = organization === null ? '' : `/organizations/${encodeURIComponent(organization)}`
  const manifest = await readManifest(features)
  const { promise: created, resolve, reject } = Promise.withResolvers<CreatedApp>()
  let origin = ''
  let used = false

  const reply = async ({ method, url: path, headers }: IncomingMessage): Promise<Reply> => {
    const url = URL.parse(path ?? '/', origin)
    // Under another host name, a page of another site asks through the browser.
    if (method !== 'GET' || `http://${headers.host}` !== origin || url === null) return NOT_FOUND
    if (url.pathname === start) {
      const hook_attributes = { url: new URL('/api/github/webhooks', publicUrl).href, active: true }
      const action = `${web}${owner}/settings/apps/new?state=${state}`
      return {
        status: 200,
        body: consentPage(action, { ...manifest, hook_attributes, redirect_url: `${origin}/made` }),
      }
    }
    if (url.pathname !== '/made') return NOT_FOUND
    if (!isToken(state, url.searchParams.get('state') ?? ''))
      return { status: 403, body: 'Open the address that the terminal shows.' }
    const code = url.searchParams.get('code') ?? ''
    if (!CODE.test(code) || used) return { status: 400, body: 'The address has no code, or the code was used.' }
    used = true
    try {
      const app = await exchangeCode(apiUrl, code)
      resolve(app)
      return { status: 303, body: 'Continue with its installation.', location: `${app.page}/installations/new` }
    } catch (error) {
      reject(githubFailure(error, "exchanging GitHub's code for the App", Date.now()))
      return { status: 502, body: 'GitHub did not hand over the key of the App. The terminal shows why.' }
    }
  }
  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    request.resume()
    const { status, body, location } = await reply(request)
    response
      .writeHead(status, {
        'content-type': 'text/html; charset=utf-8',
        'cache-control': 'no-store',
        'referrer-policy': 'no-referrer',
        'content-security-policy': `default-src 'none'; style-src 'unsafe-inline'; form-action ${web}`,
        connection: 'close',
        ...(location === undefined ? {} : { location }),
      })
      .end(pageOf(body))
  }
  const server = createServer({ headersTimeout: 10_000, requestTimeout: 10_000 }, serve)
  const ending = AbortSignal.any([signal, AbortSignal.timeout(DEADLINE_MS)])
  const end = () =>
    reject(
      signal.aborted
        ? fail('cancelled', 'creating the App: cancelled')
        : fail('timeout', 'creating the App: no answer from GitHub within an hour', 'Start again: agent-swarm init'),
    )
  try {
    await new Promise<void>((listening, failed) => server.once('error', failed).listen(0, '127.0.0.1', listening))
    origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    ending.addEventListener('abort', end, { once: true })
    if (ending.aborted) end()
    onAddress(`${origin}${start}`)
    return await created
  } finally {
    ending.removeEventListener('abort', end)
    server.close()
    server.closeIdleConnections()
  }
}
