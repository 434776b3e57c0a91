/** Decides a delivery: it is parsed, the facts are gathered, the handler decides, and that becomes a settlement. */
import type { Settlement, StoredDelivery } from '../../store/port.ts'
import { decideGitHub, decideScheduled, type GitHubContext } from './decide-github.ts'
import { decideJira, type JiraContext } from './decide-jira.ts'
import { decideRunner } from './decide-runner.ts'
import { withMergedCommits } from './merged-commits.ts'
import { type TaskReader, withTask } from './with-task.ts'

export type DecideContext = GitHubContext &
  JiraContext & {
    /** Null when Jira is not configured. */
    readTask: TaskReader | null
  }

const bySource = { github: decideGitHub, jira: decideJira, clock: decideScheduled, runner: decideRunner }

export const decide = async (context: DecideContext, delivery: StoredDelivery): Promise<Settlement> =>
  withTask(context.readTask, await withMergedCommits(context, await bySource[delivery.source](context, delivery)))
