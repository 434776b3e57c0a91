/** What somebody may do in a repository, and the teams they belong to. */
import type { Facts } from '../../../handlers/handler.ts'
import { githubFailure, type Octokit, parts, statusOf } from './client.ts'

type Permission = Facts['comment']['permission']
const LEVELS: Readonly<Record<string, Permission>> = {
  admin: 'admin',
  maintain: 'write',
  write: 'write',
  triage: 'read',
  read: 'read',
}

/** `now` is epoch ms. */
export const permissionOf = async (
  octokit: Octokit,
  repo: string,
  username: string,
  now: number,
): Promise<Permission> => {
  try {
    const { data } = await octokit.rest.repos.getCollaboratorPermissionLevel({ ...parts(repo), username })
    return Object.hasOwn(LEVELS, data.permission) ? (LEVELS[data.permission] ?? 'none') : 'none'
  } catch (error) {
    // Not a collaborator.
    if (statusOf(error) === 404) return 'none'
    throw githubFailure(error, `reading the permission of ${username} in ${repo}`, now)
  }
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
      if (failure.failure.kind === 'permission') return null
      throw failure
    }
  }
  return memberships
}
