/** What the bot uses of Jira's REST API. https://developer.atlassian.com/cloud/jira/platform/rest/v3/ */
import type { JiraSettings } from '../../config/config.ts'
import { fail } from '../../errors.ts'
import type { Show } from '../dry-run.ts'
import { remembered } from '../remembered.ts'
import { list, member, text, time } from './answers.ts'
import { openComments } from './comments.ts'
import { openIssues } from './issues.ts'
import { type Ask, isJiraFailure, openJiraClient, unlessGone } from './request.ts'
import { openTransitions } from './transitions.ts'

export type Jira = ReturnType<typeof openJira>

/** The account whose token it is. */
const readAccount = async (ask: Ask): Promise<string> => {
  const doing = 'checking the Jira token'
  const id = text(member(await ask(doing, { url: '/rest/api/3/myself' }), 'accountId'))
  if (id === null) throw fail('network', `${doing}: the response names no account`)
  return id
}

const openProjects = (ask: Ask) => ({
  /** Null when there is no such project, or none that we may see. A previous key leads to the present one. */
  project: async (key: string): Promise<{ key: string; name: string } | null> => {
    const url = `/rest/api/3/project/${key}`
    const answer = await ask(`reading the project ${key} in Jira`, { url }).catch(unlessGone)
    const [present, name] = [text(member(answer, 'key')), text(member(answer, 'name'))]
    return present === null ? null : { key: present, name: name ?? present }
  },
  /** The keys of the projects that we may see, the first 50. */
  projects: async (): Promise<string[]> => {
    const answer = await ask('listing the projects in Jira', {
      url: '/rest/api/3/project/search',
      searchParams: { maxResults: 50, orderBy: 'key' },
    })
    return list(member(answer, 'values')).flatMap(project => text(member(project, 'key')) ?? [])
  },
  /** Those of these permissions that we do not have in a project. */
  lacks: async (project: string, permissions: readonly string[]): Promise<string[]> => {
    const answer = await ask(`reading our permissions in the project ${project}`, {
      url: '/rest/api/3/mypermissions',
      searchParams: { projectKey: project, permissions: permissions.join(',') },
    })
    return permissions.filter(name => member(answer, 'permissions', name, 'havePermission') !== true)
  },
  /** Throws when our token may not write. It sends a real request that writes nothing. */
  tryWriting: async (): Promise<void> => {
    // An empty comment on an issue that cannot exist, because issues are counted from 1. A token that may not write is refused
    // first (401, 403; the gateway's own is FAILURE_CLIENT_SCOPE_CHECK). Otherwise Jira answers that there is no such issue
    // (404) or no body (400), the other answers of "Add comment" in Jira's description of its API.
    const url = '/rest/api/3/issue/NONE-0/comment'
    await ask('testing write access to Jira', { url, method: 'POST', body: {} }).catch(error => {
      if (!isJiraFailure(error) || (error.status !== 404 && error.status !== 400)) throw error
    })
  },
})

/** With `show`, what would be written is shown and not sent. */
export const openJira = (settings: JiraSettings, show: Show | null = null) => {
  const ask = openJiraClient(settings, show)
  const me = remembered(() => readAccount(ask))
  return {
    me,
    /** Jira's clock, epoch ms. Read each time, because our own clock may be corrected in between. */
    now: async (): Promise<number> => {
      const answer = await ask("reading Jira's clock", { url: '/rest/api/3/serverInfo' })
      const at = time(member(answer, 'serverTime'))
      if (Number.isNaN(at)) throw fail('network', "reading Jira's clock: the response has no time")
      return at
    },
    ...openIssues(ask),
    ...openComments(ask, me, show !== null),
    ...openProjects(ask),
    ...openTransitions(ask),
  }
}
