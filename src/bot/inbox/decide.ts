/** Decides a delivery: it is parsed, the facts are gathered, the handler decides, and that becomes a settlement. */
import type { Settlement, StoredDelivery } from '../../store/port.ts'
import { decideGitHub, decideScheduled, type GitHubContext } from './decide-github.ts'
import { decideJira, type JiraContext } from './decide-jira.ts'
import { withMergedCommits } from './merged-commits.ts'

export type DecideContext = GitHubContext & JiraContext

const bySource = { github: decideGitHub, jira: decideJira, clock: decideScheduled }

export const decide = async (context: DecideContext, delivery: StoredDelivery): Promise<Settlement> =>
  withMergedCommits(context, await bySource[delivery.source](context, delivery))
