/** The project of a machine that a person creates. Pure. */
import { isWildcard, type Serving, servedProjects, servingRepositories } from '../config/serving.ts'
import { projectOf, type Ticket } from '../domain.ts'
import { fail } from '../errors.ts'
import type { Action } from '../schema/action.ts'

type Choice = Pick<Extract<Action, { kind: 'create' }>, 'project' | 'noProject'>

/** The ticket's summary is in Jira, which the CLI does not ask. */
const projectIn = (repo: string) => ({ project: { repo, branch: null, summary: null } })
export const namedProject = (repo: string): Choice => ({ project: { ...projectIn(repo).project, named: true } })

/** Throws `refused` where this home knows which repositories serve the ticket's project, and this is none of them. */
export const checkServes = (ticket: Ticket, repo: string, serving: Serving): void => {
  const project = projectOf(ticket)
  const all = servingRepositories(project, serving)
  if (all.length === 0 || servedProjects([repo], serving).includes(project)) return
  throw fail(
    'refused',
    `${repo} does not serve ${project}. These do: ${all.slice(0, 5).join(', ')}`,
    'Choose one of them, or add it to GITHUB_REPOSITORIES and JIRA_PROJECTS.',
  )
}

/** The first that serves the ticket's project by the operator's map, or the only one. Nothing where none serves it. */
export const projectFor = (ticket: Ticket, serving: Serving): Choice => {
  const project = projectOf(ticket)
  const all = servingRepositories(project, serving)
  const [first, ...others] = all.filter(name => !isWildcard(name))
  if (all.length === 0) return {}
  if (first !== undefined && (serving.mapped.includes(project) || (others.length === 0 && all.length === 1)))
    return projectIn(first)
  const named = all.slice(0, 5).join(', ')
  return {
    noProject: `No project was cloned: ${named}${all.length > 5 ? ' and others' : ''} ${all.length === 1 ? 'serves' : 'serve'} ${project}. To choose one: agent-swarm create ${ticket} --repo ${first ?? 'owner/name'}`,
  }
}
