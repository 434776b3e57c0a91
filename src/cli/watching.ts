/** What a bot says when it starts: what it watches, and where webhooks belong. */
import type { Config } from '../config/config.ts'

const whose = ({ assignees, jira }: Config): string =>
  assignees === 'me'
    ? `tickets of ${jira?.email} get machines`
    : assignees === 'any'
      ? 'every ticket gets a machine'
      : `tickets of ${assignees.length === 1 ? 'one account' : `${assignees.length} accounts`} get machines`

const ofGitHub = ({ github, pollSeconds }: Config): string => {
  if (github === null) return 'GitHub: not connected'
  if (github.via === 'app')
    return `GitHub: App ${github.appId}, by webhooks: https://<your address>/api/github/webhooks has to lead to this bot`
  const watched =
    github.repositories.length > 0 ? github.repositories.join(', ') : 'the 20 repositories that were pushed to last'
  return `GitHub: ${watched}, looked at every ${pollSeconds} s`
}

const ofJira = (config: Config): string => {
  const { jira, projects, pollSeconds } = config
  if (jira === null) return `Jira: not connected; tickets are those of ${projects.join(', ')}`
  const how =
    jira.webhookSecret === null
      ? `looked at every ${pollSeconds} s`
      : `by its webhook: https://<your address>/jira/webhook has to lead to this bot`
  // With its path: at the gateway of Atlassian, that alone says which site it is.
  const where = jira.url.replace(/^https?:\/\//, '')
  return `Jira: ${projects.join(', ')} on ${where}, ${how}; ${whose(config)}`
}

export const watching = (config: Config): string => `${ofGitHub(config)}\n${ofJira(config)}`
