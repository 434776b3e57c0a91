/** What the bot does by the clock. */
import type { Rules } from '../../handlers/handler.ts'
import { MAX_WAIT_MS } from '../backoff.ts'
import { type Clock, DAY_MS } from '../clock.ts'
import type { Config } from '../config/config.ts'
import type { Log } from '../log.ts'
import type { Store } from '../store/port.ts'
import { acceptPolled, catchUp } from './catch-up.ts'
import type { GitHub } from './github/client.ts'
import { openGitHubPoll } from './github/poll.ts'
import { openRedeliver } from './github/redeliver.ts'
import type { Jira } from './jira/client.ts'
import { openJiraPoll } from './jira/poll.ts'
import { LOOK_MS } from './runners/api.ts'
import type { ScheduleRow } from './schedule.ts'

/** GitHub delivers again for at most three days. */
const QUEUE_MS = 14 * DAY_MS
const KNOWLEDGE_MS = 90 * DAY_MS
/** Payloads of deliveries without an effect are kept for a replay, up to this many bytes. */
export const KEPT_PAYLOADS = 64 * 1024 * 1024
const SCHEDULED_EVERY_MS = 5_000
const LINKS_EVERY_MS = 60_000
/** The names of rows that others ask for. */
export const CATCHING_UP = 'catching up'
export const LOOKING_AFTER_RUNNERS = 'looking after runners'
export const ACCEPTING_SCHEDULED = 'accepting scheduled deliveries'

type Context = {
  config: Config
  store: Store
  github: GitHub | null
  jira: Jira | null
  rulesOf: (repo: string) => Promise<Rules>
  rulesChanged: (repo: string) => Promise<void>
  /** Returns the wait until its next run, in milliseconds. */
  lookAfterRunners: () => Promise<number>
  /** Drops links between pull requests and tickets that the rules do not allow; does nothing after that. */
  checkLinks: (signal: AbortSignal) => Promise<number | undefined>
  /** There is something in the inbox. */
  nudgeInbox: () => void
  clock: Clock
  log: Log
}
type Poll = { round(): Promise<number>; compare(): Promise<void> }

/** Polled when nothing is delivered; otherwise a step of catching up. */
const polls = (context: Context): { name: string; poll: Poll; isPolled: boolean }[] => {
  const { config, store, github, jira, rulesOf, rulesChanged, nudgeInbox, clock, log } = context
  const everyMs = config.pollSeconds * 1000
  const common = { store, accept: acceptPolled(store, clock, nudgeInbox), everyMs, clock, log }
  const hasToken = config.github?.via === 'token'
  const parts = hasToken ? (['pushes', 'comments', 'pulls', 'agents'] as const) : (['pulls'] as const)
  const { projects, assignees } = config
  // Automation alone reports no comments and no moves to the backlog.
  const hasWebhook = config.jira !== null && config.jira.webhookSecret !== null
  return [
    ...(github === null
      ? []
      : [
          {
            name: 'polling GitHub',
            poll: openGitHubPoll({ ...common, github, rulesOf, rulesChanged, parts }),
            isPolled: hasToken,
          },
        ]),
    ...(jira === null
      ? []
      : [
          {
            name: 'polling Jira',
            poll: openJiraPoll({ ...common, jira, projects, assignees, hasWebhook }),
            isPolled: !hasWebhook,
          },
        ]),
  ]
}

export const scheduleRows = (context: Context): ScheduleRow[] => {
  const { config, store, github, lookAfterRunners, checkLinks, nudgeInbox, clock, log } = context
  const all = polls(context)
  const redeliver = github === null ? [] : [openRedeliver({ github, store, clock, log })]
  const steps = [
    ...redeliver,
    ...all.flatMap(({ poll, isPolled }) => (isPolled ? [poll.compare] : [poll.round, poll.compare])),
  ]
  return [
    { name: LOOKING_AFTER_RUNNERS, every: LOOK_MS, run: lookAfterRunners },
    ...(github === null ? [] : [{ name: 'checking links', every: LINKS_EVERY_MS, run: checkLinks, atStart: true }]),
    {
      name: ACCEPTING_SCHEDULED,
      every: SCHEDULED_EVERY_MS,
      run: async () => {
        if ((await store.inbox.acceptScheduled(clock())) > 0) nudgeInbox()
        const next = await store.inbox.nextScheduledAt()
        return next === null ? MAX_WAIT_MS : Math.max(SCHEDULED_EVERY_MS, next - clock())
      },
    },
    {
      name: 'purging the store',
      every: '17 * * * *',
      run: signal =>
        store.purge(
          {
            queueBefore: clock() - QUEUE_MS,
            knowledgeBefore: clock() - KNOWLEDGE_MS,
            payloadBytes: KEPT_PAYLOADS,
          },
          () => signal.aborted,
        ),
    },
    { name: CATCHING_UP, every: '7,22,37,52 * * * *', run: catchUp(steps), atStart: true, afterJump: true },
    ...all
      .filter(({ isPolled }) => isPolled)
      .map(({ name, poll }) => ({ name, every: config.pollSeconds * 1000, run: poll.round, atStart: true })),
  ]
}
