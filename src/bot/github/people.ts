/** What somebody may do in a repository, and the teams they belong to. */
import type { Facts } from '../../../handlers/handler.ts'
import { isWithin } from '../../clock.ts'
import { githubFailure, type Octokit, parts, statusOf } from './client.ts'

type Permission = Facts['comment']['permission']
const LEVELS: Readonly<Record<string, Permission>> = {
  admin: 'admin',
  maintain: 'write',
  write: 'write',
  triage: 'read',
  read: 'read',
}

/** `isColleague`: see the fact of the same name. */
type Access = { permission: Permission; isColleague: boolean }

const readAccess = async (octokit: Octokit, repo: string, username: string, now: number): Promise<Access> => {
  try {
    const { data } = await octokit.rest.repos.getCollaboratorPermissionLevel({ ...parts(repo), username })
    const permission = Object.hasOwn(LEVELS, data.permission) ? (LEVELS[data.permission] ?? 'none') : 'none'
    if (permission !== 'read') return { permission, isColleague: permission !== 'none' }
    // `triage` is called `read` here, and in a public repository everybody can read.
    if (data.permission === 'triage' || data.role_name === 'triage' || data.user?.permissions?.triage === true)
      return { permission, isColleague: true }
    const { data: repository } = await octokit.rest.repos.get(parts(repo))
    return { permission, isColleague: repository.private }
  } catch (error) {
    // Not a collaborator.
    if (statusOf(error) === 404) return { permission: 'none', isColleague: false }
    throw githubFailure(error, `reading the permission of ${username} in ${repo}`, now)
  }
}

const REMEMBERED_MS = 10 * 60_000
const MOST_REMEMBERED = 1_000
type Memory = Map<string, { access: Access; at: number }>
/** Anybody can comment as often as they like: each account is asked about once in ten minutes. By the bot's store. */
const memories = new WeakMap<object, Memory>()

/** What somebody may do in a repository; remembered for ten minutes. `now` is epoch ms, `owner` the bot's store. */
export const accessOf = async (
  owner: object,
  octokit: Octokit,
  repo: string,
  username: string,
  now: number,
): Promise<Access> => {
  const memory: Memory = memories.get(owner) ?? new Map()
  memories.set(owner, memory)
  const key = `${repo} ${username}`.toLowerCase()
  const known = memory.get(key)
  if (known !== undefined && isWithin(known.at, REMEMBERED_MS, now)) return known.access
  const access = await readAccess(octokit, repo, username, now)
  memory.delete(key)
  memory.set(key, { access, at: now })
  const [oldest] = memory.keys()
  if (memory.size > MOST_REMEMBERED && oldest !== undefined) memory.delete(oldest)
  return access
}

/** Those of `teams` (`org/team`) that somebody belongs to; null when the App may not read them. `now` is epoch ms. */
export const teamsOf = async (
  octokit: Octokit,
  teams: readonly string[],
  username: string,
  now: number,
): Promise<string[] | null> => {
  const memberships: string[] = []
  for (const team of teams) {
    const [org = '', team_slug = ''] = team.split('/')
    try {
      const { data } = await octokit.rest.teams.getMembershipForUserInOrg({ org, team_slug, username })
      if (data.state === 'active') memberships.push(team)
    } catch (error) {
      // Not a member, or there is no such team.
      if (statusOf(error) === 404) continue
      const failure = githubFailure(error, `reading whether ${username} is in ${team}`, now)
      if (statusOf(error) === 403 && failure.failure.kind === 'permission') return null
      throw failure
    }
  }
  return memberships
}
