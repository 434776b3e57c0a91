/** The two sides that the bot connects, GitHub and Jira: what is configured of each, and what is missing. */
import { readFileSync } from 'node:fs'
import { secretFileFault } from './secret-file.ts'
import { settings } from './settings.ts'
import type { Values } from './values.ts'

export type AppSettings = {
  via: 'app'
  appId: number
  privateKey: string
  webhookSecret: string
  /** `acme/shop` or `acme/*` each. */
  repositories: readonly string[]
  apiUrl: string | null
}
/** A personal token, with polling: for bots that GitHub cannot reach. */
export type TokenSettings = {
  via: 'token'
  token: string
  /** As of the App. */
  repositories: readonly string[]
  apiUrl: string | null
}
export type JiraSettings = {
  /** `https://example.atlassian.net`, without a slash at its end. */
  url: string
  email: string
  apiToken: string
  /** Null: Jira is polled, and webhooks are refused. */
  webhookSecret: string | null
  /** Null: requests of automation rules are refused. */
  automationSecret: string | null
}

/** A shorter secret can be guessed. */

/** Null when it is not configured, or not completely: then `problems` gets a sentence for each missing value. */
export const readGitHub = (values: Values, problems: string[]): AppSettings | TokenSettings | null => {
  const both = { repositories: values.read('githubRepositories') ?? [], apiUrl: values.read('githubApiUrl') }
  // An App that is configured in part is completed or removed; a token does not replace its missing values.
  const appSettings = ['appId', 'privateKey', 'privateKeyPath', 'webhookSecret'] as const
  if (appSettings.some(values.isGiven)) return readApp(values, problems, both)
  if (!values.isGiven('githubToken')) return null
  const token = values.read('githubToken')
  if (token === null) problems.push('GitHub: GITHUB_TOKEN is empty. Set a token, or remove the setting.')
  return token === null ? null : { via: 'token', token, ...both }
}

const readApp = (
  values: Values,
  problems: string[],
  both: Pick<AppSettings, 'repositories' | 'apiUrl'>,
): AppSettings | null => {
  const appId = values.read('appId')
  if (appId === null) problems.push("GitHub: APP_ID is missing. Find it on the App's settings page.")
  const webhookSecret = values.read('webhookSecret')
  if (webhookSecret === null)
    problems.push(
      "GitHub: WEBHOOK_SECRET is missing or empty, so anybody could send events. Set the secret from the App's settings page.",
    )
  const privateKey = readPrivateKey(values, problems)
  return webhookSecret === null || privateKey === null || appId === null
    ? null
    : { via: 'app', appId, privateKey, webhookSecret, ...both }
}

/** PEM text. In the environment it may be PEM on one line with `\n`, or base64 of PEM, as Probot accepts it too. */
const readPrivateKey = (values: Values, problems: string[]): string | null => {
  const path = values.read('privateKeyPath')
  let key = values.read('privateKey')?.replaceAll('\\n', '\n') ?? null
  if (key === null && path === null) {
    problems.push("GitHub: PRIVATE_KEY or PRIVATE_KEY_PATH is missing. Generate a key on the App's settings page.")
    return null
  }
  if (key === null && path !== null) {
    try {
      key = readFileSync(path, 'utf8')
      const fault = secretFileFault(path)
      if (fault !== null) (fault.isFinal ? problems : values.notices).push(`GitHub: PRIVATE_KEY_PATH ${fault.text}`)
    } catch (error) {
      const reason = error instanceof Error ? error.message : error
      problems.push(`GitHub: PRIVATE_KEY_PATH ${path} cannot be read: ${reason}`)
      return null
    }
  }
  const decoded = Buffer.from(key ?? '', 'base64').toString('utf8')
  if (decoded.startsWith('-----BEGIN')) key = decoded
  if (!key?.includes('PRIVATE KEY-----'))
    problems.push('GitHub: PRIVATE_KEY is not a PEM private key, which starts with "-----BEGIN".')
  return key
}

/** Null when it is not configured, or not completely: then `problems` gets a sentence for each missing value. */
export const readJira = (values: Values, problems: string[]): JiraSettings | null => {
  const names = ['jiraHost', 'jiraEmail', 'jiraApiToken', 'jiraWebhookSecret', 'jiraAutomationSecret'] as const
  if (!names.some(values.isGiven)) return null
  for (const name of ['jiraHost', 'jiraEmail', 'jiraApiToken'] as const)
    if (values.read(name) === null) problems.push(`Jira: ${settings[name].env} is missing or empty.`)
  const webhookSecret = values.read('jiraWebhookSecret')
  if (values.isGiven('jiraWebhookSecret') && webhookSecret === null)
    problems.push(
      'Jira: JIRA_WEBHOOK_SECRET is empty, so anybody could send events. Set the secret of the webhook in Jira, or remove the setting; Jira is then polled.',
    )
  const automationSecret = values.read('jiraAutomationSecret')
  if (values.isGiven('jiraAutomationSecret') && automationSecret === null)
    problems.push(
      'Jira: JIRA_AUTOMATION_SECRET is empty, so anybody could send requests. Set the secret that the rules send, or remove the setting.',
    )
  const [url, email, apiToken] = [values.read('jiraHost'), values.read('jiraEmail'), values.read('jiraApiToken')]
  return url === null || email === null || apiToken === null
    ? null
    : { url, email, apiToken, webhookSecret, automationSecret }
}
