/** Pull requests, as GitHub's API describes them. */
import type { PullRequestNow } from '../../../handlers/handler.ts'
import type { PullRequestRef } from '../../schema/action.ts'
import { githubFailure, type Octokit, parts, statusOf } from './client.ts'

/** What is read of a pull request, alone or in a list. */
export type PullRequestData = {
  state: string
  merged?: boolean
  merged_at?: string | null
  closed_at?: string | null
  title: string
  body: string | null
  head: { ref: string; sha: string; repo: { full_name: string } | null }
  base: { repo: { full_name: string } }
}

/** `acme/shop#7` */
export const nameOf = ({ repo, number }: PullRequestRef): string => `${repo}#${number}`

export const pullRequestNow = (data: PullRequestData): PullRequestNow => ({
  state:
    data.merged === true || typeof data.merged_at === 'string' ? 'merged' : data.state === 'open' ? 'open' : 'closed',
  branch: data.head.ref,
  title: data.title,
  body: data.body ?? '',
  fromFork: data.head.repo?.full_name !== data.base.repo.full_name,
  headSha: data.head.sha,
  closedAt: typeof data.closed_at === 'string' ? Date.parse(data.closed_at) : null,
})

/** The pull request at this moment; null when it is gone. `now` is epoch ms. */
export const readPullRequest = async (
  octokit: Octokit,
  pullRequest: PullRequestRef,
  now: number,
): Promise<PullRequestNow | null> => {
  try {
    const { data } = await octokit.rest.pulls.get({ ...parts(pullRequest.repo), pull_number: pullRequest.number })
    return pullRequestNow(data)
  } catch (error) {
    if (statusOf(error) === 404) return null
    throw githubFailure(error, `reading ${nameOf(pullRequest)}`, now)
  }
}

/** The open pull requests of a repository, all pages. */
export const openPullRequests = async (
  octokit: Octokit,
  repo: string,
  now: number,
): Promise<{ pullRequest: PullRequestRef; now: PullRequestNow }[]> => {
  try {
    const all = await octokit.paginate(octokit.rest.pulls.list, { ...parts(repo), state: 'open', per_page: 100 })
    return all.map(data => ({ pullRequest: { repo, number: data.number }, now: pullRequestNow(data) }))
  } catch (error) {
    throw githubFailure(error, `listing the open pull requests of ${repo}`, now)
  }
}

/** The 100 pull requests of a repository that changed last, open or not. */
export const latestPullRequests = async (
  octokit: Octokit,
  repo: string,
): Promise<{ pullRequest: PullRequestRef; now: PullRequestNow }[]> => {
  const { data } = await octokit.rest.pulls.list({
    ...parts(repo),
    ...{ state: 'all', sort: 'updated', direction: 'desc', per_page: 100 },
  })
  return data.map(entry => ({ pullRequest: { repo, number: entry.number }, now: pullRequestNow(entry) }))
}
