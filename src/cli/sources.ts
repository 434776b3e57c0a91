/** What a bot prints when it starts: what it watches, and where webhooks must arrive. */
import type { Config } from '../config/config.ts'

const counted = (ids: readonly string[]) => (ids.length === 1 ? 'one account' : `${ids.length} accounts`)

const assigneeText = ({ assignees, jira }: Config): string => {
  if (assignees === 'me') return `tickets of ${jira?.email} get machines`
  if (assignees === 'any') return 'every ticket gets a machine'
  return `tickets of ${counted(assignees)} get machines`
}

const githubText = ({ github, pollSeconds }: Config): string => {
  if (github === null) return 'GitHub: not connected'
  const watched = github.repositories.join(', ')
  if (github.via === 'app')
    return `GitHub: App ${github.appId} by webhooks, for ${watched}. https://<your address>/api/github/webhooks must lead to this bot`
  return `GitHub: ${watched}, polled every ${pollSeconds} s`
}

const jiraText = (config: Config): string => {
  const { jira, projects, pollSeconds } = config
  if (jira === null) return `Jira: not connected; tickets are those of ${projects.join(', ')}`
  const way =
    jira.webhookSecret === null
      ? `polled every ${pollSeconds} s`
      : 'by webhook (https://<your address>/jira/webhook must lead to this bot)'
  // With the path: at Atlassian's gateway only the path names the site.
  const site = jira.url.replace(/^https?:\/\//, '')
  return `Jira: ${projects.join(', ')} on ${site}, ${way}; ${assigneeText(config)}`
}

export const sourcesText = (config: Config): string => `${githubText(config)}\n${jiraText(config)}`
