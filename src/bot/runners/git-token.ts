/** Gives a runner access to one repository: for a ticket that is pinned to it, or to read one that the operator's pool names. */
import type { ServerResponse } from 'node:http'
import type { Clock } from '../../clock.ts'
import { projectOf, type Ticket } from '../../domain.ts'
import { failureOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import type { EnvironmentStatus } from '../../schema/environment.ts'
import type { GitTokenRequest, GitTokenResponse } from '../../schema/runner-protocol.ts'
import type { Store } from '../../store/port.ts'
import type { GiveGitAccess } from '../github/client.ts'
import { respond } from '../http/respond.ts'

export type GitTokenOptions = {
  /** Null: GitHub is not configured, or not opened yet. */
  access: () => GiveGitAccess | null
  /** The projects that a repository serves, under the names that it has or had. */
  projectsNow: (repo: string) => Promise<readonly string[]>
  /** Whether the operator keeps machines of this repository ready, and lets it act at all. */
  isPooled: (repo: string) => Promise<boolean>
  /** GitHub's address for people. */
  webUrl: string
}
type Context = GitTokenOptions & {
  store: Pick<Store, 'tickets' | 'runners' | 'queue' | 'repositories'>
  /** From now on, this value is nowhere to be shown. */
  hide: (secret: string) => void
  clock: Clock
  log: Log
}

const LIVE: readonly EnvironmentStatus[] = ['creating', 'running', 'stopped']

/** Whether the ticket's machine is this runner's: reported by it, or being created by it, of which no heartbeat tells yet. */
const isPinned = async ({ store }: Context, ticket: Ticket, runnerId: string): Promise<boolean> => {
  const known = await store.runners.environment(ticket)
  if (known !== null && known.goneAt === null)
    return known.runnerId === runnerId && LIVE.includes(known.environment.status)
  return (await store.queue.list({ ticket, kind: 'create', state: 'active' })).some(row => row.runnerId === runnerId)
}

type Refusal = { status: 403 | 503; error: string; remedy: string | null }
const refusal = (error: string, remedy: string | null = null): Refusal => ({ status: 403, error, remedy })

/** For a machine that has no ticket yet. */
const refuseForPool = async (
  { isPooled }: Context,
  repo: string,
  to: GitTokenRequest['to'],
): Promise<Refusal | null> => {
  if (to !== 'read') return refusal(`git access to ${repo}: a machine without a ticket pushes nothing`)
  if (await isPooled(repo)) return null
  return refusal(
    `git access to ${repo}: no machines of it are kept ready`,
    "On the bot's host, name it in `pool` of config.yaml, as on the runner's, and in GITHUB_REPOSITORIES.",
  )
}

const refuseForTicket = async (
  context: Context,
  named: Ticket,
  repo: string,
  runnerId: string,
): Promise<Refusal | null> => {
  const { store, projectsNow } = context
  const ticket = await store.tickets.current(named)
  if (!(await isPinned(context, ticket, runnerId)))
    return refusal(`git access for ${ticket}: this runner has no machine of this ticket`)
  if ((await projectsNow(repo)).includes(projectOf(ticket))) return null
  return refusal(
    `git access for ${ticket}: ${repo} does not serve ${projectOf(ticket)}`,
    "On the bot's host, add it to GITHUB_REPOSITORIES, and to JIRA_PROJECTS where that maps the project.",
  )
}

const decide = async (
  context: Context,
  { ticket, repo: typed, to }: GitTokenRequest,
  runnerId: string,
  isOwn: boolean,
): Promise<GitTokenResponse | Refusal> => {
  const { store, access, webUrl, projectsNow } = context
  const repo = await store.repositories.presentName(typed)
  const refused = await (ticket === null
    ? refuseForPool(context, repo, to)
    : refuseForTicket(context, ticket, repo, runnerId))
  if (refused !== null) return refused
  const give = access()
  if (give === null) return { status: 503, error: 'the bot has not opened GitHub yet', remedy: null }
  try {
    const { token, expiresAt } = await give(repo, to, isOwn)
    const projects = [...(await projectsNow(repo))]
    return { token, host: webUrl, expiresAt: new Date(expiresAt).toISOString(), projects }
  } catch (error) {
    const { kind, message, remedy } = failureOf(error, `giving git access to ${repo}`)
    return { status: kind === 'permission' || kind === 'refused' ? 403 : 503, error: message, remedy }
  }
}

/** Answers with a token, or says why there is none. Either is recorded, the token itself nowhere. */
export const giveGitToken = async (
  context: Context,
  request: GitTokenRequest,
  runnerId: string,
  isOwn: boolean,
  response: ServerResponse,
): Promise<void> => {
  const { log, hide } = context
  const answer = await decide(context, request, runnerId, isOwn)
  const { ticket, repo, to } = request
  const about = { runner: runnerId, ticket, repo, to }
  if ('error' in answer) {
    const { status, error, remedy } = answer
    log.warn({ ...about, remedy }, error)
    return respond(response)(status, { error, remedy })
  }
  if (answer.token !== null) hide(answer.token)
  log.info(
    { ...about, expiresAt: answer.expiresAt },
    answer.token === null
      ? 'a runner was told that a repository is public'
      : 'a runner was given access to a repository',
  )
  respond(response)(200, answer)
}
