/**
 * What GitHub's answers must hold, by request. Only what is read is described, and everything that decides something is: an
 * answer without it is none, and is asked for again. https://docs.github.com/rest
 */
import * as v from 'valibot'
import { noAnswer, requireShape } from '../whole-answer.ts'

const { object, array, optional, nullable, nullish, string, number, boolean, picklist } = v
const flags = v.record(string(), v.unknown())

const account = nullable(object({ login: string(), type: optional(string()) }))
const listedRepository = object({
  ...{ id: number(), full_name: string() },
  ...{ archived: optional(boolean()), disabled: optional(boolean()), pushed_at: nullish(string()) },
  permissions: optional(object({ push: optional(boolean()) })),
  default_branch: optional(string()),
})
const repository = object({ ...listedRepository.entries, private: boolean() })
const pullRequest = object({
  ...{ number: number(), title: string(), state: picklist(['open', 'closed']), draft: optional(boolean()) },
  // Without it, what was merged would read as closed.
  merged_at: nullable(string()),
  ...{ merged: optional(boolean()), closed_at: nullable(string()), updated_at: string() },
  head: object({ ref: string(), sha: string(), repo: nullable(object({ full_name: string() })) }),
  base: object({ repo: object({ full_name: string() }) }),
})
const comment = object({ id: number(), body: nullish(string()), user: account })
const listedComment = object({
  ...comment.entries,
  ...{ html_url: string(), issue_url: string(), created_at: string(), updated_at: string() },
})
const reference = object({ ref: string(), object: object({ sha: string() }) })
const installation = object({
  ...{ id: number(), account: nullable(v.looseObject({})), suspended_at: nullish(string()) },
  permissions: flags,
})
const conclusion = nullable(string())

/** `null`: nothing of the answer is read. */
const shapes: Readonly<Record<string, v.GenericSchema | null>> = {
  'GET /repos/{owner}/{repo}': repository,
  'GET /user': object({ login: string() }),
  'GET /user/repos': array(listedRepository),
  'GET /repos/{owner}/{repo}/collaborators/{username}/permission': object({
    permission: picklist(['admin', 'maintain', 'write', 'triage', 'read', 'none']),
    role_name: optional(string()),
    user: nullish(object({ permissions: optional(object({ triage: optional(boolean()) })) })),
  }),
  'GET /orgs/{org}/teams/{team_slug}/memberships/{username}': object({ state: picklist(['active', 'pending']) }),

  'GET /repos/{owner}/{repo}/pulls': array(pullRequest),
  'GET /repos/{owner}/{repo}/pulls/{pull_number}': pullRequest,
  'POST /repos/{owner}/{repo}/pulls': object({ number: number() }),
  'GET /repos/{owner}/{repo}/pulls/{pull_number}/commits': array(object({ sha: string() })),
  'GET /repos/{owner}/{repo}/pulls/{pull_number}/reviews': array(
    object({
      id: number(),
      body: nullable(string()),
      state: string(),
      user: account,
      submitted_at: optional(string()),
    }),
  ),
  'GET /repos/{owner}/{repo}/pulls/{pull_number}/reviews/{review_id}/comments': array(
    object({ path: string(), body: string(), line: nullish(number()), original_line: nullish(number()) }),
  ),
  'GET /repos/{owner}/{repo}/git/matching-refs/{ref}': array(reference),
  'GET /repos/{owner}/{repo}/git/ref/{ref}': reference,
  'GET /repos/{owner}/{repo}/commits/{ref}/check-suites': object({
    check_suites: array(
      object({
        ...{ id: number(), head_sha: string(), status: nullable(string()), conclusion },
        updated_at: nullable(string()),
      }),
    ),
  }),
  'GET /repos/{owner}/{repo}/commits/{ref}/check-runs': object({
    check_runs: array(
      object({
        ...{ name: string(), conclusion, html_url: nullable(string()) },
        output: object({ title: nullable(string()), summary: nullable(string()) }),
      }),
    ),
  }),
  'GET /repos/{owner}/{repo}/contents/{path}': v.union([
    array(v.unknown()),
    object({ type: v.literal('file'), content: string(), size: optional(number()) }),
    object({ type: picklist(['dir', 'symlink', 'submodule']) }),
  ]),

  'GET /repos/{owner}/{repo}/issues/comments': array(listedComment),
  'GET /repos/{owner}/{repo}/issues/{issue_number}/comments': array(comment),
  'POST /repos/{owner}/{repo}/issues/{issue_number}/comments': object({ id: number() }),
  'GET /repos/{owner}/{repo}/issues/comments/{comment_id}': object({ ...comment.entries, node_id: string() }),
  'PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}': null,
  'POST /repos/{owner}/{repo}/issues/comments/{comment_id}/reactions': null,
  // It is sent without what it needs, to see how it is refused.
  'POST /repos/{owner}/{repo}/issues': null,
  // GitHub answers 200 to what it cannot do.
  'POST /graphql': v.union([
    object({ errors: v.pipe(array(v.looseObject({})), v.minLength(1)) }),
    object({ data: v.looseObject({}) }),
  ]),

  'GET /app': object({
    ...{ slug: string(), html_url: string(), permissions: flags, events: array(string()) },
  }),
  'GET /app/installations': array(installation),
  'GET /app/installations/{installation_id}': installation,
  'POST /app/installations/{installation_id}/access_tokens': object({
    ...{ token: string(), expires_at: string(), permissions: optional(flags) },
    repositories: optional(array(object({ full_name: string() }))),
  }),
  'GET /installation/repositories': object({ repositories: array(listedRepository) }),
  'GET /repos/{owner}/{repo}/installation': object({ id: number() }),
  'GET /app/hook/config': object({ url: optional(string()), content_type: optional(string()) }),
  'GET /app/hook/deliveries': array(
    object({ id: number(), guid: string(), event: string(), status_code: number(), delivered_at: string() }),
  ),
  'POST /app/hook/deliveries/{delivery_id}/attempts': null,
  'POST /app-manifests/{code}/conversions': object({
    ...{ id: number(), pem: string(), webhook_secret: nullable(string()), html_url: string() },
  }),
}
export const describedRequests: readonly string[] = Object.keys(shapes)

/** A reference and a path have slashes. The API may lie below a path of its own, `/api/v3`. */
const patternOf = (request: string): RegExp =>
  new RegExp(
    `^${request.replace(' ', ' .*?').replaceAll(/\{(\w+)\}/g, (_, name) => (name === 'ref' || name === 'path' ? '.*' : '[^/]+'))}$`,
  )
/** The longest first: `/memberships/user` is not `/user`. */
const rows = Object.entries(shapes)
  .map(([request, shape]) => ({ pattern: patternOf(request), shape, length: request.split('/').length }))
  .sort((a, b) => b.length - a.length)

/** What a refusal by GitHub itself holds; a proxy's has other words. */
const refusal = object({ message: string() })

const jsonIn = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    throw noAnswer(text === '' ? 'the response is empty' : 'the response is cut off, or it is not JSON')
  }
}

/** Throws a NoAnswer unless the whole response is one that GitHub gives to this request. */
export const checkAnswer = async (response: Response, method: string, url: string | URL): Promise<void> => {
  const { status, headers } = response
  // A limit may be announced on the way, and is known by its headers.
  if (status === 204 || status === 205 || status === 304 || status === 429 || headers.has('retry-after')) return
  // https://docs.github.com/rest: what GitHub itself cannot answer may come as a page.
  if (status >= 500) return
  const type = headers.get('content-type')
  // A login page, for example, would otherwise read as "nobody may do anything".
  if (type !== null && !/json/i.test(type))
    throw noAnswer(`the response (${status}) is not GitHub's: its content type is ${type.slice(0, 60)}`)
  const text = await response.clone().text()
  if (status >= 400) return requireShape(refusal, jsonIn(text))
  const { pathname } = new URL(url)
  const row = rows.find(({ pattern }) => pattern.test(`${method.toUpperCase()} ${pathname}`))
  if (row?.shape === null) return
  requireShape(row?.shape ?? v.union([array(v.unknown()), v.looseObject({})]), jsonIn(text))
}
