/**
 * Whether GitHub lets us do what the bot does, asked with the bot's own client: who we are, what the token or the App may
 * do, which repositories are seen.
 */
import { createPrivateKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { findPackageJSON } from 'node:module'
import { join } from 'node:path'
import * as v from 'valibot'
import type { AppSettings, TokenSettings } from '../../config/config.ts'
import { openLog } from '../../log.ts'
import { type Check, checkSecret, failed, ok, problem, warning } from '../check.ts'
import { AUTHORIZE_TOKEN, type GitHub, githubFailure, type Octokit, parts, statusOf, webUrlOf } from './client.ts'
import { openGitHub } from './open.ts'

const OF = 'GitHub'
/** A token that ends within is told of. */
const SOON_MS = 7 * 24 * 60 * 60_000
/** A clock that is further off makes what an App signs worthless. */
const MOST_OFF_MS = 30_000
const SHOWN_REPOSITORIES = 20
const UNREACHED = 'Check the address (github.com, or GITHUB_API_URL), the network, and what is between here and there.'

const open = (settings: AppSettings | TokenSettings): Promise<GitHub> =>
  openGitHub(settings, {
    log: openLog('silent'),
    paced: false,
  })

const failedAt = (error: unknown, doing: string): Check => {
  const { failure } = githubFailure(error, doing, Date.now())
  return failed(OF, failure, failure.kind === 'network' ? UNREACHED : null)
}

// ── By a token ──

export const openTokenCheck = async (settings: TokenSettings) => {
  const github = await open(settings)
  const octokit = (await github.clientFor('')) as Octokit
  const web = webUrlOf(settings.apiUrl)
  type Who = { login: string; scopes: string[] | null; ends: string }
  let asked: Promise<Who> | null = null
  /** `scopes` are null for a fine-grained token, which has permissions instead. */
  const who = (): Promise<Who> => {
    asked ??= octokit.rest.users.getAuthenticated().then(({ data, headers }) => {
      const scopes = headers['x-oauth-scopes']
      return {
        login: data.login,
        scopes: scopes === undefined ? null : scopes.split(/[,\s]+/).filter(one => one !== ''),
        ends: String(headers['github-authentication-token-expiration'] ?? ''),
      }
    })
    return asked
  }

  const rate = (): Check[] => {
    const left = github.rate()
    if (left === null) return []
    const until = new Date(left.resetAt).toISOString()
    return left.remaining > left.limit / 10
      ? [ok(OF, `${left.remaining} of ${left.limit} requests are left until ${until}`)]
      : [
          warning(
            OF,
            `only ${left.remaining} of ${left.limit} requests are left until ${until}: something else uses this account's`,
          ),
        ]
  }
  const ending = ({ ends }: Who): Check[] => {
    const end = Date.parse(ends)
    if (Number.isNaN(end)) return []
    const day = new Date(end).toISOString().slice(0, 10)
    return end - Date.now() > SOON_MS
      ? [ok(OF, `the token is good until ${day}`)]
      : [warning(OF, `the token ends on ${day}`, `Make another before: ${web}/settings/tokens`)]
  }
  const scoped = ({ login, scopes }: Who): Check => {
    if (scopes === null) return ok(OF, `you are ${login}, by a fine-grained token`)
    if (scopes.includes('repo')) return ok(OF, `you are ${login}, by a token with the scope repo`)
    if (scopes.includes('public_repo'))
      return warning(OF, `you are ${login}, by a token for public repositories alone (scope public_repo)`)
    const has = scopes.length === 0 ? 'none' : scopes.join(', ')
    return problem(
      OF,
      `the token of ${login} may not read and write repositories: it needs the scope repo, and has ${has}`,
      `Add it: ${web}/settings/tokens`,
    )
  }

  /**
   * Whether a fine-grained token may do this. Writes are sent without what they need: GitHub looks at the permission first,
   * and refuses what is left as incomplete (422). Nothing is made.
   */
  const permitted = async (repo: string, permission: string, ask: () => Promise<unknown>): Promise<Check[]> => {
    try {
      await ask()
      return []
    } catch (error) {
      const status = statusOf(error)
      // 409: the repository is empty. 410: it has no issues. 422: incomplete.
      if (status === 409 || status === 410 || status === 422) return []
      if (status !== 403 && status !== 404) throw error
      return [problem(OF, `${repo}: the token lacks the permission ${permission}`, `Give it: ${web}/settings/tokens`)]
    }
  }
  const permissions = async (repo: string): Promise<Check[]> => {
    const at = parts(repo)
    const incomplete = { ...at, data: {} } as never
    const asked = [
      ['Contents: read', () => octokit.rest.git.listMatchingRefs({ ...at, ref: 'heads/' })],
      ['Issues: read and write', () => octokit.request('POST /repos/{owner}/{repo}/issues', incomplete)],
      ['Pull requests: read and write', () => octokit.request('POST /repos/{owner}/{repo}/pulls', incomplete)],
    ] as const
    return (await Promise.all(asked.map(([permission, ask]) => permitted(repo, permission, ask)))).flat()
  }

  const repository = async (repo: string): Promise<Check[]> => {
    try {
      const { data } = await octokit.rest.repos.get(parts(repo))
      if (data.archived) return [problem(OF, `${repo} is archived: nothing happens there`, 'Take it off the list.')]
      if (data.permissions?.push !== true)
        return [problem(OF, `${repo} can be read, but not pushed to`, 'Ask its owner for write access.')]
      const lacking = (await who()).scopes === null ? await permissions(repo) : []
      return lacking.length > 0 ? lacking : [ok(OF, `${data.full_name} can be read and written`)]
    } catch (error) {
      if (statusOf(error) !== 404) return [failedAt(error, `looking at ${repo}`)]
      return [
        problem(
          OF,
          `GitHub shows no repository ${repo}`,
          'Check its name, and that the token may see it: a fine-grained one names its repositories, an organisation may have to approve it, and one with single sign-on wants a classic one authorised ("Configure SSO", beside the token).',
        ),
      ]
    }
  }

  /** Those that the token may push to, newest push first. `hidden`: organisations show it nothing before it is authorised. */
  const pushable = async (): Promise<{ names: string[]; hidden: boolean }> => {
    const { data, headers } = await octokit.rest.repos.listForAuthenticatedUser({ sort: 'pushed', per_page: 100 })
    const names = data
      .filter(one => one.permissions?.push === true && !one.archived)
      .map(one => one.full_name)
      .slice(0, SHOWN_REPOSITORIES)
    return { names, hidden: String(headers['x-github-sso'] ?? '').startsWith('partial-results') }
  }

  return {
    pushable: () =>
      pushable().then(
        ({ names }) => names,
        () => [],
      ),
    account: async (): Promise<Check[]> => {
      try {
        const found = await who()
        return [scoped(found), ...ending(found), ...rate()]
      } catch (error) {
        if (statusOf(error) !== 401) return [failedAt(error, 'asking GitHub who we are')]
        return [problem(OF, 'GitHub does not know this token', `Make one: ${web}/settings/tokens`)]
      }
    },
    repositories: async (): Promise<Check[]> => {
      const named = settings.repositories
      if (named.length > 0) return (await Promise.all(named.map(repository))).flat()
      try {
        const { names: found, hidden } = await pushable()
        return [
          found.length > 0
            ? ok(OF, `watched is what was pushed to last: ${found.join(', ')}`)
            : problem(OF, 'the token may push to no repository', 'Name a repository, and give the token access to it.'),
          ...(hidden
            ? [warning(OF, 'the repositories of an organisation are hidden from this token', AUTHORIZE_TOKEN)]
            : []),
        ]
      } catch (error) {
        return [failedAt(error, 'asking GitHub for the repositories')]
      }
    },
  }
}

// ── By an App ──

const manifest = v.object({
  name: v.string(),
  default_permissions: v.record(v.string(), v.picklist(['read', 'write', 'admin'])),
  default_events: v.array(v.string()),
})
type Manifest = v.InferOutput<typeof manifest> & Record<string, unknown>

/** app.yml: what an App of ours may do and hear. */
export const readManifest = async (): Promise<Manifest> => {
  const root = findPackageJSON(import.meta.url)
  if (root === undefined) throw new Error('package.json is missing: this copy of agent-swarm is not whole')
  const { parse } = await import('yaml')
  return v.parse(v.looseObject(manifest.entries), parse(readFileSync(join(root, '../app.yml'), 'utf8'))) as Manifest
}

const LEVELS = ['none', 'read', 'write', 'admin']
const level = (given: unknown) => Math.max(0, LEVELS.indexOf(String(given)))
/** What works without it. */
const OPTIONAL: Readonly<Record<string, string>> = { members: 'rules that name teams need it' }

const lacking = (
  who: string,
  given: Record<string, unknown>,
  { default_permissions }: Manifest,
  remedy: string,
): Check[] =>
  Object.entries(default_permissions)
    .filter(([permission, needed]) => level(given[permission]) < level(needed))
    .map(([permission, needed]) => {
      const says = `${who} lacks the permission ${permission}: ${needed} (it has ${LEVELS[level(given[permission])]})`
      const only = OPTIONAL[permission]
      return only === undefined ? problem(OF, says, remedy) : warning(OF, `${says}; ${only}`, remedy)
    })

const isKey = (pem: string): boolean => {
  try {
    return createPrivateKey(pem).asymmetricKeyType === 'rsa'
  } catch {
    return false
  }
}

export const checkApp = async (settings: AppSettings): Promise<Check[]> => {
  const checks = [checkSecret(OF, settings.webhookSecret)]
  if (!isKey(settings.privateKey))
    return [...checks, problem(OF, 'the private key is none', "Make a new one on the App's settings page.")]
  const web = webUrlOf(settings.apiUrl)
  const needed = await readManifest()
  const github = await open(settings)
  try {
    const octokit = (await github.asApp?.()) as Octokit
    const { data: app, headers } = await octokit.rest.apps.getAuthenticated()
    if (app === null) return [...checks, problem(OF, 'GitHub told nothing of this App', null)]
    const page = app.html_url ?? `${web}/apps/${app.slug}`
    checks.push(ok(OF, `the App is ${app.slug}, and its key is right`))
    const off = Date.parse(headers.date ?? '') - Date.now()
    if (Math.abs(off) > MOST_OFF_MS)
      checks.push(warning(OF, `this machine's clock is ${Math.round(Math.abs(off) / 1000)} s off`, 'Set it by NTP.'))
    const settingsPage = `Change it in the App's settings (Permissions & events), and accept it where it is installed: ${page}`
    const few = lacking('the App', app.permissions, needed, settingsPage)
    const unheard = needed.default_events.filter(event => !app.events.includes(event))
    checks.push(...few, ...unheard.map(event => problem(OF, `the App is not told of ${event}`, settingsPage)))
    if (few.every(one => one.found !== 'error') && unheard.length === 0)
      checks.push(ok(OF, 'it has the permissions and events that are needed'))
    const more = Object.keys(app.permissions).filter(name => needed.default_permissions[name] === undefined)
    if (more.length > 0) checks.push(warning(OF, `it also has permissions that nothing uses: ${more.join(', ')}`))
    checks.push(...(await hook(octokit, settingsPage)), ...(await installations(octokit, needed, page)))
  } catch (error) {
    if (statusOf(error) === 401)
      checks.push(
        problem(
          OF,
          `GitHub takes this key for none of App ${settings.appId}`,
          "Check the App's id, make a new key on its settings page, and look at this machine's clock.",
        ),
      )
    else checks.push(failedAt(error, 'asking GitHub for the App'))
  }
  return checks
}

/** Where its deliveries go. GitHub Enterprise Server may not tell. */
const hook = async (octokit: Octokit, remedy: string): Promise<Check[]> => {
  try {
    const { data } = await octokit.rest.apps.getWebhookConfigForApp()
    const path = URL.parse(data.url ?? '')?.pathname
    if (path !== '/api/github/webhooks')
      return [
        problem(
          OF,
          `its deliveries go to ${data.url ?? 'nowhere'}`,
          'They belong to https://<your address>/api/github/webhooks. Change the webhook URL in its settings.',
        ),
      ]
    if (data.content_type !== 'json')
      return [problem(OF, `its deliveries are sent as ${data.content_type}, and not as JSON`, remedy)]
    return [ok(OF, `its deliveries go to ${data.url}`)]
  } catch (error) {
    if (statusOf(error) === 404) return [warning(OF, 'GitHub does not tell where its deliveries go')]
    throw error
  }
}

const installations = async (octokit: Octokit, needed: Manifest, page: string): Promise<Check[]> => {
  const { data } = await octokit.rest.apps.listInstallations({ per_page: 100 })
  if (data.length === 0)
    return [problem(OF, 'the App is installed nowhere', `Install it on your repositories: ${page}/installations/new`)]
  return data.flatMap(({ account, permissions, suspended_at, html_url, repository_selection }) => {
    const name = account !== null && 'login' in account ? account.login : 'an enterprise'
    if (suspended_at !== null && suspended_at !== undefined)
      return [problem(OF, `the App is suspended on ${name}`, `Take that back: ${html_url}`)]
    const few = lacking(`its installation on ${name}`, permissions, needed, `Accept what the App asks for: ${html_url}`)
    return [...few, ok(OF, `it is installed on ${name}, for ${repository_selection} repositories`)]
  })
}

/** Whether it is installed anywhere by now. */
export const isInstalled = async (settings: AppSettings): Promise<boolean> => {
  const octokit = (await (await open(settings)).asApp?.()) as Octokit
  return (await octokit.rest.apps.listInstallations({ per_page: 1 })).data.length > 0
}
