/** How long webhook secrets and runner tokens must be: whoever sees a signed delivery can guess a shorter secret. */
import { settings } from './settings.ts'
import type { Values } from './values.ts'

export const MIN_SECRET_LENGTH = 16
/** How to make one. */
export const MAKE_SECRET = 'Make one with: openssl rand -hex 32'

/** By setting: the side that it belongs to, as `init` names it. */
const CHECKED = {
  webhookSecret: 'GitHub: ',
  jiraWebhookSecret: 'Jira: ',
  jiraAutomationSecret: 'Jira: ',
  runnerToken: '',
} as const

/** A sentence for each secret that is too short. */
export const shortSecrets = (values: Pick<Values, 'read'>): string[] =>
  (Object.keys(CHECKED) as (keyof typeof CHECKED)[]).flatMap(name => {
    const secret = values.read(name)
    if (secret === null || secret.length >= MIN_SECRET_LENGTH) return []
    const { env } = settings[name]
    return [
      `${CHECKED[name]}${env} has ${secret.length} characters; it needs at least ${MIN_SECRET_LENGTH}. ${MAKE_SECRET}`,
    ]
  })
