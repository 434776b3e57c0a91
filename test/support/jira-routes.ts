/** The routes of Jira's API, version 3, that the bot uses. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Audience } from '../../src/bot/jira/answers.ts'
import {
  type Board,
  type Comment,
  type Descriptions,
  type Issue,
  type Item,
  ME,
  projectOf,
  queryOf,
  statusNames,
  timeOf,
  updatedAt,
} from './jira-board.ts'

export const TOKEN = 'jira-token'
/** A token with scopes: the site refuses it, and the gateway accepts no other. */
export const SCOPED_TOKEN = 'jira-token-with-scopes'
const CLOUD_ID = '35273b54-3f06-40d2-880f-dd28cf8daafa'
export const GATEWAY_PATH = `/ex/jira/${CLOUD_ID}`

/** `authorized`: it came with some credentials. `path` is the gateway's, with its prefix, for a request to the gateway. */
type ReceivedRequest = { method: string; path: string; at: number; authorized: boolean }
type Link = { id: number; globalId: string; relationship: string; object: { url: string; title: string } }
type Answer = { status: number; body?: unknown; headers?: Record<string, string> }

/** What tests read and change. */
export const openJiraState = () => ({
  requests: [] as ReceivedRequest[],
  /** Requests for what the stand-in does not have. */
  unknown: [] as string[],
  /** The scopes of the token with scopes. */
  scopes: new Set<string | null>([null, 'read:jira-user', 'read:jira-work', 'write:jira-work']),
  links: new Map<string, Link[]>(),
  /** The fields of issues, as Jira lists them. */
  fields: [{ id: 'summary', key: 'summary', name: 'Summary', custom: false }] as object[],
  /** Fields that the transition to a status asks for, by its name. `untold`: only the refusal names them. */
  required: new Map<string, { field: string; untold?: true }>(),
  /** Statuses that no transition leads to. */
  unreachable: new Set<string>(),
  /** Project permissions that our account does not have. */
  lacks: new Set<string>(),
  /** Issues that our account may not see any more. */
  hidden: new Set<string>(),
  /** Issues that are gone, and that a search still shows. */
  ghosts: new Set<string>(),
  /** `true`: every request is answered 503. `a page`: something in between answers, for example a login page. */
  down: false as boolean | 'a page',
  /** Requests whose method and path match are answered 503. */
  failing: null as RegExp | null,
  /** While false, nobody may edit a comment. */
  mayEdit: true,
  /** What happens elsewhere while an edit is on its way. */
  duringEdit: async () => {},
  tenantInfo: null as ((response: ServerResponse) => void) | null,
})
type JiraState = ReturnType<typeof openJiraState>

export type RouteContext = {
  board: Board
  describe: Descriptions
  state: JiraState
  clock: () => number
  self: string
  /** Our account moved an issue: Jira sends its webhook, as for everybody. */
  moved: (issue: Issue, items: Item[]) => void
}
type Incoming = { method: string; url: URL; body: Json | null }
type Json = { [name: string]: unknown } & {
  body?: { type?: unknown; version?: unknown; content?: unknown }
  issueIdsOrKeys?: string[]
  expand?: string[]
  transition?: { id?: unknown }
  object?: { url?: unknown; title?: unknown }
  globalId?: string
}

const ok = (body: unknown): Answer => ({ status: 200, body })
const refuse = (status: number, ...errorMessages: string[]): Answer => ({ status, body: { errorMessages, errors: {} } })
const NO_ISSUE = refuse(404, 'Issue does not exist or you do not have permission to see it.')

/** `x-atlassian-oauth2-scopes` of the routes, in Jira's own description of its API. */
const scopeOf = (method: string, path: string): string | null => {
  if (path === '/rest/api/3/serverInfo') return null
  if (path === '/rest/api/3/myself') return 'read:jira-user'
  return method === 'GET' || path === '/rest/api/3/issue/bulkfetch' ? 'read:jira-work' : 'write:jira-work'
}

/** The answer to a request that is refused before it reaches a route; null when it may pass. */
const authorize = ({ state }: RouteContext, request: IncomingMessage, path: string, atGateway: boolean) => {
  const secret = `${ME.emailAddress}:${atGateway ? SCOPED_TOKEN : TOKEN}`
  if (request.headers.authorization !== `Basic ${Buffer.from(secret).toString('base64')}`)
    return atGateway
      ? { status: 401, body: { code: 401, message: 'Unauthorized' } }
      : { status: 401, body: { errorMessages: ['Client must be authenticated'] } }
  if (!atGateway || state.scopes.has(scopeOf(request.method ?? '', path))) return null
  const headers = { 'x-failure-category': 'FAILURE_CLIENT_SCOPE_CHECK' }
  return { status: 401, body: { code: 401, message: 'Unauthorized; scope does not match' }, headers }
}

// ── Routes of the site ──

const search = ({ board, describe, state, clock }: RouteContext, { url }: Incoming): Answer => {
  const matches = queryOf(url.searchParams.get('jql') ?? '', board.known, clock())
  if (matches === null) return refuse(400, 'Error in the JQL Query')
  const visible = [...board.known.values()].filter(({ key }) => !state.hidden.has(key))
  const found = visible.filter(matches).sort((a, b) => updatedAt(a) - updatedAt(b))
  const start = Number(url.searchParams.get('nextPageToken') ?? 0)
  const end = start + Math.min(50, Number(url.searchParams.get('maxResults') ?? 50))
  const withChanges = url.searchParams.get('expand') === 'changelog'
  const withComments = (url.searchParams.get('fields') ?? '').split(',').includes('comment')
  const isLast = end >= found.length
  const issues = found.slice(start, end).map(issue => ({
    ...describe.issue(issue, { withComments }),
    ...(withChanges ? { changelog: describe.changelog(issue) } : {}),
  }))
  return ok({ issues, isLast, ...(isLast ? {} : { nextPageToken: String(end) }) })
}

/** Finds issues by their present and previous keys, as Jira does. */
const bulkFetch = ({ board, describe, state }: RouteContext, { body }: Incoming): Answer => {
  const found = (body?.issueIdsOrKeys ?? []).flatMap(key => board.find(key) ?? [])
  const issues = [...new Set(found)].filter(({ key }) => !state.hidden.has(key))
  const withChanges = body?.expand?.includes('changelog') === true
  return ok({
    issues: issues.map(issue => ({
      ...describe.issue(issue),
      ...(withChanges ? { changelog: describe.changelog(issue) } : {}),
    })),
    issueErrors: [],
  })
}

const permissions = ({ state }: RouteContext, { url }: Incoming): Answer => {
  const names = (url.searchParams.get('permissions') ?? '').split(',')
  const granted = names.map((name, n) => [
    name,
    { id: String(n), key: name, name, type: 'PROJECT', description: '', havePermission: !state.lacks.has(name) },
  ])
  return ok({ permissions: Object.fromEntries(granted) })
}

const serverInfo = ({ self, clock }: RouteContext): Answer =>
  ok({
    ...{ baseUrl: self, version: '1001.0.0-SNAPSHOT', versionNumbers: [1001, 0, 0], deploymentType: 'Cloud' },
    ...{ buildNumber: 100_300, serverTime: timeOf(clock()), serverTitle: 'Jira' },
  })

const projectKeys = ({ board }: RouteContext) => [...new Set([...board.known.keys()].map(projectOf))]
const projects = (context: RouteContext): Answer => {
  const values = projectKeys(context).map(context.describe.project)
  return ok({ self: context.self, startAt: 0, maxResults: 50, total: values.length, isLast: true, values })
}

const siteRoutes: Record<string, (context: RouteContext, incoming: Incoming) => Answer> = {
  '/rest/api/3/myself': ({ describe }) => ok(describe.person(ME.accountId)),
  '/rest/api/3/search/jql': search,
  '/rest/api/3/issue/bulkfetch': bulkFetch,
  '/rest/api/3/serverInfo': serverInfo,
  '/rest/api/3/project/search': projects,
  '/rest/api/3/mypermissions': permissions,
  '/rest/api/3/field': ({ state }) => ok(state.fields),
  '/rest/api/3/status': ({ describe }) => ok(statusNames.map(describe.status)),
}

// ── Routes of an issue ──

const audienceIn = (body: Json | null): { to: Audience } => {
  const { visibility, properties } = (body ?? {}) as Audience
  return {
    to: { ...(visibility === undefined ? {} : { visibility }), ...(properties === undefined ? {} : { properties }) },
  }
}
/** Version 3 takes a document and nothing else. */
const documentIn = (body: Json | null): Comment['body'] | null => {
  const { type, version, content } = body?.body ?? {}
  return type === 'doc' && version === 1 && Array.isArray(content) ? { type, version, content } : null
}

const transitions = (
  { board, describe, state, moved }: RouteContext,
  issue: Issue,
  { method, url, body }: Incoming,
): Answer => {
  const { required, unreachable } = state
  if (method === 'POST') {
    const name = statusNames[Number(body?.transition?.id) - 1]
    if (name === undefined || unreachable.has(name))
      return refuse(400, 'It seems that you have tried to perform an illegal workflow operation.')
    const asked = required.get(name)
    if (asked !== undefined)
      return { status: 400, body: { errorMessages: [], errors: { [asked.field]: `${asked.field} is required.` } } }
    moved(issue, board.moveTo(issue, name))
    return { status: 204 }
  }
  const withFields = url.searchParams.get('expand') === 'transitions.fields'
  const all = statusNames.map((name, n) => {
    const asked = required.get(name)
    const fields =
      asked === undefined || asked.untold
        ? {}
        : {
            [asked.field.toLowerCase()]: {
              required: true,
              hasDefaultValue: false,
              name: asked.field,
              key: asked.field,
            },
          }
    return {
      ...{ id: String(n + 1), name: `To ${name}`, to: describe.status(name), hasScreen: asked !== undefined },
      ...{ isGlobal: true, isInitial: false, isAvailable: true, isConditional: false },
      ...(withFields ? { fields } : {}),
    }
  })
  return ok({ expand: 'transitions', transitions: all.filter(({ to }) => !unreachable.has(to.name)) })
}

const changelog = ({ describe, self }: RouteContext, { histories }: Issue, { url }: Incoming): Answer => {
  const start = Number(url.searchParams.get('startAt') ?? 0)
  const maxResults = Number(url.searchParams.get('maxResults') ?? 100)
  const end = start + maxResults
  return ok({
    ...{ self: `${self}${url.pathname}`, startAt: start, maxResults, total: histories.length },
    ...{ isLast: end >= histories.length, values: histories.slice(start, end).map(describe.history) },
  })
}

const comments = ({ board, describe }: RouteContext, issue: Issue, { method, url, body }: Incoming): Answer => {
  if (method === 'POST') {
    const document = documentIn(body)
    if (document === null)
      return { status: 400, body: { errorMessages: [], errors: { comment: 'Comment body is not valid!' } } }
    const comment = Object.assign(board.comment(issue, document, ME.accountId), audienceIn(body))
    return { status: 201, body: describe.comment(issue, comment) }
  }
  const startAt = Number(url.searchParams.get('startAt') ?? 0)
  const maxResults = Math.min(100, Number(url.searchParams.get('maxResults') ?? 100))
  const sorted = url.searchParams.get('orderBy') === '-created' ? [...issue.comments].reverse() : issue.comments
  const page = sorted.slice(startAt, startAt + maxResults).map(comment => describe.comment(issue, comment))
  return ok({ startAt, maxResults, total: issue.comments.length, comments: page })
}

const oneComment = (
  { describe, state, clock }: RouteContext,
  issue: Issue,
  comment: Comment,
  { method, body }: Incoming,
): Answer => {
  if (method !== 'PUT') return ok(describe.comment(issue, comment))
  const document = documentIn(body)
  if (document === null || !state.mayEdit || comment.author !== ME.accountId)
    return refuse(400, 'You do not have the permission to edit this comment.')
  // What an edit leaves out is taken away, so that nothing relies on it being kept.
  Object.assign(comment, { body: document, changedAt: clock() + 1 }, audienceIn(body))
  return ok(describe.comment(issue, comment))
}

const remoteLink = ({ state, self }: RouteContext, { key }: Issue, { body }: Incoming): Answer => {
  const { globalId = '', object } = body ?? {}
  if (typeof object?.url !== 'string' || typeof object.title !== 'string' || globalId.length > 255)
    return { status: 400, body: { errorMessages: [], errors: { object: 'url and title are required.' } } }
  // A link with a known globalId is changed.
  const kept = state.links.get(key) ?? []
  const before = kept.find(link => link.globalId === globalId)
  const id = before?.id ?? 10_000 + kept.length
  state.links.set(key, [...kept.filter(link => link !== before), { ...body, id } as Link])
  return {
    status: before === undefined ? 201 : 200,
    body: { id, self: `${self}/rest/api/3/issue/${key}/remotelink/${id}` },
  }
}

const removeLink = ({ state }: RouteContext, { key }: Issue, { url }: Incoming): Answer => {
  const kept = state.links.get(key) ?? []
  const others = kept.filter(({ globalId }) => globalId !== url.searchParams.get('globalId'))
  state.links.set(key, others)
  return others.length < kept.length ? { status: 204, body: null } : NO_ISSUE
}

const issueRoute = (context: RouteContext, issue: Issue, rest: string, incoming: Incoming): Answer | null => {
  const { method } = incoming
  if (rest === '' && method === 'GET') return ok(context.describe.issue(issue))
  if (rest === 'transitions') return transitions(context, issue, incoming)
  if (rest === 'changelog' && method === 'GET') return changelog(context, issue, incoming)
  if (rest === 'comment') return comments(context, issue, incoming)
  if (rest === 'remotelink' && method === 'POST') return remoteLink(context, issue, incoming)
  if (rest === 'remotelink' && method === 'DELETE') return removeLink(context, issue, incoming)
  const comment = issue.comments.find(({ id }) => rest === `comment/${id}`)
  if (comment !== undefined) return oneComment(context, issue, comment, incoming)
  return rest.startsWith('comment/') ? NO_ISSUE : null
}

const route = (context: RouteContext, incoming: Incoming): Answer => {
  const { board, describe, state } = context
  const { method, url } = incoming
  const site = Object.hasOwn(siteRoutes, url.pathname) ? siteRoutes[url.pathname] : undefined
  if (site !== undefined) return site(context, incoming)
  const project = url.pathname.match(/^\/rest\/api\/3\/project\/([^/]+)$/)?.[1]
  if (project !== undefined)
    return projectKeys(context).includes(project)
      ? ok(describe.project(project))
      : refuse(404, `No project could be found with key '${project}'.`)
  const [, key = '', rest = ''] = url.pathname.match(/^\/rest\/api\/3\/issue\/([^/]+)\/?(.*)$/) ?? []
  const issue = state.ghosts.has(key) ? undefined : board.find(key)
  if (issue === undefined || state.hidden.has(issue.key)) {
    if (key === '') state.unknown.push(`${method} ${url.pathname}`)
    return NO_ISSUE
  }
  const answer = issueRoute(context, issue, rest, incoming)
  if (answer !== null) return answer
  state.unknown.push(`${method} ${url.pathname}`)
  return refuse(405, 'not here')
}

const send = (response: ServerResponse, { status, body, headers = {} }: Answer): void =>
  void response
    .writeHead(status, { 'content-type': 'application/json', ...headers })
    .end(body === undefined ? undefined : JSON.stringify(body))

export const respond = async (context: RouteContext, request: IncomingMessage, response: ServerResponse) => {
  const { state } = context
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  if (request.method === 'PUT') await context.state.duringEdit()
  const url = new URL(request.url ?? '/', 'http://127.0.0.1')
  const { method = '', headers } = request
  const authorized = headers.authorization !== undefined
  state.requests.push({ method, path: `${url.pathname}${url.search}`, at: performance.now(), authorized })
  if (state.down === 'a page') return void response.writeHead(200, { 'content-type': 'text/html' }).end('<p>Log in')
  if (state.down || state.failing?.test(`${request.method} ${request.url}`) === true)
    return send(response, { status: 503, body: { errorMessages: ['down'] } })
  if (url.pathname === '/_edge/tenant_info') {
    // The site tells this to everybody.
    if (state.tenantInfo === null) send(response, ok({ cloudId: CLOUD_ID }))
    else state.tenantInfo(response)
    return
  }
  const atGateway = url.pathname.startsWith(`${GATEWAY_PATH}/`)
  if (atGateway) url.pathname = url.pathname.slice(GATEWAY_PATH.length)
  const refusal = authorize(context, request, url.pathname, atGateway)
  const body = chunks.length === 0 ? null : JSON.parse(Buffer.concat(chunks).toString('utf8'))
  send(response, refusal ?? route(context, { method, url, body }))
}
