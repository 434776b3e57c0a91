/** Writes comments and links, and finds our own. */
import type { Ticket } from '../../domain.ts'
import type { Adf } from './adf.ts'
import { type Audience, member, plain, text, time } from './answers.ts'
import { commentsOf } from './issues.ts'
import { type Ask, refusalOf, unlessGone } from './request.ts'
import * as shapes from './shapes.ts'

/** `me`: our account. */
export const openComments = (ask: Ask, me: () => Promise<string>) => {
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
      // A redirected POST becomes a GET, which creates nothing.
      const { id } = await ask(doing, { url, method: 'POST', shape: shapes.created, body: { body, ...audience } })
      return String(id)
    },
    edit: async (ticket: Ticket, id: string, body: Adf, audience: Audience): Promise<'done' | 'gone' | 'refused'> => {
      try {
        await ask(`editing our comment on ${ticket} in Jira`, {
          url: `/rest/api/3/issue/${ticket}/comment/${id}`,
          method: 'PUT',
          shape: shapes.created,
          // Whoever watches the ticket was notified when the comment was posted.
          searchParams: { notifyUsers: 'false' },
          body: { body, ...audience },
        })
        return 'done'
      } catch (error) {
        if (refusalOf(error) === 404) return 'gone'
        // Not every account may edit its own comments.
        if (refusalOf(error) === 403 || refusalOf(error) === 400) return 'refused'
        throw error
      }
    },
    /** Creates or changes the remote link with this globalId. Throws when issue linking is off in that Jira. */
    link: async (ticket: Ticket, link: object): Promise<void> => {
      const doing = `linking the pull request of ${ticket} in Jira`
      const url = `/rest/api/3/issue/${ticket}/remotelink`
      await ask(doing, { url, method: 'POST', shape: shapes.created, body: link })
    },
    /** Removes the remote link with this globalId, if there is one. */
    unlink: async (ticket: Ticket, globalId: string): Promise<void> => {
      const url = `/rest/api/3/issue/${ticket}/remotelink`
      await ask(`removing a link to a pull request from ${ticket} in Jira`, {
        ...{ url, method: 'DELETE', shape: null, searchParams: { globalId } },
      }).catch(unlessGone)
    },
  }
}
