/** Writes comments and links, and finds our own. */
import type { Ticket } from '../../domain.ts'
import { fail } from '../../errors.ts'
import type { Adf } from './adf.ts'
import { type Audience, member, plain, text, time } from './answers.ts'
import { commentsOf } from './issues.ts'
import { type Ask, isJiraFailure, unlessGone } from './request.ts'

/** `me`: our account. `isDryRun`: nothing is sent, so that no answer has an id. */
export const openComments = (ask: Ask, me: () => Promise<string>, isDryRun: boolean) => {
  /** The id of what was created. A redirected POST becomes a GET, which creates nothing. */
  const createdId = (answer: unknown, doing: string): string => {
    const id = member(answer, 'id')
    if (typeof id === 'string' || typeof id === 'number') return String(id)
    if (isDryRun) return ''
    throw fail(
      'network',
      `${doing}: Jira's response does not name what it created`,
      'If JIRA_HOST redirects to another address, set JIRA_HOST to that address.',
    )
  }
  /** Our newest comment that matches, or null. */
  const findOwn = async (ticket: Ticket, matches: (comment: unknown) => boolean): Promise<string | null> => {
    const account = await me()
    for await (const comment of commentsOf(ask, ticket))
      if (member(comment, 'author', 'accountId') === account && matches(comment)) return text(member(comment, 'id'))
    return null
  }

  return {
    /** Our comment with exactly this text, written since `since` (epoch ms); null when there is none. */
    findSame: (ticket: Ticket, body: Adf, since: number): Promise<string | null> => {
      const wanted = plain(body)
      return findOwn(
        ticket,
        comment => plain(member(comment, 'body')) === wanted && time(member(comment, 'created')) >= since,
      )
    },
    /** Our newest comment that begins with this line, or null. */
    findByFirstLine: (ticket: Ticket, firstLine: string): Promise<string | null> =>
      findOwn(ticket, comment => plain(member(comment, 'body')).trim().startsWith(firstLine)),
    /** Posts a comment, and returns its id. */
    comment: async (ticket: Ticket, body: Adf, audience?: Audience): Promise<string> => {
      const doing = `commenting on ${ticket} in Jira`
      const url = `/rest/api/3/issue/${ticket}/comment`
      return createdId(await ask(doing, { url, method: 'POST', body: { body, ...audience } }), doing)
    },
    edit: async (ticket: Ticket, id: string, body: Adf, audience: Audience): Promise<'done' | 'gone' | 'refused'> => {
      try {
        await ask(`editing our comment on ${ticket} in Jira`, {
          url: `/rest/api/3/issue/${ticket}/comment/${id}`,
          method: 'PUT',
          // Whoever watches the ticket was notified when the comment was posted.
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
    /** Creates or changes the remote link with this globalId. Throws when issue linking is off in that Jira. */
    link: async (ticket: Ticket, link: object): Promise<void> => {
      const doing = `linking the pull request of ${ticket} in Jira`
      createdId(await ask(doing, { url: `/rest/api/3/issue/${ticket}/remotelink`, method: 'POST', body: link }), doing)
    },
    /** Removes the remote link with this globalId, if there is one. */
    unlink: async (ticket: Ticket, globalId: string): Promise<void> => {
      const url = `/rest/api/3/issue/${ticket}/remotelink`
      await ask(`removing a link to a pull request from ${ticket} in Jira`, {
        ...{ url, method: 'DELETE', searchParams: { globalId } },
      }).catch(unlessGone)
    },
  }
}
