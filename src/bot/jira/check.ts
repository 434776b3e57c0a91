/** Whether Jira lets us do what the bot does, asked with the bot's own client. */
import type { JiraSettings } from '../../config/config.ts'
import { failureOf } from '../../errors.ts'
import { type Check, checkSecret, failed, ok, problem, warning } from '../check.ts'
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

const OF = 'Jira'
const DEADLINE_MS = 10_000
/** What a site tells of itself is one short line. */
const LONGEST_TENANT_INFO = 10_000

const UNREACHED = 'Check JIRA_HOST, and the network between here and there.'

/** The gateway's address of a site, as the site tells everybody; null where nothing of use is told. No token is sent. */
const askForGateway = async (site: string): Promise<string | null> => {
  try {
    const signal = AbortSignal.timeout(DEADLINE_MS)
    const { ok, body } = await fetch(tenantInfoOf(site), { redirect: 'error', signal })
    if (!ok || body === null) return null
    let told = ''
    for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
      told += chunk
      if (told.length > LONGEST_TENANT_INFO) return null
    }
    return gatewayOf(site, JSON.parse(told))
  } catch {
    // Whatever stands in the way: the token is refused where we know to go with it, and that is told.
    return null
  }
}

/** What is said of a token at an address; `refused`: it is not known there. */
const lookAt = async (settings: JiraSettings): Promise<Check[] | 'refused'> => {
  const { url, email } = settings
  const jira = openJira(settings)
  const lacking: Scope[] = []
  /** Throws what has nothing to do with the scope. */
  const needs = async (scope: Scope, asked: Promise<unknown>) => {
    await asked.catch(error => {
      if (!isJiraFailure(error) || !error.lacksScope) throw error
      lacking.push(scope)
    })
  }
  try {
    await needs('read:jira-user', jira.me())
  } catch (error) {
    const status = isJiraFailure(error) ? error.status : null
    if (status === 401 || status === 403) return 'refused'
    if (status === 404)
      return [problem(OF, `there is no Jira at ${url}`, 'The site is the name in the address of your board.')]
    return [failed(OF, failureOf(error, 'asking Jira who we are'), UNREACHED)]
  }
  try {
    await needs('read:jira-work', jira.projects())
    await needs('write:jira-work', jira.tryWriting())
  } catch (error) {
    return [failed(OF, failureOf(error, 'trying what the token may do'), UNREACHED)]
  }
  if (lacking.length === 0) return [ok(OF, `${email} is known at ${url}`)]
  const scopes = `the scope${lacking.length === 1 ? '' : 's'} ${lacking.join(', ')}`
  return [problem(OF, `the token of ${email} lacks ${scopes}`, MAKE_WITH_SCOPES)]
}

/** What each permission is for, and whether the bot is of any use without it. */
const needed = {
  BROWSE_PROJECTS: { called: 'Browse projects', without: 'error' },
  ADD_COMMENTS: { called: 'Add comments', without: 'error' },
  EDIT_OWN_COMMENTS: { called: 'Edit own comments', without: 'warning' },
  LINK_ISSUES: { called: 'Link issues', without: 'warning' },
} as const

const project = async (jira: Jira, key: string): Promise<Check[]> => {
  try {
    const found = await jira.project(key)
    if (found === null) {
      const others = await jira.projects()
      return [
        problem(
          OF,
          `there is no project ${key}, or this account may not see it`,
          others.length === 0 ? 'It sees no project at all.' : `It sees ${others.join(', ')}.`,
        ),
      ]
    }
    if (found.key !== key)
      return [problem(OF, `the project ${key} is called ${found.key} now`, `Write ${found.key} instead.`)]
    const lacks = await jira.lacks(key, Object.keys(needed))
    const told = Object.entries(needed).flatMap(([permission, { called, without }]) => {
      if (!lacks.includes(permission)) return []
      const says = `the account lacks the permission "${called}" in ${key}`
      const remedy = "An administrator of the project gives it, in the project's settings."
      return [without === 'error' ? problem(OF, says, remedy) : warning(OF, says, remedy)]
    })
    return told.some(one => one.found === 'error')
      ? told
      : [...told, ok(OF, `${key} (${found.name}) can be read and commented on`)]
  } catch (error) {
    return [failed(OF, failureOf(error, `looking at the project ${key}`))]
  }
}

export const openJiraCheck = (settings: JiraSettings) => {
  const jira = openJira(settings)
  return {
    /** The keys of the projects that are seen. */
    projects: () => jira.projects().catch(() => []),
    /** `instead` is the gateway's address, where the site does not take the token, and the gateway does. */
    account: async (): Promise<{ checks: Check[]; instead: string | null }> => {
      const { url, email } = settings
      const here = await lookAt(settings)
      if (here !== 'refused') return { checks: here, instead: null }
      const own = `It has to be that account's own: ${TOKEN_PAGE}`
      const refused = (whoDoesNot: string, remedy: string) => ({
        checks: [problem(OF, `${whoDoesNot} this token of ${email}`, remedy)],
        instead: null,
      })
      if (isGateway(url))
        return refused(
          `${url} does not take`,
          `${own} One without scopes belongs to the site, as example.atlassian.net.`,
        )
      const gateway = await askForGateway(url)
      if (gateway === null)
        return refused(
          `${url} does not take`,
          `${own} One with scopes belongs to ${GATEWAY_FORM}, and ${tenantInfoOf(url)} does not tell which cloudId that is.`,
        )
      const there = await lookAt({ ...settings, url: gateway })
      if (there === 'refused') return refused(`neither ${url} nor ${gateway} takes`, own)
      const taken = there.every(one => one.found !== 'error')
      const why = warning(
        OF,
        `${url} does not take this token: one with scopes belongs to ${gateway}`,
        taken ? 'It is taken there, so that address becomes jiraHost.' : null,
      )
      return { checks: [why, ...there], instead: taken ? gateway : null }
    },
    project: (key: string) => project(jira, key),
    webhook: (): Check[] => (settings.webhookSecret === null ? [] : [checkSecret(OF, settings.webhookSecret)]),
  }
}
