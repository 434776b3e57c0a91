/** What a new machine gets: the project that is cloned into it, and whether an agent starts on its ticket. */
import { projectOf, type Ticket } from '../src/domain.ts'
import type { Action } from '../src/schema/action.ts'
import { isAmong } from './accounts.ts'
import type { NewMachine, Rules } from './handler.ts'

type Create = Extract<Action, { kind: 'create' }>
type Project = Pick<Create, 'project' | 'noProject'>

const same = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase()
const isWildcard = (repository: string): boolean => repository.endsWith('/*')
/** `acme/shop` is served by `acme/shop` and by `acme/*`. */
const covers = (entry: string, repo: string): boolean =>
  isWildcard(entry) ? same(entry.slice(0, -1), repo.slice(0, repo.indexOf('/') + 1)) : same(entry, repo)

const MAX_NAMES = 5
const listed = (names: readonly string[]): string => {
  const shown = names
    .slice(0, MAX_NAMES)
    .map(name => `\`${name}\``)
    .join(', ')
  return names.length > MAX_NAMES ? `${shown} and ${names.length - MAX_NAMES} more` : shown
}

/** How somebody chooses the repository of a ticket. */
const howToChoose = (ticket: Ticket, repo: string): string =>
  `To choose one: \`/swarm create ${repo}\`, or \`agent-swarm create ${ticket} --repo ${repo}\` on the host of the machines.`

const whyNone = (ticket: Ticket, { repositories }: NewMachine): string => {
  const [first = ''] = repositories
  const example = isWildcard(first) ? `${first.slice(0, -1)}shop` : first
  const who =
    repositories.length === 1
      ? `every repository of \`${first.slice(0, -2)}\` serves ${projectOf(ticket)}`
      : `${listed(repositories)} serve ${projectOf(ticket)}`
  return `No project was cloned: ${who}, and no branch of ${ticket} was found in them. ${howToChoose(ticket, example)}`
}

/** The repository by the operator's map; null when several could be meant. */
const mappedRepository = ({ repositories, isMapped }: NewMachine): string | null => {
  const [first, ...others] = repositories.filter(name => !isWildcard(name))
  if (first === undefined) return null
  return isMapped || (others.length === 0 && repositories.length === 1) ? first : null
}

/**
 * The project of a new machine: the repository that somebody named; else the one of the ticket's open pull request, or with a
 * branch of the ticket; else the first by the operator's map, or the only one. `branch` null: the runner looks for the ticket's
 * branch, and makes one where there is none. Nothing where no repository serves the ticket.
 */
const projectFor = (ticket: Ticket, named: string | null, facts: NewMachine): Project => {
  const { pullRequest, withBranch, repositories, summary } = facts
  if (named === null && pullRequest?.fromFork === true)
    return {
      noProject: `No project was cloned: the pull request is from a fork, so its branch is not in \`${pullRequest.repo}\`. For a new branch there: \`/swarm create ${pullRequest.repo}\`.`,
    }
  const repo = named ?? pullRequest?.repo ?? withBranch ?? mappedRepository(facts)
  if (repo === null) return repositories.length === 0 ? {} : { noProject: whyNone(ticket, facts) }
  // As GitHub writes it.
  const known = [pullRequest?.repo, ...repositories].find(name => name !== undefined && same(name, repo)) ?? repo
  const branch = pullRequest !== null && same(pullRequest.repo, repo) ? pullRequest.branch : null
  return { project: { repo: known, branch, summary, ...(named === null ? {} : { named: true }) } }
}

const START_ONE = 'To start one: `/swarm agent start`.'
/** The agent's task, or why none starts. Nothing where the operator has no agent. */
const agentFor = (
  ticket: Ticket,
  { project }: Project,
  { text, me }: NewMachine,
  { agent }: Pick<Rules, 'agent'>,
): Pick<Create, 'task' | 'noAgent'> => {
  const none = (why: string) => ({ noAgent: `No agent was started: ${why}` })
  if (text === 'unwanted') return none('`.github/agent-swarm.yml` of its repository wants none.')
  if (agent === null) return {}
  if (project === undefined) return none('it has no project to work on.')
  if (text === null) return none(`the bot cannot read ${ticket} in Jira, which has its task.`)
  if (text === 'unreadable') return none(`Jira could not be read when the machine was asked for. ${START_ONE}`)
  return isAmong(text.reporter, agent.reporters, me)
    ? { task: text.task }
    : none(`${ticket} was reported by somebody whose tickets start none (\`agent.reporters\`). ${START_ONE}`)
}

/** A create with its project and its task. `facts` absent: they were not read. */
export const createAction = (
  create: Create,
  facts: NewMachine | undefined,
  rules: Pick<Rules, 'agent'>,
  named: string | null = null,
): Create => {
  if (facts === undefined) return create
  const project = projectFor(create.ticket, named, facts)
  return { ...create, ...project, ...agentFor(create.ticket, project, facts, rules) }
}

/** Why the repository that somebody named is refused for this ticket; null when it serves it. */
export const refusedRepository = (ticket: Ticket, repo: string, { repositories }: NewMachine): string | null => {
  if (repositories.some(entry => covers(entry, repo))) return null
  const project = projectOf(ticket)
  return repositories.length === 0
    ? `\`${repo}\` does not serve ${project}: no repository does.`
    : `\`${repo}\` does not serve ${project}. These do: ${listed(repositories)}.`
}
