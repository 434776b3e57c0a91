/** Decides a delivery: it is parsed, the facts are gathered, the handler decides, and that becomes a settlement. */
import type { Settlement, StoredDelivery } from '../../store/port.ts'
import { decideGitHub, decideScheduled, type GitHubContext } from './decide-github.ts'
import { decideJira, type JiraContext } from './decide-jira.ts'
import { decideRunner } from './decide-runner.ts'
import { askingUntil } from './known.ts'
import { withMergedCommits } from './merged-commits.ts'
import { withTask } from './with-task.ts'

export type DecideContext = GitHubContext & JiraContext

const bySource = { github: decideGitHub, jira: decideJira, clock: decideScheduled, runner: decideRunner }

export const decide = async (context: DecideContext, delivery: StoredDelivery): Promise<Settlement> =>
  withTask(
    context,
    await withMergedCommits(context, await bySource[delivery.source](context, delivery)),
    askingUntil(delivery.dueSince, context.clock()),
  )
