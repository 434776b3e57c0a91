/**
 * Access to the contents of one repository, for git. An App gives tokens that GitHub narrows to that repository and to reading or
 * writing: https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app
 */
import { fail } from '../../errors.ts'
import type { Store } from '../../store/port.ts'
import {
  type GitAccess,
  type GitNeed,
  type GiveGitAccess,
  githubFailure,
  type Octokit,
  parts,
  statusOf,
} from './client.ts'

/** A token is not given any more when it ends sooner. Milliseconds. */
const LEFT_MS = 5 * 60_000
const HOUR_MS = 60 * 60_000
/** GitHub's tokens of an App end after an hour. One that seems to live longer was made before the clock was set back. */
const MAX_LEFT_MS = HOUR_MS + LEFT_MS
/** A cache of tokens has a bound: a wildcard lets in any number of repositories. */
const MAX_KEPT = 500

const nobodys = (): GitAccess => ({ token: null, expiresAt: Date.now() + LEFT_MS })

type AppTools = {
  asApp: () => Promise<Octokit>
  repositories: Pick<Store['repositories'], 'installation'>
  clock: () => number
}

/** Why GitHub gave no token: the installation says what it was granted. */
const explain = async (octokit: Octokit, installation: number, repo: string, need: GitNeed): Promise<void> => {
  const { data } = await octokit.rest.apps.getInstallation({ installation_id: installation })
  const granted = data.permissions.contents
  if (granted === 'write' || (granted === 'read' && need === 'read')) return
  throw fail(
    'permission',
    `giving git access to ${repo}: the App lacks the permission contents: ${need} (it has ${granted ?? 'none'})`,
    `Change it in the settings of the App (Permissions & events), and accept the change: ${data.html_url}`,
  )
}

const makeToken = async ({ asApp, clock }: AppTools, installation: number, repo: string, need: GitNeed) => {
  const octokit = await asApp()
  try {
    const { data, headers } = await octokit.rest.apps.createInstallationAccessToken({
      installation_id: installation,
      repositories: [parts(repo).repo],
      permissions: { contents: need },
    })
    const others = (data.repositories ?? []).filter(({ full_name }) => full_name.toLowerCase() !== repo.toLowerCase())
    if (others.length > 0 || (data.permissions?.contents ?? need) !== need)
      throw fail('refused', `giving git access to ${repo}: GitHub made a token for more than that`)
    // Its end is by GitHub's clock, and counts by ours.
    const ahead = clock() - Date.parse(headers.date ?? '')
    return { token: data.token, expiresAt: Date.parse(data.expires_at) + (Number.isNaN(ahead) ? 0 : ahead) }
  } catch (error) {
    // GitHub answers 422 to what was not granted, and to a repository that the installation does not reach.
    if ([403, 404, 422].includes(statusOf(error) ?? 0)) await explain(octokit, installation, repo, need)
    throw githubFailure(error, `giving git access to ${repo}`, clock())
  }
}

/** A bot that has just started may not know yet where its App is installed. */
const installationNow = async ({ asApp, clock }: AppTools, repo: string): Promise<number | null> => {
  try {
    const octokit = await asApp()
    return (await octokit.rest.apps.getRepoInstallation(parts(repo))).data.id
  } catch (error) {
    if (statusOf(error) === 404) return null
    throw githubFailure(error, `looking for the App's installation on ${repo}`, clock())
  }
}

/** Of an App. A token is given again until five minutes before its end. */
export const openAppAccess = (tools: AppTools): GiveGitAccess => {
  const { repositories, clock } = tools
  /** `expiresAt` has no end while GitHub is asked. */
  const kept = new Map<string, { access: Promise<GitAccess>; expiresAt: number }>()
  const make = (key: string, access: Promise<GitAccess>): Promise<GitAccess> => {
    const [oldest] = kept.keys()
    if (kept.size >= MAX_KEPT && oldest !== undefined) kept.delete(oldest)
    const entry = { access, expiresAt: Number.POSITIVE_INFINITY }
    kept.set(key, entry)
    access.then(
      ({ expiresAt }) => Object.assign(entry, { expiresAt }),
      () => kept.delete(key),
    )
    return access
  }

  return async (repo, need) => {
    const installation = (await repositories.installation(repo)) ?? (await installationNow(tools, repo))
    if (installation === null && need === 'read') return nobodys()
    if (installation === null)
      throw fail(
        'permission',
        `giving git access to ${repo}: the App is not installed there`,
        'Install the App on this repository, in its settings on GitHub.',
      )
    const key = `${installation} ${repo} ${need}`
    const known = kept.get(key)
    const left = known === undefined ? 0 : known.expiresAt - clock()
    const isAsked = left === Number.POSITIVE_INFINITY
    if (known !== undefined && left > LEFT_MS && (isAsked || left <= MAX_LEFT_MS)) return known.access
    kept.delete(key)
    return make(key, makeToken(tools, installation, repo, need))
  }
}

/** Of a personal token, which opens everything that its person may do: it does not leave this process. */
export const openTokenAccess =
  (token: string, octokit: () => Octokit): GiveGitAccess =>
  async (repo, need, isOwn) => {
    if (isOwn) return { token, expiresAt: Date.now() + HOUR_MS }
    try {
      if (need === 'read' && !(await octokit().rest.repos.get(parts(repo))).data.private) return nobodys()
    } catch (error) {
      throw githubFailure(error, `giving git access to ${repo}`, Date.now())
    }
    throw fail(
      'permission',
      `giving git access to ${repo}: the bot has a personal token, and such a token does not leave the bot`,
      'Use a GitHub App, whose tokens are for one repository, or run bot and runner in one process: agent-swarm up.',
    )
  }
