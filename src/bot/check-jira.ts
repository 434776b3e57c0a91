/** Whether Jira lets us do what the bot does, asked with the bot's own client. */
import type { JiraSettings } from '../config.ts'
import { failureOf } from '../errors.ts'
import { type Check, checkSecret, failed, note, right, wrong } from './check.ts'
import { type Jira, openJira } from './jira.ts'
import { isJiraFailure } from './jira-client.ts'

const OF = 'Jira'
export const TOKEN_PAGE = 'https://id.atlassian.com/manage-profile/security/api-tokens'

/** What each permission is for, and whether the bot is of any use without it. */
const needed = {
  BROWSE_PROJECTS: { called: 'Browse projects', without: 'wrong' },
  ADD_COMMENTS: { called: 'Add comments', without: 'wrong' },
  EDIT_OWN_COMMENTS: { called: 'Edit own comments', without: 'note' },
  LINK_ISSUES: { called: 'Link issues', without: 'note' },
} as const

const project = async (jira: Jira, key: string): Promise<Check[]> => {
  try {
    const found = await jira.project(key)
    if (found === null) {
      const others = await jira.projects()
      return [
        wrong(
          OF,
          `there is no project ${key}, or this account may not see it`,
          others.length === 0 ? 'It sees no project at all.' : `It sees ${others.join(', ')}.`,
        ),
      ]
    }
    if (found.key !== key)
      return [wrong(OF, `the project ${key} is called ${found.key} now`, `Write ${found.key} instead.`)]
    const lacks = await jira.lacks(key, Object.keys(needed))
    const told = Object.entries(needed).flatMap(([permission, { called, without }]) => {
      if (!lacks.includes(permission)) return []
      const says = `the account lacks the permission "${called}" in ${key}`
      const remedy = "An administrator of the project gives it, in the project's settings."
      return [without === 'wrong' ? wrong(OF, says, remedy) : note(OF, says, remedy)]
    })
    return told.some(one => one.found === 'wrong')
      ? told
      : [...told, right(OF, `${key} (${found.name}) can be read and commented on`)]
  } catch (error) {
    return [failed(OF, failureOf(error, `looking at the project ${key}`))]
  }
}

export const openJiraCheck = (settings: JiraSettings) => {
  const jira = openJira(settings)
  return {
    /** The keys of the projects that are seen. */
    projects: () => jira.projects().catch(() => []),
    account: async (): Promise<Check[]> => {
      try {
        await jira.me()
        return [right(OF, `${settings.email} is known at ${settings.url}`)]
      } catch (error) {
        const status = isJiraFailure(error) ? error.status : null
        if (status === 401 || status === 403)
          return [
            wrong(
              OF,
              `${settings.url} does not take this token of ${settings.email}`,
              `It has to be that account's own: ${TOKEN_PAGE}`,
            ),
          ]
        if (status === 404)
          return [
            wrong(OF, `there is no Jira at ${settings.url}`, 'The site is the name in the address of your board.'),
          ]
        return [
          failed(
            OF,
            failureOf(error, 'asking Jira who we are'),
            'Check JIRA_HOST, and the network between here and there.',
          ),
        ]
      }
    },
    project: (key: string) => project(jira, key),
    webhook: (): Check[] => (settings.webhookSecret === null ? [] : [checkSecret(OF, settings.webhookSecret)]),
  }
}
