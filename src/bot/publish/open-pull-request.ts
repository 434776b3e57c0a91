/** Opens the pull request of a branch that was pushed from a machine. */
import type { Ticket } from '../../domain.ts'
import { jiraLinkMessage, statusMessage } from '../../store/messages.ts'
import type { MessageBody } from '../../store/port.ts'
import { type GitHub, type Octokit, parts, statusOf } from '../github/client.ts'
import type { Jira } from '../jira/client.ts'
import { pullRequestBlocks, pullRequestTitle } from './agent-words.ts'
import { octokitFor } from './github-side.ts'
import { markdown } from './text.ts'
import { unpublishable } from './trouble.ts'
import type { Views } from './views.ts'
import { linksTo } from './words.ts'

type Wanted = Extract<MessageBody, { kind: 'open-pull-request' }>
type Context = Views & { github: GitHub | null; jira: Jira | null; dryRun?: boolean }

/** The pull requests that the branch has or had in this repository, the newest first. */
const ofBranch = async (octokit: Octokit, { repo, branch }: Wanted) => {
  const { owner } = parts(repo)
  const { data } = await octokit.rest.pulls.list({
    ...parts(repo),
    ...{ head: `${owner}:${branch}`, state: 'all', sort: 'created', direction: 'desc', per_page: 100 },
  })
  // A GitHub that does not know the filter lists them all.
  return data.filter(({ head }) => head.ref === branch && head.repo?.full_name.toLowerCase() === repo.toLowerCase())
}

/** GitHub's answer where drafts are not part of the plan: 422, "Draft pull requests are not supported in this repository." */
const refusesDrafts = (error: unknown): boolean =>
  statusOf(error) === 422 && error instanceof Error && /draft pull requests are not supported/i.test(error.message)

const create = async (
  octokit: Octokit,
  { repo, branch, draft, byAgent, ticket }: Wanted,
  { base, title, page }: { base: string; title: string; page: string | null },
): Promise<number> => {
  const body = (noDrafts: boolean) => `${markdown(pullRequestBlocks(ticket, { page, byAgent, noDrafts }))}\n`
  const wanted = { ...parts(repo), title, head: branch, base }
  try {
    const { data } = await octokit.rest.pulls.create({ ...wanted, body: body(false), draft })
    return data.number
  } catch (error) {
    if (!draft || !refusesDrafts(error)) throw error
    const { data } = await octokit.rest.pulls.create({ ...wanted, body: body(true), draft: false })
    return data.number
  }
}

/** Records now what its event will say later: the comment about the agent's end goes there. */
const learn = async ({ store, jira }: Context, ticket: Ticket, { repo, branch }: Wanted, number: number) => {
  await store.pullRequests.link({ repo, number, ticket, branch, state: 'open', closedAt: null })
  await store.outbox.put([statusMessage(ticket), ...(jira === null ? [] : [jiraLinkMessage({ repo, number }, ticket)])])
}

export const publishPullRequest = async (context: Context, wanted: Wanted): Promise<boolean> => {
  const { store, github, jira, webUrl, jiraUrl, dryRun } = context
  const { repo, branch } = wanted
  const ticket = await store.tickets.current(wanted.ticket)
  const links = await store.pullRequests.ofTicket(ticket)
  if (links.some(link => link.repo === repo && link.branch === branch)) return false
  const octokit = await octokitFor(github, repo)
  const known = await ofBranch(octokit, wanted)
  const open = known.find(({ state }) => state === 'open')
  // What was opened before, by us before a crash, or by a person. What a person closed is not opened again.
  if (open !== undefined) await learn(context, ticket, wanted, open.number)
  if (known.length > 0) return false
  const { data: repository } = await octokit.rest.repos.get(parts(repo))
  const base = repository.default_branch
  if (base === branch) throw unpublishable(`${repo}: a pull request from the default branch to itself`)
  const summary = jira === null ? '' : ((await jira.taskOf(ticket))?.task.summary ?? '')
  const page = linksTo({ webUrl, jiraUrl }, null).ticket(ticket)
  const number = await create(octokit, wanted, { base, title: pullRequestTitle(ticket, summary), page })
  if (dryRun !== true) await learn(context, ticket, wanted, number)
  return true
}
