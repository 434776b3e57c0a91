/** The APIs of models that the gateway passes on: which requests, to where, and with which credential. */
import type { IncomingHttpHeaders } from 'node:http'

export type Api = {
  name: 'anthropic' | 'openai'
  /** Where requests go without `agent.modelUrl`. */
  origin: string
  /** How the key is sent. */
  credential: (key: string) => Record<string, string>
  /** A refusal in the API's own form. */
  error: (status: number, message: string) => unknown
}
export type Route = { api: Api; path: string }

// Form of errors: docs.anthropic.com/en/api/errors
const anthropicErrors: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
}
export const anthropic: Api = {
  name: 'anthropic',
  origin: 'https://api.anthropic.com',
  credential: key => ({ 'x-api-key': key }),
  error: (status, message) => ({ type: 'error', error: { type: anthropicErrors[status] ?? 'api_error', message } }),
}
// Form of errors: platform.openai.com/docs/guides/error-codes
export const openai: Api = {
  name: 'openai',
  origin: 'https://api.openai.com',
  credential: key => ({ authorization: `Bearer ${key}` }),
  error: (status, message) => ({
    error: { message, type: status === 403 ? 'insufficient_quota' : 'invalid_request_error', param: null, code: null },
  }),
}

/** Requests that cost nothing or whose answer says what they cost. Nothing that keeps files, batches or settings at the maker. */
const ROUTES: readonly [method: string, path: RegExp, api: Api][] = [
  ['POST', /^\/v1\/messages(?:\/count_tokens)?$/, anthropic],
  ['POST', /^\/v1\/responses(?:\/compact)?$/, openai],
  ['POST', /^\/v1\/chat\/completions$/, openai],
]
const MODELS = /^\/v1\/models(?:\/[\w.:-]{1,100})?$/
const QUERY = /^(?:\?[\w=&.-]{0,200})?$/

/** Null: the gateway does not pass this on. Both makers have /v1/models: the header that Anthropic requires tells them apart. */
export const routeOf = (method: string, url: string, isAnthropic: boolean): Route | null => {
  const [, path = '', query = ''] = /^([^?#]*)(\?[^#]*)?$/.exec(url) ?? []
  if (!QUERY.test(query)) return null
  if (method === 'GET' && MODELS.test(path)) return { api: isAnthropic ? anthropic : openai, path: path + query }
  const row = ROUTES.find(([itsMethod, pattern]) => itsMethod === method && pattern.test(path))
  return row === undefined ? null : { api: row[2], path: path + query }
}

/** Which maker an agent may talk to. */
export const apisOf: Readonly<Record<'claude' | 'codex' | 'command', readonly Api['name'][]>> = {
  claude: ['anthropic'],
  codex: ['openai'],
  command: ['anthropic', 'openai'],
}

/** What a request may say besides its body. No credential, no cookie, no organization to be billed. */
const REQUEST_HEADERS =
  /^(?:accept|content-type|user-agent|anthropic-(?:version|beta)|openai-beta|x-app|x-stainless-[a-z-]+)$/
/** What an answer may say: no cookie, and nothing about the account. */
const RESPONSE_HEADERS =
  /^(?:content-type|cache-control|request-id|x-request-id|retry-after|retry-after-ms|x-should-retry)$/
const picked =
  (names: RegExp) =>
  (headers: IncomingHttpHeaders): Record<string, string> =>
    Object.fromEntries(
      Object.entries(headers).flatMap(([name, value]) =>
        names.test(name) && typeof value === 'string' ? [[name, value]] : [],
      ),
    )
export const requestHeaders = picked(REQUEST_HEADERS)
export const responseHeaders = picked(RESPONSE_HEADERS)
