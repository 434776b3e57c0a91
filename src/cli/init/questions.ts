/** Every answer of `agent-swarm init`: its flag, and how a person is asked for it. */
import { SCOPE_LIST, TOKEN_PAGE } from '../../bot/jira/gateway.ts'
import type { SettingName } from '../../config/settings.ts'

type Question = {
  /** Its value is the answer, or for a secret the file that holds the answer. */
  flag?: string
  /** Without it, nobody is asked. */
  question?: string
  /** `{web}` is the address of GitHub. */
  hint?: string
  /** What an empty answer means. Without it, an answer is required. */
  empty?: 'no answer' | 'a new secret'
  /** Not asked when this one has an answer. */
  unless?: AnswerName
}

export const APP = ['appId', 'privateKey', 'privateKeyPath', 'webhookSecret'] as const
export const TOKEN = ['githubToken', 'githubRepositories'] as const
export const JIRA_ACCOUNT = ['jiraHost', 'jiraEmail', 'jiraApiToken'] as const
export const JIRA = [...JIRA_ACCOUNT, 'jiraWebhookSecret', 'jiraAutomationSecret', 'jiraAssignees'] as const
export const answerNames = [...APP, ...TOKEN, ...JIRA, 'githubApiUrl', 'jiraProjects', 'provider', 'publicUrl'] as const
export type AnswerName = (typeof answerNames)[number] & SettingName

/** The side whose checks try an answer. */
export const subjectOf = (name: AnswerName): string => {
  if (name === 'provider') return 'Machines'
  if (name === 'publicUrl') return 'Configuration'
  return name.startsWith('jira') ? 'Jira' : 'GitHub'
}

export const questions: Readonly<Record<AnswerName, Question>> = {
  appId: { flag: 'app-id', question: 'The id of the App', hint: 'Its settings page shows it.' },
  privateKey: {},
  privateKeyPath: {
    ...{ flag: 'private-key-file', question: 'The file with its private key', unless: 'privateKey' },
    hint: 'Its settings page creates one, and the browser saves it as ….private-key.pem.',
  },
  webhookSecret: { flag: 'webhook-secret-file', question: 'Its webhook secret', hint: 'The same as in its settings.' },
  githubToken: {
    ...{ flag: 'github-token-file', question: 'Your GitHub token' },
    hint: 'Create one: {web}/settings/tokens/new?scopes=repo&description=agent-swarm (or a fine-grained one: contents read, issues and pull requests write).',
  },
  githubRepositories: {
    ...{ flag: 'github-repositories', question: 'Which repositories may act on tickets?' },
    hint: 'As owner/name, separated by commas. All others are ignored.',
  },
  githubApiUrl: { flag: 'github-api-url' },
  jiraHost: {
    flag: 'jira-host',
    question: 'The Jira site',
    hint: 'The host name of your board: example.atlassian.net.',
  },
  jiraEmail: {
    flag: 'jira-email',
    question: 'The e-mail address of your Jira account',
    hint: 'The bot comments as this account. That of a service account ends with @serviceaccount.atlassian.com.',
  },
  jiraApiToken: {
    ...{ flag: 'jira-token-file', question: 'Your Jira API token' },
    hint: `Create one: ${TOKEN_PAGE} One with scopes needs ${SCOPE_LIST}.`,
  },
  jiraProjects: {
    ...{ flag: 'jira-projects', question: 'The keys of the projects whose tickets get machines' },
    hint: 'For example DROP, separated by commas.',
  },
  jiraAssignees: { flag: 'jira-assignees' },
  jiraWebhookSecret: {
    ...{ flag: 'jira-webhook-secret-file', question: 'The secret of the webhook', empty: 'a new secret' },
    hint: 'The same as in Jira (Settings, System, WebHooks).',
  },
  jiraAutomationSecret: {
    ...{ flag: 'jira-automation-secret-file', question: 'The secret of the automation rule', empty: 'a new secret' },
    hint: 'The rule sends it in the header X-Agent-Swarm-Secret.',
  },
  provider: { flag: 'provider' },
  publicUrl: {
    ...{ flag: 'public-url', question: 'The public address of the bot', empty: 'no answer' },
    hint: 'A host name with HTTPS in front of the bot, for example https://swarm.example.org. It may be set up later.',
  },
}
