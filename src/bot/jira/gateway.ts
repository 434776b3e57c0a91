/**
 * Where Jira Cloud accepts an API token: one without scopes at the site, one with scopes (service accounts have no other) only
 * at Atlassian's gateway, both with basic authentication. The token itself does not show which kind it is.
 * https://support.atlassian.com/atlassian-account/docs/manage-api-tokens-for-your-atlassian-account/
 * https://support.atlassian.com/atlassian-cloud/kb/401-unauthorized-error-when-service-account-accesses-jira-or-confluence-api
 */
import { isLoopback } from '../../schema/forms.ts'
import { member, text } from './answers.ts'

const GATEWAY = 'https://api.atlassian.com'
const PATH = '/ex/jira/'
const CLOUD_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** For messages. */
export const GATEWAY_FORM = `${GATEWAY}${PATH}<cloudId>`
export const TOKEN_PAGE = 'https://id.atlassian.com/manage-profile/security/api-tokens'
/**
 * The classic scopes that the bot's requests need, which Atlassian recommends over granular ones: `x-atlassian-oauth2-scopes`
 * of each operation in https://developer.atlassian.com/cloud/jira/platform/swagger-v3.v3.json.
 */
const SCOPES = ['read:jira-user', 'read:jira-work', 'write:jira-work'] as const
export type Scope = (typeof SCOPES)[number]
export const SCOPE_LIST = `${SCOPES.slice(0, -1).join(', ')} and ${SCOPES.at(-1)}`
/** The scopes of a token cannot be changed later. */
export const MAKE_WITH_SCOPES = `Create a token with ${SCOPE_LIST}: ${TOKEN_PAGE} (for a service account: https://admin.atlassian.com)`

export const isGateway = (url: string): boolean => new URL(url).pathname.startsWith(PATH)

/** Public: https://support.atlassian.com/jira/kb/retrieve-my-atlassian-sites-cloud-id */
export const tenantInfoOf = (site: string): string => new URL('/_edge/tenant_info', site).href

/**
 * The gateway's address of a site, from the site's tenant info; null when that names no cloud. The token is sent there, so the
 * tenant info chooses nothing but the cloud id. A stand-in for Jira on loopback is its own gateway.
 */
export const gatewayOf = (site: string, tenantInfo: unknown): string | null => {
  const cloudId = text(member(tenantInfo, 'cloudId'))
  if (cloudId === null || !CLOUD_ID.test(cloudId)) return null
  const { hostname, origin } = new URL(site)
  return `${isLoopback(hostname) ? origin : GATEWAY}${PATH}${cloudId}`
}
