/**
 * Polls Jira by JQL, and makes deliveries of what changed in the shape of webhooks. Without a webhook this is how changes
 * arrive; with one, it finds what the webhook missed. The query counts in whole minutes that have passed, so that time zones play
 * no part. The search lags behind, so polls overlap. A deleted issue is found by no search, and that something is not found
 * proves nothing.
 */
import { DAY_MS } from '../../clock.ts'
import type { Config } from '../../config/config.ts'
import { projectOf, type Ticket, ticketOf } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import type { Store } from '../../store/port.ts'
import type { PolledDelivery } from '../catch-up.ts'
import { presentEnvironment } from '../present-environment.ts'
import { openProblemLog, type ProblemLog } from '../problem-log.ts'
import type { IssueWithChanges } from './answers.ts'
import type { Jira } from './client.ts'
import type { SearchedIssue } from './issues.ts'
import { deliveriesOf, firstLookDelivery } from './polled.ts'
import { isJiraFailure, refusalOf } from './request.ts'

/** A search may be this late. */
const OVERLAP_MS = 5 * 60_000
const MINUTE_MS = 60_000
/** A larger difference between our clock and Jira's is reported. It includes the time of the request. Seconds. */
const MAX_CLOCK_DIFFERENCE_S = 30

/** A poll that comes later than this after the one before catches up. Milliseconds. */
const LATE_MS = 10 * 60_000

/** Epoch ms of Jira's clock. `began`: by project; what happened before is not acted on. */
type Cursor = { at: number; began: Record<string, number> }

type PollContext = {
  jira: Jira
  projects: readonly string[]
  assignees: Config['assignees']
  store: Store
  /** A webhook tells what happens; polls find what it missed. */
  hasWebhook: boolean
  everyMs: number
  clock: () => number
  log: Log
  /** Puts deliveries on disk that are not known yet. */
  accept: (deliveries: readonly PolledDelivery[]) => Promise<void>
  problems: ProblemLog
}

const quoted = (names: readonly string[]) => names.map(name => `"${name.replaceAll(/[\\"]/g, '\\$&')}"`).join(', ')
const inProjects = (projects: readonly string[]) => `project in (${quoted(projects)})`
/** The tickets in progress of the configured assignees. The category by its id: names can be changed and are translated. */
const inProgress = (projects: readonly string[], assignees: Config['assignees']): string => {
  const ofMe = assignees === 'me' ? ' AND assignee = currentUser()' : ''
  const ofNamed = typeof assignees === 'string' ? '' : ` AND assignee in (${quoted(assignees)})`
  return `${inProjects(projects)} AND statusCategory = 4${ofMe}${ofNamed}`
}

/**
 * What happened to the issue since `since`, except what was decided already because it was reported another way. `late`: it is
 * found by catching up.
 */
const newDeliveries = async (
  { jira, store }: Pick<PollContext, 'jira' | 'store'>,
  issue: SearchedIssue,
  since: number,
  late = true,
): Promise<PolledDelivery[]> => {
  const deliveries: PolledDelivery[] = []
  for (const { change, delivery } of await deliveriesOf(issue, since, { categoryOf: jira.categoryOf, late }))
    if ((await store.tickets.reportedBy(change)) === null) deliveries.push(delivery)
  return deliveries
}

/**
 * Searches projects, and returns which of them could be searched. Jira refuses a search that names a project which is gone or
 * hidden from us; then each is searched alone, so that the others lose nothing.
 */
const searchProjects = async <Issue>(
  { problems }: PollContext,
  projects: readonly string[],
  search: (projects: readonly string[]) => Promise<Issue[]>,
): Promise<{ issues: Issue[]; searched: string[] }> => {
  const doing = (project: string) => `searching the project ${project} in Jira`
  const isRefused = (error: unknown) => refusalOf(error) === 400
  try {
    const issues = await search(projects)
    for (const project of projects) problems.clear(doing(project))
    return { issues, searched: [...projects] }
  } catch (error) {
    if (!isRefused(error)) throw error
  }
  const issues: Issue[] = []
  const searched: string[] = []
  for (const project of projects) {
    try {
      issues.push(...(await search([project])))
      searched.push(project)
      problems.clear(doing(project))
    } catch (error) {
      if (!isRefused(error)) throw error
      problems.report(doing(project), {
        message: `${doing(project)}: Jira refused the search`,
        remedy: 'Check JIRA_PROJECTS, and that the project exists and this account may see it.',
      })
    }
  }
  return { issues, searched }
}

/** The first ten, and how many more. */
const listed = (tickets: readonly string[]): string =>
  `${tickets.slice(0, 10).join(', ')}${tickets.length > 10 ? ` and ${tickets.length - 10} more` : ''}`

/** Begins to watch projects: what is in progress there is shown in the inbox, and left as it is. `now`: of Jira's clock. */
const beginProjects = async (context: PollContext, projects: readonly string[], now: number): Promise<string[]> => {
  const { jira, store, assignees, accept, log } = context
  const { issues, searched } = await searchProjects(context, projects, some =>
    jira.issuesFound(inProgress(some, assignees)),
  )
  if (searched.length === 0) return searched
  const withoutMachine: IssueWithChanges[] = []
  for (const issue of issues) {
    if ((await store.tickets.get(issue.ticket)).decided !== null) continue
    if ((await presentEnvironment(store, issue.ticket)) === null) withoutMachine.push(issue)
  }
  await accept(withoutMachine.map(issue => firstLookDelivery(issue, now)))
  const tickets = withoutMachine.map(({ ticket }) => ticket)
  const what = `watching ${searched.join(', ')} in Jira`
  log.info(
    { projects: searched, tickets, happened: 'watching' },
    tickets.length === 0
      ? `${what}; every ticket in progress has a machine`
      : `${what}. In progress without a machine: ${listed(tickets)}. What was so before gets none by itself; agent-swarm bot inbox jira shows which would. To make one: move the ticket again, agent-swarm bot replay first:<TICKET>, or agent-swarm create <TICKET>`,
  )
  return searched
}

const checkClock = ({ problems, clock }: PollContext, jiraNow: number): void => {
  const difference = Math.round((clock() - jiraNow) / 1000)
  const doing = 'the clock of this host'
  if (Math.abs(difference) <= MAX_CLOCK_DIFFERENCE_S) problems.clear(doing)
  else
    problems.report(doing, {
      message: `${doing} is ${Math.abs(difference)} s ${difference > 0 ? 'ahead of' : 'behind'} Jira's: the order of a move there and a command here may be judged wrong`,
      remedy: 'Synchronize it over the network (NTP).',
    })
}

const poll = async (context: PollContext): Promise<void> => {
  const { jira, store, projects, accept } = context
  const now = await jira.now()
  checkClock(context, now)
  const cursor = await store.cursors.get<Cursor>('jira')
  const known = projects.filter(project => cursor?.began[project] !== undefined)
  const fresh = projects.filter(project => !known.includes(project))
  if (cursor !== null && known.length > 0) {
    const from = cursor.at - OVERLAP_MS
    const minutes = Math.max(1, Math.ceil((now - from) / MINUTE_MS))
    const { issues, searched } = await searchProjects(context, known, some =>
      jira.search(`${inProjects(some)} AND updated >= -${minutes}m ORDER BY updated ASC`, from),
    )
    // Then the search is at fault, and not the projects.
    if (searched.length === 0) throw fail('refused', 'polling Jira: Jira refused the search of every project')
    const late = context.hasWebhook || now - cursor.at > Math.max(LATE_MS, 3 * context.everyMs)
    const deliveries: PolledDelivery[] = []
    for (const issue of issues) {
      const since = Math.max(from, cursor.began[projectOf(issue.ticket)] ?? now)
      deliveries.push(...(await newDeliveries(context, issue, since, late)))
    }
    await accept(deliveries)
  }
  const begun = fresh.length === 0 ? [] : await beginProjects(context, fresh, now)
  const began = Object.fromEntries([...known, ...begun].map(project => [project, cursor?.began[project] ?? now]))
  await store.cursors.set('jira', { at: now, began } satisfies Cursor)
}

/** The change that made the issue what it is now, when the last decided event found it otherwise. */
const missedChanges = async (
  context: PollContext,
  issue: IssueWithChanges,
  began: number,
): Promise<PolledDelivery[]> => {
  const { decided } = await context.store.tickets.get(issue.ticket)
  const isMoved = decided?.category !== issue.category
  const isReassigned = issue.category === 'indeterminate' && decided?.assignee !== issue.assignee
  if (!isMoved && !isReassigned) return []
  const since = issue.changes.filter(({ at }) => at >= began)
  const lastMove = isMoved ? since.findLast(({ fields }) => fields.includes('status')) : undefined
  const change = lastMove ?? since.at(-1)
  return newDeliveries(context, { ...issue, changes: change === undefined ? [] : [change], comments: [] }, began)
}

/** The change of an issue that has another key than the one it was requested by. */
const missedMove = async (
  context: PollContext,
  issue: IssueWithChanges,
  requested: ReadonlySet<string>,
): Promise<PolledDelivery[]> => {
  const move = issue.changes.findLast(({ from }) => from !== null && requested.has(from))
  return move === undefined ? [] : newDeliveries(context, { ...issue, changes: [move], comments: [] }, move.at)
}

/** Reads the tickets in progress, by a search, and those with a machine, by their keys: one request per hundred. */
const compare = async (context: PollContext): Promise<void> => {
  const { jira, store, projects, assignees, accept } = context
  const cursor = await store.cursors.get<Cursor>('jira')
  const known = projects.filter(project => cursor?.began[project] !== undefined)
  if (cursor === null || known.length === 0) return
  const { issues } = await searchProjects(context, known, some => jira.issuesFound(inProgress(some, assignees)))
  const inProgressNow = new Set(issues.map(({ ticket }) => ticket))
  const withMachine = (await store.runners.withMachine()).map(ticketOf)
  const others = new Set(withMachine.filter(ticket => known.includes(projectOf(ticket)) && !inProgressNow.has(ticket)))
  issues.push(...(await jira.issuesOf([...others])))
  const deliveries: PolledDelivery[] = []
  for (const issue of issues) {
    const began = cursor.began[projectOf(issue.ticket)]
    const moved =
      inProgressNow.has(issue.ticket) || others.has(issue.ticket) ? [] : await missedMove(context, issue, others)
    if (moved.length > 0) deliveries.push(...moved)
    else if (began !== undefined) deliveries.push(...(await missedChanges(context, issue, began)))
  }
  await accept(deliveries)
}

/**
 * The changes of one issue in the day before `at` (epoch ms) that were not reported yet: something told that there may be some.
 * `movedAt`: when its status last changed. Null when Jira does not show the issue.
 */
export const readChanges = async (
  { jira, store }: Pick<PollContext, 'jira' | 'store'>,
  ticket: Ticket,
  at: number,
): Promise<{ found: PolledDelivery[]; movedAt: number | null } | null> => {
  const [issue] = await jira.issuesOf([ticket])
  if (issue === undefined) return null
  const began = (await store.cursors.get<Cursor>('jira'))?.began[projectOf(ticket)] ?? at - OVERLAP_MS
  const since = Math.max(began, at - DAY_MS)
  return {
    found: await newDeliveries({ jira, store }, { ...issue, comments: [] }, since, false),
    movedAt: issue.changes.findLast(({ fields }) => fields.includes('status'))?.at ?? null,
  }
}

export const openJiraPoll = (tools: Omit<PollContext, 'problems'>) => {
  const context: PollContext = { ...tools, problems: openProblemLog(tools.log) }
  const { everyMs } = tools
  const attempt = async (doing: string, work: (context: PollContext) => Promise<void>): Promise<number> => {
    try {
      await work(context)
      context.problems.clear(doing)
      return everyMs
    } catch (error) {
      context.problems.report(doing, failureOf(error, doing))
      return Math.max(everyMs, isJiraFailure(error) ? (error.in ?? 0) : 0)
    }
  }
  return {
    /** Polls once. Returns the milliseconds until the next round. */
    round: (): Promise<number> => attempt('polling Jira', poll),
    /** Reports what the polls missed of tickets that are in progress or have a machine. */
    compare: async (): Promise<void> => void (await attempt('comparing with Jira', compare)),
  }
}
