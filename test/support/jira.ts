/**
 * A stand-in for Jira Cloud: the routes of its API that the bot uses, with state, and webhooks that are signed as Jira signs them.
 * Its test is jira.js itself, which throws at anything unexpected.
 */
import { createHmac, randomUUID } from 'node:crypto'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Audience } from '../../src/bot/jira/answers.ts'
import {
  type Board,
  type Comment,
  type Descriptions,
  type Document,
  type Issue,
  type JiraStatus,
  ME,
  openBoard,
  openDescriptions,
  paragraphOf,
  textOf,
} from './jira-board.ts'
import { GATEWAY_PATH, openJiraState, type RouteContext, respond, SCOPED_TOKEN, TOKEN } from './jira-routes.ts'

export type { JiraStatus } from './jira-board.ts'
export const JIRA_SECRET = 'a secret between Jira and the bot'
export const AUTOMATION_SECRET = 'a secret of automation rules'

/** Takes a webhook in place of a server, and returns the HTTP status. */
type JiraReceiver = (payload: unknown, id: string) => Promise<number>

const openWebhooks = () => {
  let target: string | JiraReceiver | null = null
  let isLosing = false
  return {
    lose: (now: boolean) => {
      isLosing = now
    },
    /** `to`: the bot's address, or a receiver in this process. */
    sendTo: (to: string | JiraReceiver) => {
      target = to
    },
    /** Sends as Jira does; the same identifier again is a retry. Returns the bot's status; without a receiver nothing is sent. */
    deliver: async (
      payload: unknown,
      identifier: string | null = randomUUID(),
      secret: string = JIRA_SECRET,
    ): Promise<number> => {
      if (target === null || isLosing) return 0
      if (typeof target === 'function') return target(structuredClone(payload), identifier ?? randomUUID())
      const body = JSON.stringify(payload)
      const response = await fetch(new URL('/jira/webhook', target), {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'x-hub-signature': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
          ...(identifier === null ? {} : { 'x-atlassian-webhook-identifier': identifier }),
        },
        body,
      })
      return response.status
    },
    /** "Send web request" of a rule, with "Issue data". Returns the bot's status. */
    automate: async (key: string, secret: string = AUTOMATION_SECRET): Promise<number> => {
      if (typeof target !== 'string') return 0
      const response = await fetch(new URL('/jira/automation', target), {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-agent-swarm-secret': secret },
        body: JSON.stringify({ key, fields: { status: { name: 'In Progress' } } }),
      })
      return response.status
    },
  }
}
type Webhooks = ReturnType<typeof openWebhooks>

const openPayloads = (describe: Descriptions, clock: () => number) => ({
  issue: (issue: Issue, items: unknown[]) => ({
    timestamp: issue.histories.at(-1)?.at ?? clock(),
    webhookEvent: 'jira:issue_updated',
    issue_event_type_name: 'issue_generic',
    user: describe.person(ME.accountId),
    issue: describe.issue(issue),
    changelog: { id: issue.histories.at(-1)?.id ?? '1', items },
  }),
  /** As Jira Cloud sends it: the issue with few fields, the comment as wiki text. */
  comment: (issue: Issue, comment: Comment, wiki: string, webhookEvent: 'comment_created' | 'comment_updated') => {
    const { id, key, self, fields } = describe.issue(issue)
    const { summary, project, assignee, status } = fields
    return {
      timestamp: comment.changedAt,
      webhookEvent,
      comment: { ...describe.comment(issue, comment), body: wiki },
      issue: { id, self, key, fields: { summary, project, assignee, status } },
      eventType: 'primaryAction',
    }
  },
})

/** What people do on the board. Each sends its webhook, unless `send` is false. */
const openPeople = (board: Board, describe: Descriptions, { deliver }: Webhooks, clock: () => number) => {
  const payloads = openPayloads(describe, clock)
  const commentOf = (key: string, id: string) => {
    const issue = board.requireIssue(key)
    const comment = issue.comments.find(candidate => candidate.id === id)
    if (comment === undefined) throw new Error(`there is no comment ${id} on ${key}`)
    return { issue, comment }
  }
  return {
    payloadOf: (key: string, items: unknown[]) => payloads.issue(board.requireIssue(key), items),
    /** Moves an issue to another status. */
    move: async (key: string, to: JiraStatus, { send = true } = {}): Promise<number> => {
      const issue = board.requireIssue(key)
      const items = board.moveTo(issue, to)
      return send ? deliver(payloads.issue(issue, items)) : 0
    },
    /** Moves an issue to another project, where it gets the key `to`. */
    rekey: async (
      key: string,
      to: string,
      { send = true, status = null as JiraStatus | null } = {},
    ): Promise<number> => {
      const issue = board.requireIssue(key)
      const items = board.rekey(issue, to, status ?? issue.status)
      return send ? deliver({ ...payloads.issue(issue, items), issue_event_type_name: 'issue_moved' }) : 0
    },
    assign: async (key: string, accountId: string | null): Promise<number> => {
      const issue = board.requireIssue(key)
      return deliver(payloads.issue(issue, board.assign(issue, accountId)))
    },
    /** Creates an issue. Its webhook is not sent. */
    create: (key: string, status: JiraStatus = 'To Do') => board.create(key, status),
    /** Comments. Text becomes a paragraph with its lines; `wiki` is what the webhook makes of it. Returns the comment's id. */
    write: async (
      key: string,
      text: string | Document,
      {
        by = ME.accountId as string,
        app = false,
        wiki = typeof text === 'string' ? text : '',
        edited = false,
        to = undefined as Audience | undefined,
        send = true,
      } = {},
    ): Promise<string> => {
      const issue = board.requireIssue(key)
      const comment = board.comment(issue, typeof text === 'string' ? paragraphOf(text) : text, by, app)
      if (edited) comment.changedAt += 1_000
      if (to !== undefined) comment.to = to
      if (send) await deliver(payloads.comment(issue, comment, wiki, 'comment_created'))
      return comment.id
    },
    /** Deletes a comment. */
    remove: (key: string, id: string) => {
      const issue = board.requireIssue(key)
      issue.comments = issue.comments.filter(comment => comment.id !== id)
    },
    /** The webhook of a new comment. */
    commentPayloadOf: (key: string, id: string) => {
      const { issue, comment } = commentOf(key, id)
      return payloads.comment(issue, comment, textOf(comment.body), 'comment_created')
    },
    /** Edits a comment. */
    rewrite: async (key: string, id: string, text: string): Promise<void> => {
      const { issue, comment } = commentOf(key, id)
      Object.assign(comment, { body: paragraphOf(text), changedAt: clock() + 1_000 })
      await deliver(payloads.comment(issue, comment, text, 'comment_updated'))
    },
  }
}

/** `issues`: summaries by key; the issues are a week old. `clock` gives epoch ms. */
export const startJira = async ({
  issues,
  clock = Date.now,
}: {
  issues: Record<string, string>
  clock?: () => number
}) => {
  const board = openBoard(issues, clock)
  const state = openJiraState()
  const server = createServer((request, response) => {
    respond({ board, describe, state, clock, self, moved }, request, response).catch(() => request.socket.destroy())
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const self = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const describe = openDescriptions(self)
  const webhooks = openWebhooks()
  const payloads = openPayloads(describe, clock)
  const moved: RouteContext['moved'] = (issue, items) => {
    // Jira answers before it sends.
    setImmediate(() => webhooks.deliver(payloads.issue(issue, items)).catch(() => {}))
  }

  return {
    url: self,
    me: ME,
    token: TOKEN,
    /** The settings of a bot that gets webhooks. */
    settings: {
      JIRA_HOST: self,
      JIRA_EMAIL: ME.emailAddress,
      JIRA_API_TOKEN: TOKEN,
      JIRA_WEBHOOK_SECRET: JIRA_SECRET,
    },
    /** A token with scopes, the address that accepts it, and its scopes. */
    scoped: { token: SCOPED_TOKEN, url: `${self}${GATEWAY_PATH}`, scopes: state.scopes },
    /** What /_edge/tenant_info answers from now on; null: what Jira answers. */
    tellTenant: (answer: ((response: ServerResponse) => void) | null) => {
      state.tenantInfo = answer
    },
    requests: state.requests,
    fields: state.fields,
    lacks: state.lacks,
    required: state.required,
    unreachable: state.unreachable,
    ...webhooks,
    ...openPeople(board, describe, webhooks, clock),
    issue: (key: string) => board.known.get(key),
    setDown: (now: boolean | 'a page') => {
      state.down = now
    },
    /** Requests whose method and path match are answered 503; null: none. */
    setFailing: (requests: RegExp | null) => {
      state.failing = requests
    },
    hide: (key: string) => void state.hidden.add(key),
    /** The issue is gone, and a search still shows it. */
    haunt: (key: string) => void state.ghosts.add(key),
    setEdits: (may: boolean, during = async () => {}) => {
      state.mayEdit = may
      state.duringEdit = during
    },
    /** Who may see each comment. */
    audiences: (key: string) => board.known.get(key)?.comments.map(comment => comment.to ?? {}) ?? [],
    comments: (key: string): string[] => board.known.get(key)?.comments.map(comment => textOf(comment.body)) ?? [],
    links: (key: string) => state.links.get(key) ?? [],
    /** Throws when something was requested that the stand-in lacks: it would be refused, and nobody would notice. */
    stop: async () => {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
      if (state.unknown.length > 0)
        throw new Error(`Jira does not have what was requested:\n${state.unknown.join('\n')}`)
    },
  }
}
export type JiraStandIn = Awaited<ReturnType<typeof startJira>>
