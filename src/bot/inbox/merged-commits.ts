/** What a runner needs to know to tell merged work from unsaved work: the commits of the ticket's merged pull requests. */
import { type EnvironmentKey, ticketOf } from '../../domain.ts'
import { type Action, MAX_MERGED_COMMITS } from '../../schema/action.ts'
import type { Settlement, Store } from '../../store/port.ts'
import type { Octokit } from '../github/client.ts'
import { pullRequestCommits } from '../github/pull-request.ts'

/** The pull requests of a ticket that were merged last; each has at most 250 commits in GitHub's list. */
const MAX_PULL_REQUESTS = 4

type Context = {
  store: Pick<Store, 'pullRequests'>
  octokitFor: (repo: string) => Promise<Octokit | null>
  clock: () => number
}

const commitsOf = async ({ store, octokitFor, clock }: Context, key: EnvironmentKey): Promise<string[]> => {
  const merged = (await store.pullRequests.ofTicket(ticketOf(key)))
    .filter(({ state }) => state === 'merged')
    .sort((a, b) => (b.closedAt ?? 0) - (a.closedAt ?? 0))
    .slice(0, MAX_PULL_REQUESTS)
  const ids = await Promise.all(
    merged.map(async pullRequest => {
      const octokit = await octokitFor(pullRequest.repo)
      return octokit === null ? [] : pullRequestCommits(octokit, pullRequest, clock())
    }),
  )
  return [...new Set(ids.flat())].slice(0, MAX_MERGED_COMMITS)
}

const withCommits = async (context: Context, action: Action): Promise<Action> => {
  if (action.kind !== 'stop' && (action.kind !== 'delete' || action.force)) return action
  // Commits that nobody names here count as unsaved: they are rescued, and nothing is lost. The action does not wait for them.
  const mergedCommits = await commitsOf(context, action.ticket).catch(() => [])
  return mergedCommits.length === 0 ? action : { ...action, mergedCommits }
}

/** Adds them to each delete and stop. */
export const withMergedCommits = async (context: Context, settlement: Settlement): Promise<Settlement> => ({
  ...settlement,
  actions: await Promise.all(
    settlement.actions.map(async queued => ({ ...queued, action: await withCommits(context, queued.action) })),
  ),
})
