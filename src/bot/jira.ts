/** Jira's REST API, the little of it that is needed: who am I, how an issue is now, and our comments on it. */
import type { StatusCategory } from '../../handlers/handler.ts'
import type { JiraSettings } from '../config.ts'
import { isTicket, type Ticket } from '../domain.ts'
import { type FailureError, fail } from '../errors.ts'
import type { Show } from './dry-run.ts'
import type { Adf } from './text.ts'

const DEADLINE_MS = 10_000
const COMMENTS_A_PAGE = 100
const ISSUES_A_PAGE = 100
const CHANGES_A_PAGE = 100
/** Reads, though it is posted. */
const BULK = '/rest/api/3/issue/bulkfetch'

/** An issue as it is now. */
type Issue = { category: StatusCategory; assignee: string | null; labels: string[] }
/** A change of an issue's status or assignee. `at` is epoch ms of Jira's clock, `to` the id of the new status, if that changed. */
export type Change = { id: string; at: number; by: string | null; fields: ('status' | 'assignee')[]; to: string | null }
/** An issue that a search found, with its changes and comments since the time that was asked for, oldest first. */
export type Found = Issue & { ticket: Ticket; createdAt: number; changes: Change[]; comments: JiraComment[] }
/** A comment as it is now: `body` is a document, `at` (epoch ms of Jira's clock) when it was written. */
export type JiraComment = {
  id: string
  at: number
  author: string | null
  /** An add-on, an automation or the like. */
  authorIsApp: boolean
  /** It was changed since it was written. */
  edited: boolean
  body: unknown
  audience: Audience
}
/**
 * Whom a comment is shown to, in the words of Jira's API: a group or a role, or, in a service project, not its customers
 * (the property sd.public.comment). Empty for whoever sees the issue.
 */
export type Audience = {
  visibility?: { type: string; value: string }
  properties?: [{ key: 'sd.public.comment'; value: { internal: true } }]
}
/** An issue as it is, with the changes that came with it, the newest 40 at most, oldest first. */
export type Standing = Omit<Found, 'comments'>
export type Jira = {
  /** The account whose token it is. Asked once. */
  me(): Promise<string>
  /** Null when there is no such issue, or none that we may see. */
  issue(ticket: Ticket): Promise<Issue | null>
  /** Epoch ms of Jira's own clock. */
  now(): Promise<number>
  /** What is found by JQL, with its changes since `since`. What is not found may be there all the same. */
  search(jql: string, since: number): Promise<Found[]>
  /** How issues are now, those that a search finds. */
  standing(jql: string): Promise<Standing[]>
  /** The same, by their keys. What Jira does not show us is left out, and may be there all the same. */
  standingOf(tickets: readonly Ticket[]): Promise<Standing[]>
  /** The category of a status, by its id. */
  categoryOf(status: string): Promise<StatusCategory>
  /** Null when it is gone. */
  readComment(ticket: Ticket, id: string): Promise<JiraComment | null>
  /** A comment of ours, made since then (epoch ms), that says exactly this; null when there is none. */
  said(ticket: Ticket, body: Adf, since: number): Promise<string | null>
  /** Posts a comment, and returns its id. */
  comment(ticket: Ticket, body: Adf, audience?: Audience): Promise<string>
  /** Our newest comment that begins with this line, or null. */
  find(ticket: Ticket, firstLine: string): Promise<string | null>
  edit(ticket: Ticket, id: string, body: Adf, audience: Audience): Promise<'done' | 'gone' | 'refused'>
  /** Makes the remote link with this globalId, or changes it. Throws when issue linking is off in that Jira. */
  link(ticket: Ticket, link: object): Promise<void>
  /** Null when there is no such project, or none that we may see. An older key leads to the present one. */
  project(key: string): Promise<{ key: string; name: string } | null>
  /** The keys of projects that we see, of more than fifty the first. */
  projects(): Promise<string[]>
  /** Of these permissions, those that we do not have in a project. */
  lacks(project: string, permissions: readonly string[]): Promise<string[]>
}

/** What failed, and whether it is worth another try (`retryAfter` in ms, when Jira said). */
export type JiraFailure = FailureError & { status: number | null; retryAfter: number | null }
export const isJiraFailure = (error: unknown): error is JiraFailure =>
  error instanceof Error && 'failure' in error && 'retryAfter' in error

const CATEGORIES: readonly StatusCategory[] = ['new', 'indeterminate', 'done', 'undefined']

type Told = Record<string, unknown>
const member = (value: unknown, ...path: string[]): unknown =>
  path.reduce<unknown>(
    (at, name) => (typeof at === 'object' && at !== null && Object.hasOwn(at, name) ? (at as Told)[name] : undefined),
    value,
  )
const text = (value: unknown): string | null => (typeof value === 'string' ? value : null)

const issueIn = (told: unknown): Issue => {
  const key = text(member(told, 'fields', 'status', 'statusCategory', 'key'))
  const labels = member(told, 'fields', 'labels')
  return {
    category: CATEGORIES.find(one => one === key) ?? 'undefined',
    assignee: text(member(told, 'fields', 'assignee', 'accountId')),
    labels: Array.isArray(labels) ? labels.filter(one => typeof one === 'string') : [],
  }
}

/** The text of a document, without its form: Jira gives back more attributes than were sent. */
const plain = (node: unknown): string => {
  const content = member(node, 'content')
  return (text(member(node, 'text')) ?? '') + (Array.isArray(content) ? content.map(plain).join('\n') : '')
}

/** `show`, where it is set, is given what would be written, and nothing is. */
export const openJira = ({ url, email, apiToken }: JiraSettings, show: Show | null = null): Jira => {
  // Loaded with the first request: the bot must listen long before.
  const opened = async () => {
    const jira = await import('jira.js/core')
    try {
      return { jira, client: jira.createClient({ host: url, auth: { type: 'basic', email, apiToken } }) }
    } catch (error) {
      // What it says may hold the token.
      throw fail(
        'not-configured',
        'opening the client of Jira: it takes host or e-mail address for none',
        'Check JIRA_HOST and JIRA_EMAIL.',
        error,
      )
    }
  }
  let opening: ReturnType<typeof opened> | null = null

  const ask = async (
    doing: string,
    request: {
      url: string
      method: 'GET' | 'POST' | 'PUT'
      searchParams?: Record<string, string | number>
      body?: unknown
    },
  ): Promise<unknown> => {
    if (show !== null && request.method !== 'GET' && request.url !== BULK) {
      show({ what: 'request', to: 'Jira', method: request.method, path: request.url, body: request.body })
      return {}
    }
    opening ??= opened()
    const { jira, client } = await opening
    const { promise: late, reject } = Promise.withResolvers<never>()
    // The client has no deadline of its own, and cannot be aborted.
    const timer = setTimeout(
      () =>
        reject(
          Object.assign(fail('timeout', `${doing}: Jira did not answer within ${DEADLINE_MS / 1000} s`), {
            status: null,
            retryAfter: null,
          }),
        ),
      DEADLINE_MS,
    )
    const answered = client.sendRequest(request).then((told: unknown) => {
      // As a login page does: taken for an answer, it would say that there is nothing.
      if (typeof told === 'object' && told !== null) return told
      throw Object.assign(fail('network', `${doing}: what answered is not Jira, or not now: it sent no JSON`), {
        status: null,
        retryAfter: null,
      })
    })
    const asked = answered.catch((error: unknown) => {
      if (isJiraFailure(error)) throw error
      const status = jira.isApiError(error) ? error.status : null
      const retryAfter = jira.isRateLimitError(error) ? (error.retryAfterMs ?? null) : null
      const again = status === null || status === 429 || status >= 500
      const kind = again ? 'network' : status === 401 || status === 403 ? 'permission' : 'refused'
      const code = jira.isNetworkError(error) && error.code !== undefined ? ` (${error.code})` : ''
      const said = status === null ? `Jira cannot be reached${code}` : `Jira answered ${status}`
      throw Object.assign(
        fail(
          kind,
          `${doing}: ${said}`,
          kind === 'permission'
            ? 'Check JIRA_EMAIL and JIRA_API_TOKEN, and what that account may do in the project.'
            : null,
          error,
        ),
        { status, retryAfter },
      )
    })
    try {
      return await Promise.race([asked, late])
    } finally {
      clearTimeout(timer)
      asked.catch(() => {})
    }
  }

  let account: Promise<string> | null = null
  const me = (): Promise<string> => {
    account ??= ask('asking Jira who we are', { url: '/rest/api/3/myself', method: 'GET' })
      .then(told => {
        const id = text(member(told, 'accountId'))
        if (id === null) throw fail('network', 'asking Jira who we are: it did not say')
        return id
      })
      .catch(error => {
        account = null
        throw error
      })
    return account
  }

  /** Read anew each time: ours may be put right meanwhile, and the difference with it. */
  const now = async (): Promise<number> => {
    const told = await ask("reading Jira's clock", { url: '/rest/api/3/serverInfo', method: 'GET' })
    const at = Date.parse(text(member(told, 'serverTime')) ?? '')
    if (Number.isNaN(at)) throw fail('network', "reading Jira's clock: it did not say")
    return at
  }

  let categories = new Map<string, StatusCategory>()
  const readCategories = async () => {
    const told = await ask("reading Jira's statuses", { url: '/rest/api/3/status', method: 'GET' })
    categories = new Map(
      (Array.isArray(told) ? told : []).flatMap(one => {
        const id = text(member(one, 'id'))
        const key = text(member(one, 'statusCategory', 'key'))
        return id === null ? [] : [[id, CATEGORIES.find(known => known === key) ?? 'undefined'] as const]
      }),
    )
  }

  const changeIn = (history: unknown): Change | null => {
    const id = text(member(history, 'id'))
    const at = Date.parse(text(member(history, 'created')) ?? '')
    const items = member(history, 'items')
    if (id === null || Number.isNaN(at) || !Array.isArray(items)) return null
    const item = (field: string) => items.find(one => member(one, 'field') === field)
    const fields = (['status', 'assignee'] as const).filter(field => item(field) !== undefined)
    if (fields.length === 0) return null
    return { id, at, by: text(member(history, 'author', 'accountId')), fields, to: text(member(item('status'), 'to')) }
  }
  /** All changes since then, oldest first: those that came with the search, and those that it left out. */
  const changesOf = async (ticket: Ticket, changelog: unknown, since: number): Promise<Change[]> => {
    const listed = member(changelog, 'histories')
    let histories: unknown[] = Array.isArray(listed) ? listed : []
    const total = Number(member(changelog, 'total') ?? histories.length)
    const oldest = Math.min(...histories.map(one => Date.parse(text(member(one, 'created')) ?? '') || 0))
    if (histories.length < total && oldest >= since) {
      histories = []
      for (let startAt = 0; ; startAt += CHANGES_A_PAGE) {
        const page = await ask(`reading the changes of ${ticket} in Jira`, {
          url: `/rest/api/3/issue/${ticket}/changelog`,
          method: 'GET',
          searchParams: { startAt, maxResults: CHANGES_A_PAGE },
        })
        const values = member(page, 'values')
        if (!Array.isArray(values) || values.length === 0) break
        histories.push(...values)
        if (member(page, 'isLast') === true) break
      }
    }
    return (
      histories
        .flatMap(one => changeIn(one) ?? [])
        .filter(({ at }) => at >= since)
        // Ids grow, and two changes may be of one moment.
        .sort((one, other) => one.at - other.at || Number(one.id) - Number(other.id))
    )
  }

  const STANDING = ['status', 'assignee', 'labels', 'created']
  const standingIn = (told: unknown): Standing[] => {
    const issues = member(told, 'issues')
    return (Array.isArray(issues) ? issues : []).flatMap(issue => {
      const ticket = text(member(issue, 'key'))
      const createdAt = Date.parse(text(member(issue, 'fields', 'created')) ?? '')
      if (ticket === null || !isTicket(ticket) || Number.isNaN(createdAt)) return []
      const histories = member(issue, 'changelog', 'histories')
      const changes = (Array.isArray(histories) ? histories : [])
        .flatMap(one => changeIn(one) ?? [])
        .sort((one, other) => one.at - other.at || Number(one.id) - Number(other.id))
      return [{ ticket, createdAt, changes, ...issueIn(issue) }]
    })
  }

  /** Newest first. */
  async function* commentsOf(ticket: Ticket): AsyncGenerator<unknown> {
    for (let startAt = 0; ; startAt += COMMENTS_A_PAGE) {
      const told = await ask(`reading the comments of ${ticket} in Jira`, {
        url: `/rest/api/3/issue/${ticket}/comment`,
        method: 'GET',
        searchParams: { startAt, maxResults: COMMENTS_A_PAGE, orderBy: '-created' },
      })
      const comments = member(told, 'comments')
      if (!Array.isArray(comments)) return
      yield* comments
      if (comments.length < COMMENTS_A_PAGE) return
    }
  }
  const audienceOf = (told: unknown): Audience => {
    const type = text(member(told, 'visibility', 'type'))
    const value = text(member(told, 'visibility', 'value'))
    return {
      ...(type === null || value === null ? {} : { visibility: { type, value } }),
      ...(member(told, 'jsdPublic') === false
        ? { properties: [{ key: 'sd.public.comment', value: { internal: true } }] }
        : {}),
    }
  }
  const commentIn = (told: unknown): JiraComment | null => {
    const id = text(member(told, 'id'))
    const created = text(member(told, 'created'))
    const at = Date.parse(created ?? '')
    if (id === null || Number.isNaN(at)) return null
    return {
      id,
      at,
      author: text(member(told, 'author', 'accountId')),
      authorIsApp: member(told, 'author', 'accountType') === 'app',
      // One that was never changed has one time twice.
      edited: text(member(told, 'updated')) !== created,
      body: member(told, 'body'),
      audience: audienceOf(told),
    }
  }
  /** Those written since then, oldest first: out of the search, where that shows them all. */
  const newComments = async (ticket: Ticket, field: unknown, since: number): Promise<JiraComment[]> => {
    const shown = member(field, 'comments')
    const all = Array.isArray(shown) && shown.length >= Number(member(field, 'total')) ? shown : null
    const found: JiraComment[] = []
    for await (const one of all ?? commentsOf(ticket)) {
      const comment = commentIn(one)
      if (comment !== null && comment.at >= since) found.push(comment)
      else if (all === null) break
    }
    return found.sort((one, other) => one.at - other.at || Number(one.id) - Number(other.id))
  }

  /** The newest comment of ours that is looked for, or null. */
  const ours = async (ticket: Ticket, is: (comment: unknown) => boolean): Promise<string | null> => {
    const us = await me()
    for await (const comment of commentsOf(ticket))
      if (member(comment, 'author', 'accountId') === us && is(comment)) return text(member(comment, 'id'))
    return null
  }

  return {
    me,
    issue: async ticket => {
      const told = await ask(`reading ${ticket} in Jira`, {
        url: `/rest/api/3/issue/${ticket}`,
        method: 'GET',
        searchParams: { fields: 'status,assignee,labels' },
      }).catch(error => {
        if (isJiraFailure(error) && error.status === 404) return null
        throw error
      })
      if (told === null) return null
      return issueIn(told)
    },
    now,
    search: async (jql, since) => {
      const found: Found[] = []
      for (let nextPageToken: string | null = null; ; ) {
        const told = await ask('searching Jira', {
          url: '/rest/api/3/search/jql',
          method: 'GET',
          searchParams: {
            jql,
            fields: 'status,assignee,labels,created,comment',
            expand: 'changelog',
            maxResults: ISSUES_A_PAGE,
            ...(nextPageToken === null ? {} : { nextPageToken }),
          },
        })
        const issues = member(told, 'issues')
        for (const issue of Array.isArray(issues) ? issues : []) {
          const ticket = text(member(issue, 'key'))
          const createdAt = Date.parse(text(member(issue, 'fields', 'created')) ?? '')
          if (ticket === null || !isTicket(ticket) || Number.isNaN(createdAt)) continue
          try {
            const changes = await changesOf(ticket, member(issue, 'changelog'), since)
            const comments = await newComments(ticket, member(issue, 'fields', 'comment'), since)
            found.push({ ticket, createdAt, changes, comments, ...issueIn(issue) })
          } catch (error) {
            // The search lags behind: one that is gone, or hidden by now, must not keep the others from being found.
            if (!isJiraFailure(error) || (error.status !== 404 && error.status !== 403)) throw error
          }
        }
        nextPageToken = text(member(told, 'nextPageToken'))
        if (nextPageToken === null || member(told, 'isLast') === true) return found
      }
    },
    standing: async jql => {
      const found: Standing[] = []
      for (let nextPageToken: string | null = null; ; ) {
        const told = await ask('searching Jira', {
          url: '/rest/api/3/search/jql',
          method: 'GET',
          searchParams: {
            jql,
            fields: STANDING.join(','),
            expand: 'changelog',
            maxResults: ISSUES_A_PAGE,
            ...(nextPageToken === null ? {} : { nextPageToken }),
          },
        })
        found.push(...standingIn(told))
        nextPageToken = text(member(told, 'nextPageToken'))
        if (nextPageToken === null || member(told, 'isLast') === true) return found
      }
    },
    standingOf: async tickets => {
      const found: Standing[] = []
      for (let from = 0; from < tickets.length; from += ISSUES_A_PAGE) {
        const issueIdsOrKeys = tickets.slice(from, from + ISSUES_A_PAGE)
        const told = await ask(`reading ${issueIdsOrKeys.length} issues in Jira`, {
          url: BULK,
          method: 'POST',
          body: { issueIdsOrKeys, fields: STANDING, expand: ['changelog'] },
        })
        found.push(...standingIn(told))
      }
      return found
    },
    categoryOf: async status => {
      if (!categories.has(status)) await readCategories()
      return categories.get(status) ?? 'undefined'
    },
    readComment: async (ticket, id) => {
      const told = await ask(`reading a comment on ${ticket} in Jira`, {
        url: `/rest/api/3/issue/${ticket}/comment/${id}`,
        method: 'GET',
      }).catch(error => {
        if (isJiraFailure(error) && error.status === 404) return null
        throw error
      })
      return told === null ? null : commentIn(told)
    },
    said: async (ticket, body, since) => {
      const wanted = plain(body)
      return ours(
        ticket,
        one => plain(member(one, 'body')) === wanted && Date.parse(text(member(one, 'created')) ?? '') >= since,
      )
    },
    find: (ticket, firstLine) => ours(ticket, one => plain(member(one, 'body')).trim().startsWith(firstLine)),
    comment: async (ticket, body, audience) => {
      const told = await ask(`commenting on ${ticket} in Jira`, {
        url: `/rest/api/3/issue/${ticket}/comment`,
        method: 'POST',
        body: { body, ...audience },
      })
      return text(member(told, 'id')) ?? ''
    },
    edit: async (ticket, id, body, audience) => {
      try {
        await ask(`editing our comment on ${ticket} in Jira`, {
          url: `/rest/api/3/issue/${ticket}/comment/${id}`,
          method: 'PUT',
          // Whoever follows the ticket was told of it once.
          searchParams: { notifyUsers: 'false' },
          body: { body, ...audience },
        })
        return 'done'
      } catch (error) {
        if (isJiraFailure(error) && error.status === 404) return 'gone'
        // Not every account may edit its own comments.
        if (isJiraFailure(error) && (error.status === 403 || error.status === 400)) return 'refused'
        throw error
      }
    },
    link: async (ticket, link) => {
      await ask(`linking the pull request of ${ticket} in Jira`, {
        url: `/rest/api/3/issue/${ticket}/remotelink`,
        method: 'POST',
        body: link,
      })
    },
    project: async key => {
      const told = await ask(`looking at the project ${key} in Jira`, {
        url: `/rest/api/3/project/${key}`,
        method: 'GET',
      }).catch(error => {
        if (isJiraFailure(error) && error.status === 404) return null
        throw error
      })
      const [present, name] = [text(member(told, 'key')), text(member(told, 'name'))]
      return present === null ? null : { key: present, name: name ?? present }
    },
    projects: async () => {
      const told = await ask('asking Jira for its projects', {
        url: '/rest/api/3/project/search',
        method: 'GET',
        searchParams: { maxResults: 50, orderBy: 'key' },
      })
      const values = member(told, 'values')
      return Array.isArray(values) ? values.flatMap(one => text(member(one, 'key')) ?? []) : []
    },
    lacks: async (project, permissions) => {
      const told = await ask(`asking what we may do in the project ${project}`, {
        url: '/rest/api/3/mypermissions',
        method: 'GET',
        searchParams: { projectKey: project, permissions: permissions.join(',') },
      })
      return permissions.filter(one => member(told, 'permissions', one, 'havePermission') !== true)
    },
  }
}
