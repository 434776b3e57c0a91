/** Checks of a GitHub token and of a GitHub App: who it is, what it may do, which repositories it reaches. */

import { createPrivateKey } from 'node:crypto'
import { type Finding, failed, hasError, ok, problem, warning } from '../../check.ts'
import { DAY_MS } from '../../clock.ts'
import type { AppSettings, Config, TokenSettings } from '../../config/config.ts'
import { isListed, isWildcard } from '../../config/serving.ts'
import { fail } from '../../errors.ts'
import { openLog } from '../../log.ts'
import { checkSecret, runChecks } from '../check.ts'
import { remembered } from '../remembered.ts'
import { type Features, LEVELS, levelOf, readManifest, useOf } from './app-needs.ts'
import { AUTHORIZE_TOKEN, githubFailure, type Octokit, parts, statusOf, webUrlOf } from './client.ts'
import { openGitHub } from './open.ts'

const EXPIRES_SOON_MS = 7 * DAY_MS
/** GitHub refuses what an App signs when the clocks differ more. */
const MAX_CLOCK_ERROR_MS = 30_000
const MAX_SUGGESTED = 20
const UNREACHABLE =
  'Check the address (github.com, or GITHUB_API_URL), the network and any proxy or firewall on the way.'

type GitHubConfig = Pick<Config, 'github'>
const open = (settings: AppSettings | TokenSettings) => openGitHub(settings, { log: openLog('silent'), paced: false })

const explain = (error: unknown, doing: string) => {
  const { failure } = githubFailure(error, doing, Date.now())
  return failed(failure, failure.kind === 'network' ? UNREACHABLE : null)
}

// ── A token ──

const openToken = async (settings: TokenSettings) => {
  const github = await open(settings)
  const octokit = (await github.clientFor('')) as Octokit
  const readAccount = async () => {
    const { data, headers } = await octokit.rest.users.getAuthenticated()
    const scopes = headers['x-oauth-scopes']?.split(/[,\s]+/).filter(scope => scope !== '') ?? null
    return { login: data.login, scopes, expires: Date.parse(String(headers['github-authentication-token-expiration'])) }
  }
  return {
    ...{ github, octokit, repositories: settings.repositories },
    tokensPage: `${webUrlOf(settings.apiUrl)}/settings/tokens`,
    /** `scopes` are null for a fine-grained token, which has permissions instead. `expires` is epoch ms, or NaN. */
    account: remembered(readAccount),
  }
}
type TokenContext = Awaited<ReturnType<typeof openToken>>

const checkScopes = async ({ account, tokensPage }: TokenContext) => {
  const { login, scopes } = await account()
  if (scopes === null) return ok(`signed in as ${login} with a fine-grained token`)
  if (scopes.includes('repo')) return ok(`signed in as ${login} with a token that has the scope repo`)
  if (scopes.includes('public_repo'))
    return warning(`signed in as ${login} with a token for public repositories only (scope public_repo)`)
  const has = scopes.length === 0 ? 'none' : scopes.join(', ')
  return problem(
    `the token of ${login} needs the scope repo for its repositories, and has ${has}`,
    `Add it: ${tokensPage}`,
  )
}

const checkExpiry = async ({ account, tokensPage }: TokenContext) => {
  const { expires } = await account()
  if (Number.isNaN(expires)) return null
  const day = new Date(expires).toISOString().slice(0, 10)
  if (expires - Date.now() > EXPIRES_SOON_MS) return ok(`the token is valid until ${day}`)
  return warning(`the token expires on ${day}`, `Create a new one before then: ${tokensPage}`)
}

const checkRate = ({ github }: TokenContext) => {
  const rate = github.rate()
  if (rate === null) return null
  const left = `${rate.remaining} of ${rate.limit} requests are left until ${new Date(rate.resetAt).toISOString()}`
  if (rate.remaining > rate.limit / 10) return ok(left)
  return warning(`only ${left}: another program uses the requests of this account`)
}

/**
 * What a fine-grained token needs in each repository. The writes leave out what GitHub requires: GitHub checks the permission
 * first and then refuses the incomplete request (422), so that nothing is created.
 */
const tokenPermissions = {
  'Contents: read': ['GET /repos/{owner}/{repo}/git/matching-refs/heads/', {}],
  'Issues: read and write': ['POST /repos/{owner}/{repo}/issues', { data: {} }],
  'Pull requests: read and write': ['POST /repos/{owner}/{repo}/pulls', { data: {} }],
} as const
/** 409: the repository is empty. 410: it has no issues. 422: the request is incomplete. */
const PERMITTED: readonly (number | null)[] = [409, 410, 422]

const checkRepository = async ({ octokit, account, tokensPage }: TokenContext, name: string) => {
  const { owner, repo } = parts(name)
  const checkPermission = async (permission: keyof typeof tokenPermissions) => {
    const [request, body] = tokenPermissions[permission]
    try {
      await octokit.request(request as string, { owner, repo, ...body })
    } catch (error) {
      if (PERMITTED.includes(statusOf(error))) return null
      if (statusOf(error) !== 403 && statusOf(error) !== 404) throw error
      return problem(`${name}: the token lacks the permission ${permission}`, `Grant it: ${tokensPage}`)
    }
    return null
  }
  try {
    const { data } = await octokit.rest.repos.get({ owner, repo })
    if (data.archived) return [problem(`${name} is archived: nothing happens there`, 'Remove it from the list.')]
    if (data.permissions?.push !== true)
      return [problem(`${name} can be read but not written`, 'Ask its owner for write access.')]
    const needed = (await account()).scopes === null ? Object.keys(tokenPermissions) : []
    const missing = await Promise.all((needed as (keyof typeof tokenPermissions)[]).map(checkPermission))
    return missing.some(row => row !== null) ? missing : [ok(`${data.full_name} can be read and written`)]
  } catch (error) {
    if (statusOf(error) !== 404) return [explain(error, `checking ${name}`)]
    const remedy =
      'Check its name, and that the token may see it: a fine-grained token names its repositories and may need the approval of the organization; with single sign-on, authorize a classic token ("Configure SSO", beside the token).'
    return [problem(`GitHub shows no repository ${name}`, remedy)]
  }
}

/** Whether single sign-on hides the repositories of an organization. */
const areSomeHidden = async ({ octokit }: TokenContext): Promise<boolean> => {
  const { headers } = await octokit.rest.repos.listForAuthenticatedUser({ per_page: 1 })
  return String(headers['x-github-sso']).startsWith('partial-results')
}

/** What of the list is reached: those named, and of each `*` the latest. */
const reached = (list: readonly string[], names: readonly string[], whose: string) =>
  list.map(entry => {
    const found = names.filter(name => isListed([name], [entry]))
    if (found.length > 0) return ok(isWildcard(entry) ? `${entry} is ${found.join(', ')}` : `${found[0]} is reached`)
    return isWildcard(entry)
      ? problem(`${whose} reaches no repository of ${entry.slice(0, -2)}`, 'Check the name, and what it may access.')
      : problem(
          `${whose} reaches no repository ${entry}`,
          'Check its name, that it is not archived, and what it may access.',
        )
  })

const checkRepositories = async (context: TokenContext) => {
  const { github, repositories } = context
  const wildcards = repositories.filter(isWildcard)
  const named = repositories.filter(entry => !isWildcard(entry))
  const hidden = wildcards.length > 0 && (await areSomeHidden(context))
  return [
    ...(await Promise.all(named.map(name => checkRepository(context, name)))).flat(),
    ...(wildcards.length > 0 ? reached(wildcards, await github.repositories(), 'the token') : []),
    hidden ? warning('the repositories of an organization are hidden from this token', AUTHORIZE_TOKEN) : null,
  ]
}

const withToken =
  (rows: Parameters<typeof runChecks<TokenContext>>[1]) =>
  async ({ github }: GitHubConfig): Promise<Finding[]> =>
    github?.via !== 'token'
      ? []
      : runChecks(await openToken(github), rows, (error, doing, { tokensPage }) =>
          statusOf(error) === 401
            ? problem('GitHub does not know this token', `Create one: ${tokensPage}`)
            : explain(error, doing),
        )
export const checkToken = withToken([
  ['checking the GitHub token', checkScopes],
  ['checking when the GitHub token expires', checkExpiry],
  ['reading the rate limit', checkRate],
])
export const checkTokenRepositories = withToken([['checking the repositories', checkRepositories]])
export const suggestRepositories = async ({ github }: GitHubConfig): Promise<string[]> =>
  github === null ? [] : (await (await open({ ...github, repositories: [] })).repositories()).slice(0, MAX_SUGGESTED)

// ── An App ──

const asApp = async (settings: AppSettings) => (await (await open(settings)).asApp?.()) as Octokit
const readApp = async (settings: AppSettings) => {
  const octokit = await asApp(settings)
  const { data, headers } = await octokit.rest.apps.getAuthenticated()
  if (data === null) throw fail('network', 'reading the App from GitHub: the answer is empty')
  const page = data.html_url ?? `${webUrlOf(settings.apiUrl)}/apps/${data.slug}`
  const remedy = `Change it in the settings of the App (Permissions & events), and accept the change where it is installed: ${page}`
  return { ...data, octokit, page, remedy, clockError: Math.abs(Date.parse(headers.date ?? '') - Date.now()) }
}
const openApp = async (settings: AppSettings, features: Features) => ({
  settings,
  features,
  needed: await readManifest(features),
  app: remembered(() => readApp(settings)),
})
type AppContext = Awaited<ReturnType<typeof openApp>>

const checkKey = ({ settings }: AppContext) => {
  try {
    if (createPrivateKey(settings.privateKey).asymmetricKeyType === 'rsa') return null
  } catch {
    // Reported below, like a key of another kind.
  }
  throw fail(
    'not-configured',
    'the private key is not an RSA key in PEM form',
    'Create one on the settings page of the App.',
  )
}

const checkIdentity = async ({ app }: AppContext) => {
  const { slug, clockError } = await app()
  const off = `the clock of this host is ${Math.round(clockError / 1000)} s off`
  return [
    ok(`the App is ${slug}, and its key is valid`),
    clockError > MAX_CLOCK_ERROR_MS ? warning(off, 'Synchronize it, for example with NTP.') : null,
  ]
}

const missingPermissions = (
  owner: string,
  granted: Record<string, unknown>,
  { needed, features }: Pick<AppContext, 'needed' | 'features'>,
  remedy: string,
) =>
  Object.entries(needed.default_permissions)
    .filter(([permission, level]) => levelOf(granted[permission]) < levelOf(level))
    .map(([permission, level]) => {
      const text = `${owner} lacks the permission ${permission}: ${level} (it has ${LEVELS[levelOf(granted[permission])]})`
      const why = useOf(features, { permission, granted: granted[permission] })
      const told = why === null ? text : `${text}; ${why.use}`
      return why?.isOptional === true ? warning(told, remedy) : problem(told, remedy)
    })

const missingInApp = async ({ needed, features, app }: AppContext) => {
  const { permissions, events, remedy } = await app()
  const missingEvents = needed.default_events.filter(event => !events.includes(event))
  return [
    ...missingPermissions('the App', permissions, { needed, features }, remedy),
    ...missingEvents.map(event => {
      const why = useOf(features, { event })
      const text = `the App is not subscribed to the event ${event}`
      return problem(why === null ? text : `${text}; ${why.use}`, remedy)
    }),
  ]
}

const checkPermissions = async (context: AppContext) => {
  const { needed, app } = context
  const missing = await missingInApp(context)
  const unused = Object.keys((await app()).permissions).filter(name => needed.default_permissions[name] === undefined)
  return [
    ...missing,
    hasError(missing) ? null : ok('the App has the permissions and events that it needs'),
    unused.length > 0 ? warning(`the App also has permissions that nothing uses: ${unused.join(', ')}`) : null,
  ]
}

const checkWebhook = async ({ app }: AppContext) => {
  const { octokit, remedy } = await app()
  const config = await octokit.rest.apps.getWebhookConfigForApp().catch(error => {
    // GitHub Enterprise Server may not show it.
    if (statusOf(error) === 404) return null
    throw error
  })
  if (config === null) return warning('GitHub does not show the address of the webhook')
  const { url, content_type } = config.data
  if (URL.parse(url ?? '')?.pathname !== '/api/github/webhooks')
    return problem(
      `the webhook of the App points to ${url ?? 'no address'}`,
      'Set its URL in the settings of the App to https://<your address>/api/github/webhooks.',
    )
  if (content_type !== 'json') return problem(`the webhook of the App sends ${content_type}, not JSON`, remedy)
  return ok(`the webhook of the App points to ${url}`)
}

const checkInstallations = async (context: AppContext) => {
  const { octokit, page } = await context.app()
  const { data } = await octokit.rest.apps.listInstallations({ per_page: 100 })
  if (data.length === 0)
    return problem('the App is not installed anywhere', `Install it on your repositories: ${page}/installations/new`)
  return data.flatMap(({ account, permissions, suspended_at, html_url, repository_selection }) => {
    const name = account !== null && 'login' in account ? account.login : 'an enterprise'
    if (suspended_at) return [problem(`the App is suspended on ${name}`, `Lift the suspension: ${html_url}`)]
    const remedy = `Accept the new permissions: ${html_url}`
    return [
      ...missingPermissions(`the installation on ${name}`, permissions, context, remedy),
      ok(`the App is installed on ${name}, for ${repository_selection} repositories`),
    ]
  })
}

export const checkApp = async ({ github, ...features }: GitHubConfig & Features): Promise<Finding[]> =>
  github?.via !== 'app'
    ? []
    : runChecks(
        await openApp(github, features),
        [
          ['checking the webhook secret', ({ settings }) => checkSecret('webhook secret', settings.webhookSecret)],
          ['checking the private key', checkKey],
          ['reading the App from GitHub', checkIdentity],
          ['reading the permissions of the App', checkPermissions],
          ['reading the webhook of the App', checkWebhook],
          ['reading where the App is installed', checkInstallations],
        ],
        (error, doing, { settings: { appId } }) =>
          statusOf(error) === 401
            ? problem(
                `GitHub does not accept this key for App ${appId}`,
                'Check the id of the App, create a new key on its settings page, and check the clock of this host.',
              )
            : explain(error, doing),
      )

/** What the App lacks for what the operator turned on, at the start of a bot. */
export const missingForFeatures = async ({ github, ...features }: GitHubConfig & Features): Promise<Finding[]> =>
  github?.via === 'app' ? missingInApp(await openApp(github, features)) : []

export const checkAppRepositories = async ({ github }: GitHubConfig): Promise<Finding[]> =>
  github?.via !== 'app'
    ? []
    : runChecks(
        github,
        [
          [
            'checking the repositories',
            async settings => reached(settings.repositories, await (await open(settings)).repositories(), 'the App'),
          ],
        ],
        explain,
      )

export const isInstalled = async (settings: AppSettings): Promise<boolean> =>
  (await (await asApp(settings)).rest.apps.listInstallations({ per_page: 1 })).data.length > 0
