/** What the bot uses of Jira's REST API. https://developer.atlassian.com/cloud/jira/platform/rest/v3/ */
import type { JiraSettings } from '../../config/config.ts'
import { fail } from '../../errors.ts'
import type { Show } from '../dry-run.ts'
import { remembered } from '../remembered.ts'
import { time } from './answers.ts'
import { openComments } from './comments.ts'
import { openIssues } from './issues.ts'
import { type Ask, openJiraClient, refusalOf, unlessGone } from './request.ts'
import * as shapes from './shapes.ts'
import { openTransitions } from './transitions.ts'

export type Jira = ReturnType<typeof openJira>

/** The account whose token it is. */
const readAccount = async (ask: Ask): Promise<string> =>
  (await ask('checking the Jira token', { url: '/rest/api/3/myself', shape: shapes.account })).accountId

const openProjects = (ask: Ask) => ({
  /** Null when there is no such project, or none that we may see. A previous key leads to the present one. */
  project: async (key: string): Promise<{ key: string; name: string } | null> => {
    const url = `/rest/api/3/project/${key}`
    const answer = await ask(`reading the project ${key} in Jira`, { url, shape: shapes.project }).catch(unlessGone)
    return answer === null ? null : { key: answer.key, name: answer.name ?? answer.key }
  },
  /** The keys of the projects that we may see, the first 50. */
  projects: async (): Promise<string[]> => {
    const answer = await ask('listing the projects in Jira', {
      url: '/rest/api/3/project/search',
      shape: shapes.projects,
      searchParams: { maxResults: 50, orderBy: 'key' },
    })
    return answer.values.map(({ key }) => key)
  },
  /** Those of these permissions that we do not have in a project. */
  lacks: async (project: string, permissions: readonly string[]): Promise<string[]> => {
    const answer = await ask(`reading our permissions in the project ${project}`, {
      url: '/rest/api/3/mypermissions',
      shape: shapes.permissions,
      searchParams: { projectKey: project, permissions: permissions.join(',') },
    })
    return permissions.filter(name => answer.permissions[name]?.havePermission !== true)
  },
  /** Throws when our token may not write. It sends a real request that writes nothing. */
  tryWriting: async (): Promise<void> => {
    // An empty comment on an issue that cannot exist, because issues are counted from 1. A token that may not write is refused
    // first (401, 403; the gateway's own is FAILURE_CLIENT_SCOPE_CHECK). Otherwise Jira answers that there is no such issue
    // (404) or no body (400), the other answers of "Add comment" in Jira's description of its API.
    const url = '/rest/api/3/issue/NONE-0/comment'
    await ask('testing write access to Jira', { url, method: 'POST', body: {}, shape: null }).catch(error => {
      if (refusalOf(error) !== 404 && refusalOf(error) !== 400) throw error
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
      const answer = await ask("reading Jira's clock", { url: '/rest/api/3/serverInfo', shape: shapes.serverInfo })
      const at = time(answer.serverTime)
      if (Number.isNaN(at)) throw fail('network', "reading Jira's clock: the response has no time")
      return at
    },
    ...openIssues(ask),
    ...openComments(ask, me),
    ...openProjects(ask),
    ...openTransitions(ask),
  }
}
