/**
 * Jira Cloud, stood in for: the few routes of API version 3 that the bot asks, with state, and webhooks signed as Jira signs
 * them. jira.js itself, told to throw at anything it does not expect, is its test.
 */
import { createHmac, randomUUID } from 'node:crypto'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Audience } from '../../src/bot/jira/answers.ts'

export const JIRA_SECRET = 'a secret between Jira and the bot'
const ME = {
  accountId: '5b10a2844c20165700ede21g',
  displayName: 'Dev',
  emailAddress: 'dev@example.org',
  active: true,
  timeZone: 'UTC',
}
const TOKEN = 'jira-token'
/** With scopes: the site refuses it, and the gateway takes no other. */
const SCOPED_TOKEN = 'jira-token-with-scopes'
const CLOUD_ID = '35273b54-3f06-40d2-880f-dd28cf8daafa'
const GATEWAY_PATH = `/ex/jira/${CLOUD_ID}`
/** `x-atlassian-oauth2-scopes` of what is stood in for, in Jira's own description of its API. */
const scopeOf = (method: string, path: string): string | null => {
  if (path === '/rest/api/3/serverInfo') return null
  if (path === '/rest/api/3/myself') return 'read:jira-user'
  return method === 'GET' || path === '/rest/api/3/issue/bulkfetch' ? 'read:jira-work' : 'write:jira-work'
}

const STATUSES = {
  'To Do': { id: '10000', category: { id: 2, key: 'new', name: 'To Do', colorName: 'blue-gray' } },
  'In Progress': { id: '3', category: { id: 4, key: 'indeterminate', name: 'In Progress', colorName: 'yellow' } },
  'In Review': { id: '10010', category: { id: 4, key: 'indeterminate', name: 'In Progress', colorName: 'yellow' } },
  Done: { id: '10001', category: { id: 3, key: 'done', name: 'Done', colorName: 'green' } },
} as const
export type JiraStatus = keyof typeof STATUSES
type Document = { type: string; version: number; content: unknown[] }
/** `at` and `changedAt` are epoch ms. */
type Comment = {
  id: string
  body: Document
  author: string
  app: boolean
  at: number
  changedAt: number
  to?: Audience
}
type Item = {
  field: string
  fieldtype: 'jira'
  fieldId: string
  from: string | null
  to: string | null
  fromString: string | null
  toString: string | null
}
type History = { id: string; at: number; items: Item[] }
type Issue = {
  key: string
  summary: string
  status: JiraStatus
  assignee: string | null
  comments: Comment[]
  createdAt: number
  /** Oldest first. */
  histories: History[]
}

/** As Jira writes times. */
const timeOf = (at: number) => new Date(at).toISOString().replace('Z', '+0000')
/** A search shows so many of an issue's changes. */
const SHOWN_CHANGES = 40
/** And so many of its comments, the oldest first. */
const SHOWN_COMMENTS = 20

/** All text in an ADF document. */
const textOf = (node: unknown): string => {
  if (typeof node !== 'object' || node === null) return ''
  const { text, content } = node as { text?: unknown; content?: unknown }
  return (typeof text === 'string' ? text : '') + (Array.isArray(content) ? content.map(textOf).join(' ') : '')
}

/** A paragraph with these lines. */
const paragraphOf = (said: string): Document => {
  const content = said
    .split('\n')
    .flatMap((text, n) => [
      ...(n === 0 ? [] : [{ type: 'hardBreak' }]),
      ...(text === '' ? [] : [{ type: 'text', text }]),
    ])
  return { type: 'doc', version: 1, content: [{ type: 'paragraph', content }] }
}

/** `clock` gives epoch ms. Issues are a week old. */
export const startJira = async ({
  issues,
  clock = Date.now,
}: {
  issues: Record<string, string>
  clock?: () => number
}) => {
  const born = () => clock() - 7 * 24 * 60 * 60_000
  const known = new Map<string, Issue>(
    Object.entries(issues).map(([key, summary]) => [
      key,
      { key, summary, status: 'To Do', assignee: ME.accountId, comments: [], createdAt: born(), histories: [] },
    ]),
  )
  let changes = 50_000
  /** A change as Jira keeps it, when somebody makes one. */
  const change = (issue: Issue, field: 'status' | 'assignee', from: string | null, to: string | null): Item => {
    const named = (id: string | null) => Object.entries(STATUSES).find(([, one]) => one.id === id)?.[0] ?? id
    const item: Item = {
      field,
      fieldtype: 'jira',
      fieldId: field,
      from,
      fromString: field === 'status' ? named(from) : from,
      to,
      toString: field === 'status' ? named(to) : to,
    }
    changes += 1
    issue.histories.push({ id: String(changes), at: clock(), items: [item] })
    return item
  }
  const moveTo = (issue: Issue, to: JiraStatus): Item => {
    const from = issue.status
    issue.status = to
    return change(issue, 'status', STATUSES[from].id, STATUSES[to].id)
  }
  const updatedAt = (issue: Issue) =>
    Math.max(issue.createdAt, issue.histories.at(-1)?.at ?? 0, ...issue.comments.map(one => one.changedAt))
  const historyOf = ({ id, at, items }: History, self: string) => ({
    id,
    author: personOf(ME.accountId, self),
    created: timeOf(at),
    items,
  })
  /** The JQL that is asked here, and nothing else: null is what Jira would refuse. */
  const meant = (jql: string): ((issue: Issue) => boolean) | null => {
    const projects = jql.match(/^project in \(("[A-Z][A-Z0-9_]*"(?:, "[A-Z][A-Z0-9_]*")*)\)/)
    if (projects === null) return null
    const keys = (projects[1] ?? '').replaceAll('"', '').split(', ')
    if (keys.some(key => ![...known.keys()].some(one => one.startsWith(`${key}-`)))) return null
    const rest = jql.slice(projects[0].length)
    const ours = (issue: Issue) => keys.includes(issue.key.split('-')[0] ?? '')
    const since = rest.match(/^ AND updated >= -(\d+)m ORDER BY updated ASC$/)
    if (since !== null) {
      // In whole minutes.
      const from = Math.floor((clock() - Number(since[1]) * 60_000) / 60_000) * 60_000
      return issue => ours(issue) && updatedAt(issue) >= from
    }
    const progress = rest.match(
      /^ AND statusCategory = 4( AND assignee = currentUser\(\)| AND assignee in \(([^)]*)\))?$/,
    )
    if (progress === null) return null
    const whose = progress[2]?.replaceAll('"', '').split(', ') ?? (progress[1] === undefined ? null : [ME.accountId])
    return issue =>
      ours(issue) &&
      STATUSES[issue.status].category.id === 4 &&
      (whose === null || (issue.assignee !== null && whose.includes(issue.assignee)))
  }
  /** `path` is as it was asked for, the gateway's with its own beginning; `authorized`: it came with some credentials. */
  const asked: { method: string; path: string; at: number; authorized: boolean }[] = []
  /** What the site tells of itself to anybody. */
  const tenantInfo = (response: ServerResponse) => void send(response, 200, { cloudId: CLOUD_ID })
  let tellsTenant: (response: ServerResponse) => void = tenantInfo
  /** Those of the token with scopes. */
  const scopes = new Set<string | null>([null, 'read:jira-user', 'read:jira-work', 'write:jira-work'])
  /** Requests for what Jira's API does not have, as far as it is stood in for. */
  const unknown: string[] = []
  type Link = { id: number; globalId: string; relationship: string; object: { url: string; title: string } }
  const links = new Map<string, Link[]>()
  /** While true, every request is answered 503. */
  let down: boolean | 'a page' = false
  /** While false, nobody may edit a comment. */
  let edits = true
  /** Project permissions that our account does not have. */
  const lacks = new Set<string>()
  /** While true, what is sent does not arrive. */
  let losing = false
  /** Those that our account may no longer see. */
  const hidden = new Set<string>()
  const ghosts = new Set<string>()

  const statusOf = (name: JiraStatus, self: string) => {
    const { id, category } = STATUSES[name]
    return {
      self: `${self}/rest/api/3/status/${id}`,
      id,
      name,
      description: '',
      iconUrl: `${self}/icon`,
      statusCategory: { self: `${self}/rest/api/3/statuscategory/${category.id}`, ...category },
    }
  }
  const personOf = (accountId: string | null, self: string, app = false) =>
    accountId === null
      ? null
      : {
          ...ME,
          accountId,
          self: `${self}/rest/api/3/user?accountId=${accountId}`,
          accountType: app ? 'app' : 'atlassian',
          avatarUrls: {},
        }
  const issueOf = (issue: Issue, self: string, { withComments = false } = {}) => ({
    id: String(10_000 + [...known.keys()].indexOf(issue.key)),
    self: `${self}/rest/api/3/issue/${issue.key}`,
    key: issue.key,
    fields: {
      summary: issue.summary,
      status: statusOf(issue.status, self),
      assignee: personOf(issue.assignee, self),
      project: { id: '10000', key: issue.key.split('-')[0], name: 'Project' },
      labels: [],
      created: timeOf(issue.createdAt),
      updated: timeOf(updatedAt(issue)),
      ...(withComments
        ? {
            comment: {
              self: `${self}/rest/api/3/issue/${issue.key}/comment`,
              startAt: 0,
              maxResults: SHOWN_COMMENTS,
              total: issue.comments.length,
              comments: issue.comments.slice(0, SHOWN_COMMENTS).map(one => commentOf(issue, one, self)),
            },
          }
        : {}),
    },
  })
  const changelogOf = ({ histories }: Issue) => {
    const latest = histories.slice(-SHOWN_CHANGES).reverse()
    const shown = latest.map(entry => historyOf(entry, self))
    return { startAt: 0, maxResults: shown.length, total: histories.length, histories: shown }
  }
  const commentOf = (issue: Issue, { id, body, author, app, at, changedAt, to }: Comment, self: string) => ({
    self: `${self}/rest/api/3/issue/${issue.key}/comment/${id}`,
    id,
    author: personOf(author, self, app),
    updateAuthor: personOf(author, self, app),
    body,
    created: timeOf(at),
    updated: timeOf(changedAt),
    jsdPublic: to?.properties?.some(one => one.key === 'sd.public.comment' && one.value.internal) !== true,
    ...(to?.visibility === undefined ? {} : { visibility: { ...to.visibility, identifier: to.visibility.value } }),
  })
  const audienceIn = (body: Audience) => ({
    to: {
      ...(body.visibility === undefined ? {} : { visibility: body.visibility }),
      ...(body.properties === undefined ? {} : { properties: body.properties }),
    },
  })
  let comments = 20_000
  const add = (issue: Issue, body: Document, author: string, app = false): Comment => {
    comments += 1
    const now = clock()
    const comment = { id: String(comments), body, author, app, at: now, changedAt: now }
    issue.comments.push(comment)
    return comment
  }
  const send = (response: ServerResponse, status: number, body: unknown) =>
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  const none = (response: ServerResponse) =>
    send(response, 404, {
      errorMessages: ['Issue does not exist or you do not have permission to see it.'],
      errors: {},
    })

  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const url = new URL(request.url ?? '/', 'http://127.0.0.1')
    const self = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const { method = '', headers } = request
    const authorized = headers.authorization !== undefined
    asked.push({ method, path: `${url.pathname}${url.search}`, at: performance.now(), authorized })
    if (down === 'a page') return void response.writeHead(200, { 'content-type': 'text/html' }).end('<p>Log in')
    if (down) return send(response, 503, { errorMessages: ['down'] })
    if (url.pathname === '/_edge/tenant_info') return tellsTenant(response)
    const atGateway = url.pathname.startsWith(`${GATEWAY_PATH}/`)
    if (atGateway) url.pathname = url.pathname.slice(GATEWAY_PATH.length)
    const secret = `${ME.emailAddress}:${atGateway ? SCOPED_TOKEN : TOKEN}`
    if (headers.authorization !== `Basic ${Buffer.from(secret).toString('base64')}`)
      return send(
        response,
        401,
        atGateway ? { code: 401, message: 'Unauthorized' } : { errorMessages: ['Client must be authenticated'] },
      )
    // Before Jira sees any of it.
    if (atGateway && !scopes.has(scopeOf(method, url.pathname))) {
      response.setHeader('x-failure-category', 'FAILURE_CLIENT_SCOPE_CHECK')
      return send(response, 401, { code: 401, message: 'Unauthorized; scope does not match' })
    }
    const body = chunks.length === 0 ? null : JSON.parse(Buffer.concat(chunks).toString('utf8'))
    const [, key = '', rest = ''] = url.pathname.match(/^\/rest\/api\/3\/issue\/([^/]+)\/?(.*)$/) ?? []
    const seen = [...known.values()].filter(one => !hidden.has(one.key))
    const issue = hidden.has(key) || ghosts.has(key) ? undefined : known.get(key)
    if (url.pathname === '/rest/api/3/myself') return send(response, 200, personOf(ME.accountId, self))
    if (url.pathname === '/rest/api/3/search/jql') {
      const counts = meant(url.searchParams.get('jql') ?? '')
      if (counts === null) return send(response, 400, { errorMessages: ['Error in the JQL Query'], errors: {} })
      const found = seen.filter(counts).sort((a, b) => updatedAt(a) - updatedAt(b))
      const from = Number(url.searchParams.get('nextPageToken') ?? 0)
      const to = from + Math.min(50, Number(url.searchParams.get('maxResults') ?? 50))
      const withChanges = url.searchParams.get('expand') === 'changelog'
      const withComments = (url.searchParams.get('fields') ?? '').split(',').includes('comment')
      return send(response, 200, {
        issues: found.slice(from, to).map(one => {
          return {
            ...issueOf(one, self, { withComments }),
            ...(withChanges ? { changelog: changelogOf(one) } : {}),
          }
        }),
        isLast: to >= found.length,
        ...(to >= found.length ? {} : { nextPageToken: String(to) }),
      })
    }
    if (url.pathname === '/rest/api/3/issue/bulkfetch') {
      const found = seen.filter(one => body?.issueIdsOrKeys.includes(one.key))
      return send(response, 200, {
        issues: found.map(one => ({
          ...issueOf(one, self),
          ...(body.expand?.includes('changelog') ? { changelog: changelogOf(one) } : {}),
        })),
        issueErrors: [],
      })
    }
    if (url.pathname === '/rest/api/3/serverInfo') {
      return send(response, 200, {
        baseUrl: self,
        version: '1001.0.0-SNAPSHOT',
        versionNumbers: [1001, 0, 0],
        deploymentType: 'Cloud',
        buildNumber: 100_300,
        serverTime: timeOf(clock()),
        serverTitle: 'Jira',
      })
    }
    const projectOf = (found: string) => ({ self, id: '10000', key: found, name: `Project ${found}` })
    const projectKeys = [...new Set([...known.keys()].map(one => one.split('-')[0] ?? ''))]
    if (url.pathname === '/rest/api/3/project/search') {
      const values = projectKeys.map(projectOf)
      return send(response, 200, { self, startAt: 0, maxResults: 50, total: values.length, isLast: true, values })
    }
    const named = url.pathname.match(/^\/rest\/api\/3\/project\/([^/]+)$/)?.[1]
    if (named !== undefined) {
      if (projectKeys.includes(named)) return send(response, 200, projectOf(named))
      return send(response, 404, { errorMessages: [`No project could be found with key '${named}'.`], errors: {} })
    }
    if (url.pathname === '/rest/api/3/mypermissions') {
      const wanted = (url.searchParams.get('permissions') ?? '').split(',')
      const granted = wanted.map((one, n) => [
        one,
        { id: String(n), key: one, name: one, type: 'PROJECT', description: '', havePermission: !lacks.has(one) },
      ])
      return send(response, 200, { permissions: Object.fromEntries(granted) })
    }
    if (url.pathname === '/rest/api/3/status')
      return send(
        response,
        200,
        Object.keys(STATUSES).map(name => statusOf(name as JiraStatus, self)),
      )
    if (issue === undefined) {
      if (key === '') unknown.push(`${request.method} ${url.pathname}`)
      return none(response)
    }
    if (rest === '' && request.method === 'GET') return send(response, 200, issueOf(issue, self))
    if (rest === 'transitions' && request.method === 'GET') {
      const transitions = Object.keys(STATUSES).map((name, n) => ({
        id: String(n + 1),
        name,
        to: statusOf(name as JiraStatus, self),
        hasScreen: false,
        isGlobal: true,
        isInitial: false,
        isAvailable: true,
        isConditional: false,
      }))
      return send(response, 200, { expand: 'transitions', transitions })
    }
    if (rest === 'transitions' && request.method === 'POST') {
      const name = Object.keys(STATUSES)[Number(body?.transition?.id) - 1] as JiraStatus | undefined
      if (name === undefined) return send(response, 400, { errorMessages: ['no such transition'] })
      moveTo(issue, name)
      response.writeHead(204).end()
      return
    }
    if (rest === 'changelog' && request.method === 'GET') {
      const from = Number(url.searchParams.get('startAt') ?? 0)
      const to = from + Number(url.searchParams.get('maxResults') ?? 100)
      return send(response, 200, {
        self: `${self}${url.pathname}`,
        startAt: from,
        maxResults: to - from,
        total: issue.histories.length,
        isLast: to >= issue.histories.length,
        values: issue.histories.slice(from, to).map(entry => historyOf(entry, self)),
      })
    }
    if (rest === 'comment' && request.method === 'GET') {
      const startAt = Number(url.searchParams.get('startAt') ?? 0)
      const maxResults = Math.min(100, Number(url.searchParams.get('maxResults') ?? 100))
      const sorted = url.searchParams.get('orderBy') === '-created' ? [...issue.comments].reverse() : issue.comments
      const page = sorted.slice(startAt, startAt + maxResults).map(one => commentOf(issue, one, self))
      return send(response, 200, { startAt, maxResults, total: issue.comments.length, comments: page })
    }
    const comment = issue.comments.find(one => rest === `comment/${one.id}`)
    if (comment !== undefined && request.method === 'GET') return send(response, 200, commentOf(issue, comment, self))
    // Version 3 takes a document and nothing else.
    const isDocument = body?.body?.type === 'doc' && body.body.version === 1 && Array.isArray(body.body.content)
    if (rest === 'comment' && request.method === 'POST') {
      if (!isDocument)
        return send(response, 400, { errorMessages: [], errors: { comment: 'Comment body is not valid!' } })
      return send(
        response,
        201,
        commentOf(issue, Object.assign(add(issue, body.body, ME.accountId), audienceIn(body)), self),
      )
    }
    if (comment !== undefined && request.method === 'PUT') {
      if (!isDocument || !edits || comment.author !== ME.accountId)
        return send(response, 400, { errorMessages: ['You do not have the permission to edit this comment.'] })
      // What is left out is taken away, so that nothing rests on it being kept.
      Object.assign(comment, { body: body.body }, audienceIn(body))
      comment.changedAt = clock() + 1
      return send(response, 200, commentOf(issue, comment, self))
    }
    if (rest.startsWith('comment/')) return none(response)
    if (rest === 'remotelink' && request.method === 'POST') {
      const { globalId, object } = body ?? {}
      if (typeof object?.url !== 'string' || typeof object.title !== 'string' || !(globalId?.length <= 255))
        return send(response, 400, { errorMessages: [], errors: { object: 'url and title are required.' } })
      // One of an id: it is changed when it comes again.
      const kept = links.get(key) ?? []
      const before = kept.find(one => one.globalId === globalId)
      const id = before?.id ?? 10_000 + kept.length
      links.set(key, [...kept.filter(one => one !== before), { ...body, id }])
      const answer = { id, self: `${self}/rest/api/3/issue/${key}/remotelink/${id}` }
      return send(response, before === undefined ? 201 : 200, answer)
    }
    unknown.push(`${request.method} ${url.pathname}`)
    return send(response, 405, { errorMessages: ['not here'] })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const self = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

  let bot: string | null = null
  /** Sends as Jira does; the same identifier again is a retry. Returns the bot's status. */
  const deliver = async (
    payload: unknown,
    identifier: string | null = randomUUID(),
    secret: string = JIRA_SECRET,
  ): Promise<number> => {
    // Nobody is told: whoever polls finds it.
    if (bot === null || losing) return 0
    const body = JSON.stringify(payload)
    const response = await fetch(new URL('/jira/webhook', bot), {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'x-hub-signature': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
        ...(identifier === null ? {} : { 'x-atlassian-webhook-identifier': identifier }),
      },
      body,
    })
    return response.status
  }
  const payloadOf = (key: string, items: unknown[]) => {
    const issue = known.get(key)
    if (issue === undefined) throw new Error(`no issue ${key}`)
    return {
      timestamp: issue.histories.at(-1)?.at ?? clock(),
      webhookEvent: 'jira:issue_updated',
      issue_event_type_name: 'issue_generic',
      user: personOf(ME.accountId, self),
      issue: issueOf(issue, self),
      changelog: { id: issue.histories.at(-1)?.id ?? '1', items },
    }
  }

  /** As Jira Cloud sends it: the issue with few fields, the comment as wiki text. */
  const commentPayload = (
    issue: Issue,
    comment: Comment,
    wiki: string,
    webhookEvent: 'comment_created' | 'comment_updated',
  ) => {
    const { id, key, self: link, fields } = issueOf(issue, self)
    const { summary, project, assignee, status } = fields
    return {
      timestamp: comment.changedAt,
      webhookEvent,
      comment: { ...commentOf(issue, comment, self), body: wiki },
      issue: { id, self: link, key, fields: { summary, project, assignee, status } },
      eventType: 'primaryAction',
    }
  }

  return {
    url: self,
    me: ME,
    token: TOKEN,
    /** Of a bot that is told by webhooks. */
    settings: {
      JIRA_HOST: self,
      JIRA_EMAIL: ME.emailAddress,
      JIRA_API_TOKEN: TOKEN,
      JIRA_WEBHOOK_SECRET: JIRA_SECRET,
    },
    /** A token with scopes, where it is taken, and those that it has. */
    scoped: { token: SCOPED_TOKEN, url: `${self}${GATEWAY_PATH}`, scopes },
    /** What is answered at /_edge/tenant_info from now on; null: what Jira answers. */
    tellTenant: (how: ((response: ServerResponse) => void) | null) => {
      tellsTenant = how ?? tenantInfo
    },
    asked,
    lacks,
    deliver,
    payloadOf,
    issue: (key: string) => known.get(key),
    /** `a page`: something in between answers in its place, as a login does. */
    setDown: (now: boolean | 'a page') => {
      down = now
    },
    lose: (now: boolean) => {
      losing = now
    },
    hide: (key: string) => void hidden.add(key),
    /** It is gone, and a search shows it still. */
    haunt: (key: string) => void ghosts.add(key),
    sendTo: (url: string) => {
      bot = url
    },
    /** Moves an issue on the board, and sends its webhook. */
    move: async (key: string, to: JiraStatus, { send: sends = true } = {}): Promise<number> => {
      const issue = known.get(key)
      if (issue === undefined) throw new Error(`no issue ${key}`)
      const item = moveTo(issue, to)
      return sends ? deliver(payloadOf(key, [item])) : 0
    },
    assign: async (key: string, accountId: string | null): Promise<number> => {
      const issue = known.get(key)
      if (issue === undefined) throw new Error(`no issue ${key}`)
      const item = change(issue, 'assignee', issue.assignee, accountId)
      issue.assignee = accountId
      return deliver(payloadOf(key, [item]))
    },
    /** A new issue. Its webhook is not sent. */
    create: (key: string, status: JiraStatus = 'To Do') =>
      void known.set(key, {
        key,
        summary: 'new',
        status,
        assignee: ME.accountId,
        comments: [],
        createdAt: clock(),
        histories: [],
      }),
    setEdits: (may: boolean) => {
      edits = may
    },
    /**
     * Somebody comments, and the webhook is sent, with `wiki` as Jira makes it of the document. A text is a paragraph, its
     * lines kept. Returns the comment's id.
     */
    write: async (
      key: string,
      said: string | Document,
      {
        by = ME.accountId as string,
        app = false,
        wiki = typeof said === 'string' ? said : '',
        edited = false,
        to = undefined as Audience | undefined,
        send: sends = true,
      } = {},
    ): Promise<string> => {
      const issue = known.get(key)
      if (issue === undefined) throw new Error(`no issue ${key}`)
      const comment = add(issue, typeof said === 'string' ? paragraphOf(said) : said, by, app)
      if (edited) comment.changedAt += 1_000
      if (to !== undefined) comment.to = to
      if (sends) await deliver(commentPayload(issue, comment, wiki, 'comment_created'))
      return comment.id
    },
    /** Somebody deletes a comment. */
    remove: (key: string, id: string) => {
      const issue = known.get(key)
      if (issue !== undefined) issue.comments = issue.comments.filter(one => one.id !== id)
    },
    /** What is sent of a new comment. */
    commentPayloadOf: (key: string, id: string) => {
      const issue = known.get(key)
      const comment = issue?.comments.find(one => one.id === id)
      if (issue === undefined || comment === undefined) throw new Error(`no comment ${id} on ${key}`)
      return commentPayload(issue, comment, textOf(comment.body), 'comment_created')
    },
    /** Somebody edits a comment, and the webhook is sent. */
    rewrite: async (key: string, id: string, said: string): Promise<void> => {
      const issue = known.get(key)
      const comment = issue?.comments.find(one => one.id === id)
      if (issue === undefined || comment === undefined) throw new Error(`no comment ${id} on ${key}`)
      Object.assign(comment, { body: paragraphOf(said), changedAt: clock() + 1_000 })
      await deliver(commentPayload(issue, comment, said, 'comment_updated'))
    },
    /** Whom each comment is shown to. */
    audiences: (key: string) => known.get(key)?.comments.map(one => one.to ?? {}) ?? [],
    comments: (key: string): string[] => known.get(key)?.comments.map(one => textOf(one.body)) ?? [],
    links: (key: string) => links.get(key) ?? [],
    /** Throws when something was asked that is not stood in for: it would be refused, and nobody would see it. */
    stop: async () => {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
      if (unknown.length > 0) throw new Error(`Jira does not have what it was asked:\n${unknown.join('\n')}`)
    },
  }
}
export type JiraStandIn = Awaited<ReturnType<typeof startJira>>
