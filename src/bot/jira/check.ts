/** Checks of a Jira account: whether its token is accepted and where, its scopes, and its permissions in the projects. */

import { type Finding, failed, hasError, ok, problem, warning } from '../../check.ts'
import type { Config, JiraSettings } from '../../config/config.ts'
import { failureOf } from '../../errors.ts'
import { checkSecret, runChecks } from '../check.ts'
import { type Jira, openJira } from './client.ts'
import {
  GATEWAY_FORM,
  gatewayOf,
  isGateway,
  MAKE_WITH_SCOPES,
  type Scope,
  TOKEN_PAGE,
  tenantInfoOf,
} from './gateway.ts'
import { isJiraFailure } from './request.ts'

const DEADLINE_MS = 10_000
/** Characters. A real one is one short line. */
const MAX_TENANT_INFO = 10_000
const UNREACHABLE = 'Check JIRA_HOST and the network.'

type JiraConfig = Pick<Config, 'jira' | 'projects' | 'publicUrl'>
type Context = Pick<JiraConfig, 'projects' | 'publicUrl'> & { settings: JiraSettings; jira: Jira }

/** The gateway's address of a site; null when the site does not lead to one. No token is sent. */
const findGateway = async (site: string): Promise<string | null> => {
  try {
    const signal = AbortSignal.timeout(DEADLINE_MS)
    const { ok, body } = await fetch(tenantInfoOf(site), { redirect: 'error', signal })
    if (!ok || body === null) return null
    let text = ''
    for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
      text += chunk
      if (text.length > MAX_TENANT_INFO) return null
    }
    return gatewayOf(site, JSON.parse(text))
  } catch {
    // Whatever the cause, the token is refused at the only known address, and that is reported.
    return null
  }
}

/** One request for each scope. The first one also shows whether the token is accepted at all. */
const probes: readonly { scope: Scope; doing: string; run(jira: Jira): Promise<unknown> }[] = [
  { scope: 'read:jira-user', doing: 'checking the Jira token', run: jira => jira.me() },
  { scope: 'read:jira-work', doing: 'testing read access to Jira', run: jira => jira.projects() },
  { scope: 'write:jira-work', doing: 'testing write access to Jira', run: jira => jira.tryWriting() },
]

/** Tries the token at one address; `refused` when it is not accepted there. */
const checkToken = async (settings: JiraSettings) => {
  const jira = openJira(settings)
  const missing: Scope[] = []
  for (const { scope, doing, run } of probes) {
    try {
      await run(jira)
    } catch (error) {
      const { status, lacksScope } = isJiraFailure(error) ? error : { status: null, lacksScope: false }
      if (lacksScope) missing.push(scope)
      else if (scope !== 'read:jira-user') return failed(failureOf(error, doing), UNREACHABLE)
      else if (status === 401 || status === 403) return 'refused'
      else if (status === 404)
        return problem(
          `no Jira site answers at ${settings.url}`,
          'The site is the host name in the address of your board.',
        )
      else return failed(failureOf(error, doing), UNREACHABLE)
    }
  }
  if (missing.length === 0) return ok(`${settings.email} is signed in at ${settings.url}`)
  const scopes = `the scope${missing.length === 1 ? '' : 's'} ${missing.join(', ')}`
  return problem(`the token of ${settings.email} lacks ${scopes}`, MAKE_WITH_SCOPES)
}

/** Tries the site, and then the gateway, which the setting is corrected to when the token is accepted only there. */
const checkAccount = async ({ settings }: Context) => {
  const { url, email } = settings
  const atSite = await checkToken(settings)
  if (atSite !== 'refused') return atSite
  const own = `The token must belong to this account: ${TOKEN_PAGE}`
  const refused = `${url} does not accept this token of ${email}`
  if (isGateway(url))
    return problem(refused, `${own} A token without scopes belongs to the site, for example example.atlassian.net.`)
  const gateway = await findGateway(url)
  if (gateway === null)
    return problem(
      refused,
      `${own} A token with scopes belongs to ${GATEWAY_FORM}, and ${tenantInfoOf(url)} does not show the cloudId.`,
    )
  const atGateway = await checkToken({ ...settings, url: gateway })
  if (atGateway === 'refused') return problem(`neither ${url} nor ${gateway} accepts this token of ${email}`, own)
  const text = `${url} does not accept this token: a token with scopes belongs to ${gateway}`
  if (hasError([atGateway])) return [warning(text), atGateway]
  const remedy = 'The token is accepted there, so jiraHost becomes that address.'
  return [{ ...warning(text, remedy), correction: ['jiraHost', gateway] as const }, atGateway]
}

/** The bot cannot work without those that are errors. */
const permissions = {
  BROWSE_PROJECTS: { title: 'Browse projects', report: problem },
  ADD_COMMENTS: { title: 'Add comments', report: problem },
  EDIT_OWN_COMMENTS: { title: 'Edit own comments', report: warning },
  LINK_ISSUES: { title: 'Link issues', report: warning },
} as const
const PERMISSION_REMEDY = 'An administrator of the project can grant it in the settings of the project.'

const checkProject = async (jira: Jira, key: string) => {
  const project = await jira.project(key)
  if (project === null) {
    const others = await jira.projects()
    return [
      problem(
        `the project ${key} does not exist, or this account may not see it`,
        others.length === 0 ? 'The account sees no project.' : `The account sees ${others.join(', ')}.`,
      ),
    ]
  }
  if (project.key !== key)
    return [problem(`the project ${key} has the new key ${project.key}`, `Use ${project.key} instead.`)]
  const missing = (await jira.lacks(key, Object.keys(permissions))) as (keyof typeof permissions)[]
  const findings = missing.map(permission => {
    const { title, report } = permissions[permission]
    return report(`the account lacks the permission "${title}" in ${key}`, PERMISSION_REMEDY)
  })
  return hasError(findings) ? findings : [...findings, ok(`${key} (${project.name}) can be read and commented on`)]
}
const checkProjects = async ({ jira, projects }: Context) => {
  const check = (key: string) =>
    checkProject(jira, key).catch(error => [failed(failureOf(error, `checking the project ${key}`))])
  return (await Promise.all(projects.map(check))).flat()
}

const addressOf = (publicUrl: string | null) => (publicUrl ?? 'https://<your address>').replace(/\/$/, '')

/** Jira shows its webhooks to nobody but its administrators, so this can only say what is needed. */
const checkWebhook = ({ settings: { webhookSecret }, publicUrl }: Context) => [
  webhookSecret === null ? null : checkSecret('webhook secret', webhookSecret),
  warning(
    'Jira needs a webhook: Settings, System, WebHooks',
    `URL: ${addressOf(publicUrl)}/jira/webhook. Events: issue created, updated, deleted; comment created, updated. Secret: jiraWebhookSecret in config.yaml.`,
  ),
]

/** Jira shows its rules to nobody but administrators of the project. */
const checkAutomation = ({ settings: { automationSecret }, publicUrl }: Context) => [
  automationSecret === null ? null : checkSecret('secret of the automation rule', automationSecret),
  warning(
    'Jira needs a rule: Project settings, Automation, Create rule; when: Work item transitioned; then: Send web request',
    `URL: ${addressOf(publicUrl)}/jira/automation. Method: POST. Body: Issue data. Header: X-Agent-Swarm-Secret, with jiraAutomationSecret in config.yaml. docs/jira.md has the rule to paste.`,
  ),
]

const withJira =
  (doing: string, run: (context: Context) => ReturnType<Parameters<typeof runChecks<Context>>[1][number][1]>) =>
  async ({ jira: settings, projects, publicUrl }: JiraConfig): Promise<Finding[]> =>
    settings === null
      ? []
      : runChecks({ settings, projects, publicUrl, jira: openJira(settings) }, [[doing, run]], (error, doing) =>
          failed(failureOf(error, doing)),
        )
export const checkJiraAccount = withJira('checking the Jira account', checkAccount)
export const checkJiraProjects = withJira('checking the Jira projects', checkProjects)
export const checkJiraWebhook = withJira('checking the webhook', checkWebhook)
export const checkJiraAutomation = withJira('checking the automation rule', checkAutomation)
export const suggestProjects = async ({ jira }: JiraConfig): Promise<string[]> =>
  jira === null ? [] : openJira(jira).projects()
