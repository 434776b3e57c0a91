/** What is asked of Jira's REST API, the little of it that is needed: who am I, how an issue is now, and our comments on it. */
import type { StatusCategory } from '../../../handlers/handler.ts'
import type { JiraSettings } from '../../config/config.ts'
import type { Ticket } from '../../domain.ts'
import { fail } from '../../errors.ts'
import type { Show } from '../dry-run.ts'
import type { Adf } from '../publish/text.ts'
import {
  type Audience,
  byTime,
  type Change,
  categoryOf,
  changesIn,
  commentIn,
  issueIn,
  type JiraComment,
  type JiraIssue,
  list,
  member,
  plain,
  type Standing,
  standingIn,
  text,
  time,
} from './answers.ts'
import { isJiraFailure, openJiraClient, unlessGone } from './request.ts'

const A_PAGE = 100
/** What `standingIn` reads. */
const STANDING = ['status', 'assignee', 'labels', 'created']

/** An issue that a search found, with all its changes and comments since the time that was asked for, oldest first. */
export type Found = Standing & { comments: JiraComment[] }
export type Jira = {
  /** The account whose token it is. Asked once. */
  me(): Promise<string>
  /** Null when there is no such issue, or none that we may see. */
  issue(ticket: Ticket): Promise<JiraIssue | null>
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
  /** Throws when our token may not write. Tried for real, and nothing is written. */
  tryWriting(): Promise<void>
}

/** `show`, where it is set, is given what would be written, and nothing is. */
export const openJira = (settings: JiraSettings, show: Show | null = null): Jira => {
  const ask = openJiraClient(settings, show)

  // ── Pages ──

  /** What JQL finds. */
  async function* foundBy(jql: string, fields: readonly string[]): AsyncGenerator<unknown> {
    for (let nextPageToken: string | null = null; ; ) {
      const told = await ask('searching Jira', {
        url: '/rest/api/3/search/jql',
        method: 'GET',
        searchParams: {
          jql,
          fields: fields.join(','),
          expand: 'changelog',
          maxResults: A_PAGE,
          ...(nextPageToken === null ? {} : { nextPageToken }),
        },
      })
      yield* list(member(told, 'issues'))
      nextPageToken = text(member(told, 'nextPageToken'))
      if (nextPageToken === null || member(told, 'isLast') === true) return
    }
  }
  /** A list that is counted from `startAt`, of what stands under `named`. Not every such list says which page is its last. */
  async function* listed(doing: string, url: string, named: string, more: { orderBy?: string } = {}) {
    for (let startAt = 0; ; startAt += A_PAGE) {
      const searchParams = { startAt, maxResults: A_PAGE, ...more }
      const told = await ask(doing, { url, method: 'GET', searchParams })
      const items = list(member(told, named))
      yield* items
      if (items.length === 0 || (member(told, 'isLast') ?? items.length < A_PAGE) === true) return
    }
  }

  /** The id of what was made. Where a request was redirected it became another, which made nothing. */
  const madeIn = (told: unknown, doing: string): string => {
    const id = member(told, 'id')
    if (typeof id === 'string' || typeof id === 'number') return String(id)
    // What is only shown is not answered.
    if (show !== null) return ''
    throw fail(
      'network',
      `${doing}: Jira answered, and names nothing that it made`,
      'Does the address lead on to another one? Set JIRA_HOST to that.',
    )
  }

  // ── An issue's changes and comments ──

  /** All changes since then, oldest first: those that came with the search, and those that it left out. */
  const changesOf = async (ticket: Ticket, changelog: unknown, since: number): Promise<Change[]> => {
    let histories = list(member(changelog, 'histories'))
    const total = Number(member(changelog, 'total') ?? histories.length)
    const oldest = Math.min(...histories.map(one => time(member(one, 'created')) || 0))
    if (histories.length < total && oldest >= since) {
      const url = `/rest/api/3/issue/${ticket}/changelog`
      histories = await Array.fromAsync(listed(`reading the changes of ${ticket} in Jira`, url, 'values'))
    }
    return changesIn(histories).filter(({ at }) => at >= since)
  }

  /** Newest first. */
  const commentsOf = (ticket: Ticket): AsyncGenerator<unknown> =>
    listed(`reading the comments of ${ticket} in Jira`, `/rest/api/3/issue/${ticket}/comment`, 'comments', {
      orderBy: '-created',
    })
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
    return found.sort(byTime)
  }
  /** The newest comment of ours that is looked for, or null. */
  const ours = async (ticket: Ticket, is: (comment: unknown) => boolean): Promise<string | null> => {
    const us = await me()
    for await (const comment of commentsOf(ticket))
      if (member(comment, 'author', 'accountId') === us && is(comment)) return text(member(comment, 'id'))
    return null
  }

  // ── What is asked once, and kept ──

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

  let categories = new Map<string, StatusCategory>()
  const readCategories = async () => {
    const told = await ask("reading Jira's statuses", { url: '/rest/api/3/status', method: 'GET' })
    categories = new Map(
      list(told).flatMap(one => {
        const id = text(member(one, 'id'))
        return id === null ? [] : [[id, categoryOf(member(one, 'statusCategory', 'key'))] as const]
      }),
    )
  }

  return {
    me,
    issue: async ticket => {
      const told = await ask(`reading ${ticket} in Jira`, {
        url: `/rest/api/3/issue/${ticket}`,
        method: 'GET',
        searchParams: { fields: 'status,assignee,labels' },
      }).catch(unlessGone)
      return told === null ? null : issueIn(told)
    },
    // Read anew each time: our clock may be put right meanwhile, and the difference with it.
    now: async () => {
      const told = await ask("reading Jira's clock", { url: '/rest/api/3/serverInfo', method: 'GET' })
      const at = time(member(told, 'serverTime'))
      if (Number.isNaN(at)) throw fail('network', "reading Jira's clock: it did not say")
      return at
    },
    search: async (jql, since) => {
      const found: Found[] = []
      for await (const issue of foundBy(jql, [...STANDING, 'comment'])) {
        const standing = standingIn(issue)
        if (standing === null) continue
        const { ticket } = standing
        try {
          const changes = await changesOf(ticket, member(issue, 'changelog'), since)
          const comments = await newComments(ticket, member(issue, 'fields', 'comment'), since)
          found.push({ ...standing, changes, comments })
        } catch (error) {
          // The search lags behind: one that is gone, or hidden by now, must not keep the others from being found.
          if (!isJiraFailure(error) || (error.status !== 404 && error.status !== 403)) throw error
        }
      }
      return found
    },
    standing: async jql => (await Array.fromAsync(foundBy(jql, STANDING))).flatMap(issue => standingIn(issue) ?? []),
    standingOf: async tickets => {
      const found: Standing[] = []
      for (let from = 0; from < tickets.length; from += A_PAGE) {
        const issueIdsOrKeys = tickets.slice(from, from + A_PAGE)
        const told = await ask(`reading ${issueIdsOrKeys.length} issues in Jira`, {
          url: '/rest/api/3/issue/bulkfetch',
          method: 'POST',
          reads: true,
          body: { issueIdsOrKeys, fields: STANDING, expand: ['changelog'] },
        })
        found.push(...list(member(told, 'issues')).flatMap(issue => standingIn(issue) ?? []))
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
      }).catch(unlessGone)
      return told === null ? null : commentIn(told)
    },
    said: async (ticket, body, since) => {
      const wanted = plain(body)
      return ours(ticket, one => plain(member(one, 'body')) === wanted && time(member(one, 'created')) >= since)
    },
    find: (ticket, firstLine) => ours(ticket, one => plain(member(one, 'body')).trim().startsWith(firstLine)),
    comment: async (ticket, body, audience) => {
      const told = await ask(`commenting on ${ticket} in Jira`, {
        url: `/rest/api/3/issue/${ticket}/comment`,
        method: 'POST',
        body: { body, ...audience },
      })
      return madeIn(told, `commenting on ${ticket} in Jira`)
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
      const doing = `linking the pull request of ${ticket} in Jira`
      const told = await ask(doing, { url: `/rest/api/3/issue/${ticket}/remotelink`, method: 'POST', body: link })
      madeIn(told, doing)
    },
    project: async key => {
      const told = await ask(`looking at the project ${key} in Jira`, {
        url: `/rest/api/3/project/${key}`,
        method: 'GET',
      }).catch(unlessGone)
      const [present, name] = [text(member(told, 'key')), text(member(told, 'name'))]
      return present === null ? null : { key: present, name: name ?? present }
    },
    projects: async () => {
      const told = await ask('asking Jira for its projects', {
        url: '/rest/api/3/project/search',
        method: 'GET',
        searchParams: { maxResults: 50, orderBy: 'key' },
      })
      return list(member(told, 'values')).flatMap(one => text(member(one, 'key')) ?? [])
    },
    lacks: async (project, permissions) => {
      const told = await ask(`asking what we may do in the project ${project}`, {
        url: '/rest/api/3/mypermissions',
        method: 'GET',
        searchParams: { projectKey: project, permissions: permissions.join(',') },
      })
      return permissions.filter(one => member(told, 'permissions', one, 'havePermission') !== true)
    },
    tryWriting: async () => {
      // A comment that says nothing, on an issue that cannot be: they are counted from 1. What may not write is refused before
      // Jira looks at any of that (401, 403; the gateway's own is FAILURE_CLIENT_SCOPE_CHECK). What may is told that there is no
      // such issue (404), or no body (400), which are the other answers of "Add comment" in Jira's description of its API.
      await ask('trying whether we may write in Jira', {
        url: '/rest/api/3/issue/NONE-0/comment',
        method: 'POST',
        body: {},
      }).catch(error => {
        if (!isJiraFailure(error) || (error.status !== 404 && error.status !== 400)) throw error
      })
    },
  }
}
