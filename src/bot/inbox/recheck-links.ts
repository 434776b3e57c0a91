/**
 * At each start, once GitHub can be reached: links between pull requests and tickets that the rules do not allow go. An earlier
 * version read tickets out of descriptions, and versions as keys; and the operator may have changed which repository serves what.
 */

import type { PullRequestNow } from '../../../handlers/handler.ts'
import { MAX_WAIT_MS } from '../../backoff.ts'
import { isBranchOfBot, ticketOfBranch } from '../../branches.ts'
import { projectOf } from '../../domain.ts'
import { failureOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import type { KnownPullRequest } from '../../store/port.ts'
import { nameOf, readPullRequest } from '../github/pull-request.ts'
import { presentTicket } from '../present-ticket.ts'
import { openProblemLog } from '../problem-log.ts'
import { isFinal } from '../remote-failure.ts'
import { type FactsContext, linkPullRequest } from './known.ts'

/** By which rule the links were checked. */
const CURSOR = 'links:rule'
const RULE = 'branch, else title'
type Cursor = { rule: string }

type Context = FactsContext & { nudgePublisher: () => void; log: Log }

/** The pull request as GitHub has it; null when it is closed to us, which proves nothing. */
const readAgain = async ({ octokitFor, clock }: Context, link: KnownPullRequest): Promise<PullRequestNow | null> => {
  const octokit = await octokitFor(link.repo)
  try {
    return octokit === null ? null : await readPullRequest(octokit, link, clock())
  } catch (error) {
    if (isFinal(error)) return null
    throw error
  }
}

/** The branch is known, and where it has no key, the title is read from GitHub. True: the link stays. */
const recheck = async (context: Context, link: KnownPullRequest, isNewRule: boolean): Promise<boolean> => {
  const { store, rulesOf } = context
  const rules = await rulesOf(link.repo)
  if (!rules.projects.includes(projectOf(link.ticket)) || isBranchOfBot(link.branch)) {
    await store.pullRequests.unlink(link)
    return false
  }
  const named = await presentTicket(context, ticketOfBranch(link.branch, rules), rules)
  if (named === link.ticket || !isNewRule) return true
  const now = await readAgain(context, link)
  return now === null || (await linkPullRequest(context, link, now, rules)) === link.ticket
}

/** Under the rule by which they were checked, links go only where a repository no longer serves their project. */
const linksToCheck = async (
  { store, rulesOf }: Context,
  repo: string,
  { projects, isNewRule }: { projects: readonly string[]; isNewRule: boolean },
): Promise<KnownPullRequest[]> => {
  const served = isNewRule ? [] : (await rulesOf(repo)).projects
  return projects.every(project => served.includes(project)) ? [] : store.pullRequests.inRepository(repo)
}

/** A schedule row's `run`: its work is done once a start. What cannot be read is tried again. */
export const openLinkCheck = (context: Context) => {
  const { store, log, nudgePublisher } = context
  const problems = openProblemLog(log)
  const doing = 'checking which tickets the known pull requests are about'
  const checked = new Set<string>()
  let isDone = false
  const checkAll = async (signal: AbortSignal): Promise<void> => {
    const isNewRule = (await store.cursors.get<Cursor>(CURSOR))?.rule !== RULE
    // One that cannot be read now does not keep the links of others: these may no longer act on their tickets.
    const failures: unknown[] = []
    const linked = Map.groupBy(await store.pullRequests.projects(), ({ repo }) => repo)
    for (const [repo, pairs] of linked)
      try {
        const projects = pairs.map(({ project }) => project)
        for (const link of await linksToCheck(context, repo, { projects, isNewRule })) {
          if (signal.aborted) return
          const name = nameOf(link)
          if (checked.has(name)) continue
          const stays = await recheck(context, link, isNewRule)
          checked.add(name)
          if (stays) continue
          log.info({ pullRequest: name }, `no longer linked to ${link.ticket}`)
          nudgePublisher()
        }
      } catch (error) {
        failures.push(error)
      }
    for (const error of failures) throw error
    if (isNewRule) await store.cursors.set(CURSOR, { rule: RULE } satisfies Cursor)
    isDone = true
  }
  return async (signal: AbortSignal): Promise<number | undefined> => {
    if (isDone) return MAX_WAIT_MS
    try {
      await checkAll(signal)
      problems.clear(doing)
    } catch (error) {
      problems.report(doing, failureOf(error, doing))
    }
    return isDone ? MAX_WAIT_MS : undefined
  }
}
