/** Pull requests, as GitHub's API describes them. */

import * as v from 'valibot'
import type { PullRequestEvent, PullRequestNow } from '../../../handlers/handler.ts'
import type { PullRequestRef } from '../../schema/action.ts'
import { fullCommit } from '../../schema/basics.ts'
import { githubFailure, type Octokit, parts, statusOf } from './client.ts'

/** What is read of a pull request, alone or in a list. */
export type PullRequestData = {
  state: string
  merged?: boolean
  merged_at?: string | null
  closed_at?: string | null
  updated_at?: string | null
  title: string
  draft?: boolean
  head: { ref: string; sha: string; repo: { full_name: string } | null }
  base: { repo: { full_name: string } }
}

/** `acme/shop#7` */
export const nameOf = ({ repo, number }: PullRequestRef): string => `${repo}#${number}`

const timeOf = (text: unknown): number | null => {
  const at = typeof text === 'string' ? Date.parse(text) : Number.NaN
  return Number.isNaN(at) ? null : at
}

export const pullRequestNow = (data: PullRequestData): PullRequestNow => ({
  state:
    data.merged === true || typeof data.merged_at === 'string' ? 'merged' : data.state === 'open' ? 'open' : 'closed',
  branch: data.head.ref,
  title: data.title,
  fromFork: data.head.repo?.full_name !== data.base.repo.full_name,
  isDraft: data.draft === true,
  headSha: data.head.sha,
  closedAt: timeOf(data.closed_at),
  updatedAt: timeOf(data.updated_at),
})

/**
 * Whether GitHub's answer is older than the event: it tells of another state, and of no later change. GitHub's API may lag behind
 * its webhooks by seconds. A pull request is never deleted, so one that is not found is not there yet, or closed to us.
 */
export const isBehind = (
  { change, merged, at }: Pick<PullRequestEvent, 'change' | 'merged' | 'at'>,
  now: PullRequestNow | null,
): boolean => {
  if (now === null) return true
  const isAsTold = change === 'closed' ? (merged ? now.state === 'merged' : now.state !== 'open') : now.state === 'open'
  const isTold = change === 'closed' || change === 'opened' || change === 'reopened'
  return isTold && !isAsTold && (now.updatedAt === null || at === null || now.updatedAt <= at)
}

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

/** GitHub lists at most this many commits of a pull request (https://docs.github.com/rest/pulls/pulls#list-commits-on-a-pull-request). */
const MAX_LISTED_COMMITS = 250

/** The ids of its head and of its commits. Of more than 250 commits, GitHub lists the first 250. */
export const pullRequestCommits = async (
  octokit: Octokit,
  pullRequest: PullRequestRef,
  now: number,
): Promise<string[]> => {
  const place = { ...parts(pullRequest.repo), pull_number: pullRequest.number }
  try {
    const { data } = await octokit.rest.pulls.get(place)
    const ids = [data.head.sha]
    for (let page = 1; page * 100 <= MAX_LISTED_COMMITS + 100; page += 1) {
      const { data: commits } = await octokit.rest.pulls.listCommits({ ...place, per_page: 100, page })
      ids.push(...commits.map(({ sha }) => sha))
      if (commits.length < 100) break
    }
    return [...new Set(ids)].filter(id => v.is(fullCommit, id)).slice(0, MAX_LISTED_COMMITS)
  } catch (error) {
    throw githubFailure(error, `reading the commits of ${nameOf(pullRequest)}`, now)
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
