/**
 * Looks through Jira by JQL for what changed since the last look, and makes deliveries of it in the shape of webhooks. Where no
 * webhook is set up this is how changes come; where one is, it finds what the webhook missed. The time is asked for in minutes
 * that have passed, so that no time zone plays a part; the search lags behind what was stored, so looks overlap. A deleted
 * issue is found by no search, and that something is not found is no evidence.
 */
import type { StatusCategory } from '../../../handlers/handler.ts'
import { jiraCommandLines } from '../../../handlers/jira-lines.ts'
import type { Config } from '../../config/config.ts'
import { projectOf, type Ticket } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import type { Delivery } from '../../store/port.ts'
import type { Memory } from '../../store/sqlite/memory.ts'
import { FIRST_LOOK } from '../inbox/decide.ts'
import { openProblemLog } from '../poll-loop.ts'
import type { Change, JiraComment, Standing } from './answers.ts'
import type { Found, Jira } from './client.ts'
import { jiraChange, jiraLane } from './events.ts'
import { isJiraFailure } from './request.ts'

/** What a search shows may be so much older than what is stored. */
const OVERLAP_MS = 5 * 60_000
const MINUTE_MS = 60_000
/** An answer takes its time as well. */
const MOST_OFF_S = 30

/** Epoch ms of Jira's clock. `began`: by project; what happened before is not acted on. */
type Place = { at: number; began: Record<string, number> }

const quoted = (names: readonly string[]) => names.map(name => `"${name.replaceAll(/[\\"]/g, '\\$&')}"`).join(', ')
const ofThese = (projects: readonly string[]) => `project in (${quoted(projects)})`

/** The tickets in progress that may be ours. Categories by id: names are renamed and translated. */
const inProgress = (projects: readonly string[], assignees: Config['assignees']): string => {
  const whose =
    assignees === 'any'
      ? ''
      : assignees === 'me'
        ? ' AND assignee = currentUser()'
        : ` AND assignee in (${quoted(assignees)})`
  return `${ofThese(projects)} AND statusCategory = 4${whose}`
}

export const openJiraPoll = ({
  jira,
  projects,
  assignees,
  memory,
  everyMs,
  clock,
  log,
  accept,
}: {
  jira: Jira
  projects: readonly string[]
  assignees: Config['assignees']
  memory: Memory
  everyMs: number
  clock: () => number
  log: Log
  /** Puts deliveries on disk. */
  accept: (deliveries: readonly Delivery[]) => void
}) => {
  const told = openProblemLog(log)

  const inShape = (id: string, body: { webhookEvent: string; [more: string]: unknown }): Delivery => ({
    source: 'jira',
    id,
    event: body.webhookEvent,
    lane: jiraLane(body),
    body: JSON.stringify(body),
    receivedAt: clock(),
  })
  const delivery = (
    { ticket, assignee, labels }: Standing,
    event: 'jira:issue_updated' | 'jira:issue_created',
    { id, at, by, fields }: Pick<Change, 'at' | 'by' | 'fields'> & { id: string | null },
    category: StatusCategory,
  ): Delivery => {
    return inShape(`poll:${ticket}:${id}`, {
      webhookEvent: event,
      timestamp: at,
      user: { accountId: by },
      issue: {
        key: ticket,
        fields: { status: { statusCategory: { key: category } }, assignee: { accountId: assignee }, labels },
      },
      changelog:
        event === 'jira:issue_created'
          ? null
          : { ...(id === null ? {} : { id }), items: fields.map(field => ({ field })) },
    })
  }
  const commentDelivery = (ticket: Ticket, { id, at, body }: JiraComment): Delivery =>
    inShape(`poll:${ticket}:comment:${id}`, {
      webhookEvent: 'comment_created',
      issue: { key: ticket },
      comment: { id, body, created: new Date(at).toISOString() },
    })

  const deliveriesOf = async (found: Found, since: number): Promise<Delivery[]> => {
    const made: Delivery[] = []
    if (found.createdAt >= since) {
      const created = { id: 'created', at: found.createdAt, by: null, fields: [] }
      // In which status it was made does not show once it has moved; then the moves tell.
      if (found.changes.length === 0) made.push(delivery(found, 'jira:issue_created', created, found.category))
    }
    for (const change of found.changes) {
      if (change.at < since) continue
      const category = change.to === null ? found.category : await jira.categoryOf(change.to)
      made.push(delivery(found, 'jira:issue_updated', change, category))
    }
    // Most comments are talk.
    for (const comment of found.comments)
      if (comment.at >= since && jiraCommandLines(comment.body).length > 0)
        made.push(commentDelivery(found.ticket, comment))
    // What was decided by another way, or in the look before, is not even put into the inbox.
    return made.filter(one => {
      const name = jiraChange(JSON.parse(one.body))
      return name === null || memory.toldBy(name) === null
    })
  }

  /**
   * What a search of projects finds, and the projects that it could look at. Jira refuses a search that names one which is
   * gone, or hidden from us: then each is searched by itself, and those that are there lose nothing.
   */
  const among = async <T>(
    names: readonly string[],
    search: (names: readonly string[]) => Promise<T[]>,
  ): Promise<{ found: T[]; there: string[] }> => {
    const doing = (name: string) => `searching the project ${name} in Jira`
    try {
      const found = await search(names)
      for (const name of names) told(doing(name), null)
      return { found, there: [...names] }
    } catch (error) {
      if (!isJiraFailure(error) || error.status !== 400) throw error
    }
    const found: T[] = []
    const there: string[] = []
    for (const name of names) {
      try {
        found.push(...(await search([name])))
        there.push(name)
        told(doing(name), null)
      } catch (error) {
        if (!isJiraFailure(error) || error.status !== 400) throw error
        const message = `${doing(name)}: Jira refuses it`
        told(doing(name), { message, remedy: 'Is it gone, renamed, or hidden from this account? Check JIRA_PROJECTS.' })
      }
    }
    return { found, there }
  }

  /** What is in progress when a project is looked at for the first time is told, in the inbox too, and left as it is. */
  const begin = async (names: readonly string[], now: number): Promise<string[]> => {
    const { found, there: fresh } = await among(names, some => jira.standing(inProgress(some, assignees)))
    if (fresh.length === 0) return fresh
    const unknown = found.filter(one => memory.ticket(one.ticket).settled === null)
    for (const one of unknown) memory.settleTicket(one.ticket, one)
    const without = unknown.filter(one => memory.environment(one.ticket) === null)
    accept(
      without.map(one => ({
        ...delivery(one, 'jira:issue_updated', { id: null, at: now, by: null, fields: ['status'] }, one.category),
        id: `first:${one.ticket}`,
        event: FIRST_LOOK,
      })),
    )
    log.info(
      { projects: fresh, tickets: without.map(one => one.ticket) },
      without.length === 0
        ? 'watching in Jira; nothing is in progress without a machine'
        : 'watching in Jira; these tickets are in progress and have no machine, and none is made. Which of them would get one: agent-swarm bot inbox jira. To have it: move the ticket again, agent-swarm bot replay first:<TICKET>, or agent-swarm create <TICKET>',
    )
    return fresh
  }

  /** How a ticket is now, as the change that made it so, where the last decided event found it otherwise. */
  const untold = async (found: Standing, began: number): Promise<Delivery[]> => {
    const { settled } = memory.ticket(found.ticket)
    const moved = settled?.category !== found.category
    const given = found.category === 'indeterminate' && settled?.assignee !== found.assignee
    if (!moved && !given) return []
    const since = found.changes.filter(one => one.at >= began)
    const last = moved ? since.findLast(one => one.fields.includes('status')) : undefined
    const change = last ?? since.at(-1)
    return deliveriesOf({ ...found, changes: change === undefined ? [] : [change], comments: [] }, began)
  }

  const compare = async (): Promise<void> => {
    const place = memory.place<Place>('jira')
    const known = projects.filter(project => place?.began[project] !== undefined)
    if (place === null || known.length === 0) return
    const { found } = await among(known, some => jira.standing(inProgress(some, assignees)))
    const seen = new Set(found.map(one => one.ticket))
    const others = memory.withMachine().filter(one => known.includes(projectOf(one)) && !seen.has(one))
    found.push(...(await jira.standingOf(others)))
    const made: Delivery[] = []
    for (const one of found) {
      const began = place.began[projectOf(one.ticket)]
      // One that was moved to a project that is not ours.
      if (began !== undefined) made.push(...(await untold(one, began)))
    }
    accept(made)
  }

  const look = async (): Promise<void> => {
    const now = await jira.now()
    const off = Math.round((clock() - now) / 1000)
    told(
      'the clock of this machine',
      Math.abs(off) <= MOST_OFF_S
        ? null
        : {
            message: `the clock of this machine is ${Math.abs(off)} s ${off > 0 ? 'ahead of' : 'behind'} that of Jira: what came first, a move there or a command here, may be judged wrong`,
            remedy: 'Have it set by the network (NTP).',
          },
    )
    const place = memory.place<Place>('jira')
    const known = projects.filter(project => place?.began[project] !== undefined)
    const fresh = projects.filter(project => !known.includes(project))
    if (place !== null && known.length > 0) {
      const from = place.at - OVERLAP_MS
      const minutes = Math.max(1, Math.ceil((now - from) / MINUTE_MS))
      const { found, there } = await among(known, some =>
        jira.search(`${ofThese(some)} AND updated >= -${minutes}m ORDER BY updated ASC`, from),
      )
      // It is the search then, and none of the projects.
      if (there.length === 0) throw fail('refused', 'polling Jira: it refuses the search of each project')
      const made: Delivery[] = []
      for (const one of found)
        made.push(...(await deliveriesOf(one, Math.max(from, place.began[projectOf(one.ticket)] ?? now))))
      accept(made)
    }
    const begun = fresh.length === 0 ? [] : await begin(fresh, now)
    const began = Object.fromEntries([...known, ...begun].map(project => [project, place?.began[project] ?? now]))
    memory.setPlace('jira', { at: now, began } satisfies Place)
  }

  const trying = async (doing: string, work: () => Promise<void>): Promise<number> => {
    try {
      await work()
      told(doing, null)
      return everyMs
    } catch (error) {
      told(doing, failureOf(error, doing))
      return Math.max(everyMs, isJiraFailure(error) ? (error.retryAfter ?? 0) : 0)
    }
  }

  return {
    /**
     * Reads how the tickets are that are in progress, by a search, and those that have a machine, by their keys, and tells
     * what was not told. A request for each hundred of them.
     */
    compare: () => trying('comparing with Jira', compare),
    /** Looks once. Returns after how many milliseconds the next look may be. */
    round: (): Promise<number> => trying('polling Jira', look),
  }
}
