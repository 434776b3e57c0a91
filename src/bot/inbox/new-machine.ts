/** Gathers what decides which project a new machine gets, and whether an agent starts in it. Nothing waits for it for long. */
import * as v from 'valibot'

import type { Decision, NewMachine, Rules } from '../../../handlers/handler.ts'
import { ticketOfBranch } from '../../branches.ts'
import { isWildcard } from '../../config/serving.ts'
import { projectOf, type Ticket } from '../../domain.ts'
import { branchName, oneName } from '../../schema/basics.ts'
import { githubFailure, parts } from '../github/client.ts'
import { isFinal } from '../remote-failure.ts'
import type { FactsContext } from './known.ts'

/** So many repositories are asked for a branch of the ticket, and so many known branches are looked up. */
const MAX_LOOKED_FOR = 10
const HEADS = 'refs/heads/'

export type AboutNewMachine = {
  ticket: Ticket
  rules: Rules
  /** Of the pull request on which somebody commands; null when there is none. */
  here: NewMachine['pullRequest']
  /** When Jira told the title just now. */
  summary?: string | null | undefined
  /** Until then (epoch ms), what cannot be read is read again; after that, it is decided without. */
  askUntil: number
}

export const createsMachine = (decision: Decision): boolean =>
  decision.verdict === 'act' && decision.actions.some(({ kind }) => kind === 'create')

/** A branch as the runner takes it; null for one with signs that git itself would refuse. */
export const branchOrNull = (name: string): string | null => (v.is(branchName, name) ? name : null)

const openPullRequest = async (
  { store, servesNow }: FactsContext,
  ticket: Ticket,
): Promise<NewMachine['pullRequest']> => {
  const links = (await store.pullRequests.ofTicket(ticket)).filter(({ state }) => state === 'open')
  for (const { repo, branch } of links.reverse())
    if (await servesNow(repo, projectOf(ticket))) return { repo, branch: branchOrNull(branch), fromFork: false }
  return null
}

/** A branch of this name, or with this beginning. */
type Sought = { repo: string; beginning: string }

/**
 * Where a branch of the ticket may be: GitHub finds one by its beginning alone, and what a machine makes begins with the key. One
 * of another form is known from a push.
 */
const soughtBranches = async (
  { store, servesNow }: FactsContext,
  repositories: readonly string[],
  { ticket, rules }: AboutNewMachine,
): Promise<Sought[]> => {
  const named = repositories.filter(name => !isWildcard(name))
  const known: Sought[] = []
  for (const repo of new Set([...named, ...(await store.repositories.watched())])) {
    if (!(await servesNow(repo, projectOf(ticket)))) continue
    for (const ref of (await store.repositories.heads(repo)).keys()) {
      const branch = ref.slice(HEADS.length)
      // Compared as text first: a repository has thousands of branches.
      if (branch.toUpperCase().includes(ticket) && ticketOfBranch(branch, rules) === ticket)
        known.push({ repo, beginning: branch })
    }
  }
  const asked = named.slice(0, MAX_LOOKED_FOR).map(repo => ({ repo, beginning: ticket }))
  return [...asked, ...known.slice(0, MAX_LOOKED_FOR)]
}

/** The first repository that has a branch of the ticket. */
const repositoryWithBranch = async (
  context: FactsContext,
  repositories: readonly string[],
  about: AboutNewMachine,
): Promise<string | null> => {
  const { octokitFor, clock } = context
  const { ticket, rules, askUntil } = about
  const has = async ({ repo, beginning }: Sought): Promise<boolean> => {
    try {
      const octokit = await octokitFor(repo)
      if (octokit === null) return false
      const { data } = await octokit.rest.git.listMatchingRefs({ ...parts(repo), ref: `heads/${beginning}` })
      return data.some(({ ref }) => ticketOfBranch(ref.slice(HEADS.length), rules) === ticket)
    } catch (error) {
      const failure = githubFailure(error, `looking for a branch of ${ticket} in ${repo}`, clock())
      if (!isFinal(failure) && clock() < askUntil) throw failure
      return false
    }
  }
  const sought = await soughtBranches(context, repositories, about)
  const found = await Promise.all(sought.map(has))
  return sought.find((_, n) => found[n])?.repo ?? null
}

const agentFacts = async (
  context: FactsContext,
  { ticket, rules, askUntil }: AboutNewMachine,
): Promise<Pick<NewMachine, 'text' | 'me'>> => {
  const { jira, standard, clock } = context
  // Said, so that a create without a word about the agent means one thing to the runner: the operator has none on the bot's host.
  if (rules.agent === null) return { text: standard.agent === null ? null : 'unwanted', me: null }
  if (jira === null) return { text: null, me: null }
  try {
    const me = rules.agent.reporters === 'me' ? await jira.me() : null
    return { text: await jira.taskOf(ticket), me }
  } catch (error) {
    if (clock() < askUntil) throw error
    return { text: 'unreadable', me: null }
  }
}

/** The title, when the text did not tell it. A machine does not wait for it. */
const readSummary = async ({ jira }: FactsContext, ticket: Ticket): Promise<string | null> =>
  jira === null ? null : ((await jira.issue(ticket).catch(() => null))?.summary ?? null)

export const newMachineFacts = async (context: FactsContext, about: AboutNewMachine): Promise<NewMachine> => {
  const ticket = await context.store.tickets.current(about.ticket)
  const present = { ...about, ticket }
  const { repositories, isMapped } = await context.repositoriesFor(projectOf(ticket))
  const pullRequest = about.here ?? (await openPullRequest(context, ticket))
  const couldBeSeveral = repositories.length > 1 || repositories.some(isWildcard)
  const withBranch =
    pullRequest === null && couldBeSeveral ? await repositoryWithBranch(context, repositories, present) : null
  const { text, me } = await agentFacts(context, present)
  const told = text === null || typeof text === 'string' ? about.summary : v.parse(oneName, text.task.summary)
  const summary = repositories.length === 0 || told !== undefined ? (told ?? null) : await readSummary(context, ticket)
  return { repositories, isMapped, pullRequest, withBranch, summary, text, me }
}
