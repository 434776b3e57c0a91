/**
 * Where Jira Cloud takes an API token: one without scopes at the site, one with scopes (service accounts have no other) at
 * Atlassian's gateway alone, and both with basic authentication. The two cannot be told apart by themselves.
 * https://support.atlassian.com/atlassian-account/docs/manage-api-tokens-for-your-atlassian-account/
 * https://support.atlassian.com/atlassian-cloud/kb/401-unauthorized-error-when-service-account-accesses-jira-or-confluence-api
 */
import { isLoopback } from '../../schema/forms.ts'
import { member, text } from './answers.ts'

const GATEWAY = 'https://api.atlassian.com'
const PATH = '/ex/jira/'
const CLOUD_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** As it is written in what people read. */
export const GATEWAY_FORM = `${GATEWAY}${PATH}<cloudId>`
export const TOKEN_PAGE = 'https://id.atlassian.com/manage-profile/security/api-tokens'
/**
 * The scopes that the bot's requests need, of the classic ones, which Atlassian recommends: `x-atlassian-oauth2-scopes` of
 * each operation in Jira's own description, https://developer.atlassian.com/cloud/jira/platform/swagger-v3.v3.json.
 */
const SCOPES = ['read:jira-user', 'read:jira-work', 'write:jira-work'] as const
export type Scope = (typeof SCOPES)[number]
export const SCOPES_SAID = `${SCOPES.slice(0, -1).join(', ')} and ${SCOPES.at(-1)}`
/** What to do about a token that lacks one: its scopes are chosen when it is made. */
export const MAKE_WITH_SCOPES = `Make one with ${SCOPES_SAID}: ${TOKEN_PAGE} (for a service account: https://admin.atlassian.com)`

export const isGateway = (url: string): boolean => new URL(url).pathname.startsWith(PATH)

/** Where a site tells everybody which cloud it is: https://support.atlassian.com/jira/kb/retrieve-my-atlassian-sites-cloud-id */
export const tenantInfoOf = (site: string): string => new URL('/_edge/tenant_info', site).href

/**
 * The gateway's address of a site, by what is told there; null where that names no cloud. The token goes there, so the answer
 * chooses nothing but the cloud. What stands in for Jira on loopback is its own gateway.
 */
export const gatewayOf = (site: string, told: unknown): string | null => {
  const cloudId = text(member(told, 'cloudId'))
  if (cloudId === null || !CLOUD_ID.test(cloudId)) return null
  const { hostname, origin } = new URL(site)
  return `${isLoopback(hostname) ? origin : GATEWAY}${PATH}${cloudId}`
}
