/** Wires the bot: the server listens first, and whatever is slow to load or far away comes after. */

import type { Config } from '../config/config.ts'
import { storeFile } from '../config/home.ts'
import { isListed, servingWarnings } from '../config/serving.ts'
import { careFor, type DatabaseCare } from '../database-care.ts'
import { failureOf } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Failure } from '../schema/failure.ts'
import { statusMessage } from '../store/messages.ts'
import type { Store } from '../store/port.ts'
import { openStore } from '../store/sqlite/index.ts'
import { openDryStore, type Show } from './dry-run.ts'
import { needsMore } from './github/app-needs.ts'
import { type GitHub, githubFailure, webUrlOf } from './github/client.ts'
import { githubLane } from './github/events.ts'
import { checkFork } from './github/fork.ts'
import { openGitHub } from './github/open.ts'
import { exemptFrom } from './http/connections.ts'
import { openMetrics } from './http/metrics.ts'
import { openOperator } from './http/operator.ts'
import { openServer } from './http/server.ts'
import { decide } from './inbox/decide.ts'
import { openInbox } from './inbox/inbox.ts'
import { openLinkCheck } from './inbox/recheck-links.ts'
import { openJira } from './jira/client.ts'
import { jiraLane } from './jira/events.ts'
import { isGateway } from './jira/gateway.ts'
import { requireConfigured, takeHome } from './preconditions.ts'
import { openPublisher, type Publisher } from './publish/publisher.ts'
import { standardRules } from './rules/repository-file.ts'
import { openRepositoryRules } from './rules/repository-rules.ts'
import { openRunnerApi } from './runners/api.ts'
import { openSchedule, type Schedule } from './schedule.ts'
import { ACCEPTING_SCHEDULED, CATCHING_UP, LOOKING_AFTER_RUNNERS, scheduleRows } from './schedule-rows.ts'

const CLOSE_MS = 2_500

export type Bot = {
  url: string
  port: number
  /** Looks for what was missed. Ends when that is in the inbox. */
  catchUp(): Promise<void>
  close(): Promise<void>
}
export type BotOptions = {
  /** Of the runner in this process, which no other process knows. */
  runnerToken?: string | null
  /** Set: a dry run, which shows here what it would do. */
  show?: Show | null
  clock?: () => number
  /** What else of this process is looked at before it is ready. */
  checked?: Promise<unknown>
}

/** `care` null: a dry run, which writes no backups. */
const openOwnStore = (
  { home, machinesPerPerson }: Config,
  { isDryRun, clock, log }: { isDryRun: boolean; clock: () => number; log: Log },
): { store: Store; care: DatabaseCare | null } => {
  const path = storeFile(home)
  if (isDryRun) return { store: openDryStore(path, clock), care: null }
  const care = careFor(path, { clock, log })
  return { store: openStore(path, clock, undefined, { machinesPerPerson }), care }
}

const openOwnGitHub = async (
  { github }: Config,
  { log, show, repositories }: { log: Log; show: Show | null; repositories: Store['repositories'] },
): Promise<GitHub | null> =>
  github === null ? null : openGitHub(github, { log, show, repositories, paced: show === null })

/** The secrets of the webhooks; null: there is no such route. */
const webhooksOf = ({ github, jira }: Config) => ({
  github: github?.via === 'app' ? { secret: github.webhookSecret } : null,
  jira: typeof jira?.webhookSecret === 'string' ? { secret: jira.webhookSecret } : null,
  automation: typeof jira?.automationSecret === 'string' ? { secret: jira.automationSecret } : null,
})

/** Opened after the server, which already needs them. */
type Late = {
  github: GitHub | null
  inbox: ReturnType<typeof openInbox> | null
  publisher: Publisher | null
  schedule: Schedule | null
}

/** What a runner may have access to: by a ticket's project, or to read since the operator keeps machines of it ready. */
const gitRules = (
  { pool }: Pick<Config, 'pool'>,
  { repositories }: Pick<Store, 'repositories'>,
  { projectsNow, isListed: isListedNow }: Pick<ReturnType<typeof openRepositoryRules>, 'projectsNow' | 'isListed'>,
) => ({
  projectsNow,
  isPooled: async (repo: string): Promise<boolean> => {
    const pooled = pool.flatMap(({ repository }) => repository ?? [])
    return (await isListedNow(repo)) && isListed(await repositories.namesOf(repo), pooled)
  },
})

/** Throws `not-configured` with everything that is missing, and `busy` when a bot runs there already. */
export const startBot = async (
  config: Config,
  log: Log,
  { runnerToken = null, show = null, clock = Date.now, checked }: BotOptions = {},
): Promise<Bot> => {
  const isDryRun = show !== null
  await requireConfigured(config, runnerToken)
  await takeHome(config.home, { isDryRun })
  const { store, care } = openOwnStore(config, { isDryRun, clock, log })
  const jira = config.jira === null ? null : openJira(config.jira, show)
  const late: Late = { github: null, inbox: null, publisher: null, schedule: null }
  const nudgeInbox = () => late.inbox?.nudge()
  const nudgePublisher = () => late.publisher?.nudge()
  const nudgeAll = () => {
    nudgeInbox()
    nudgePublisher()
    runnerApi.dispatch()
  }

  const octokitFor = async (repo: string) => (await late.github?.clientFor(repo)) ?? null
  const rules = openRepositoryRules({
    ...{ store, clock, log },
    standard: standardRules(config),
    serving: config.serving,
    clientFor: octokitFor,
    onProblems: async repo => {
      await store.outbox.put((await store.pullRequests.ticketsIn(repo)).map(statusMessage))
      nudgePublisher()
    },
  })
  const webUrl = webUrlOf(config.github?.apiUrl ?? null)
  const metrics = openMetrics({ store, rate: () => late.github?.rate() ?? null, clock })
  const runnerApi = openRunnerApi({
    ...{ store, metrics, clock, log },
    ...{ sharedToken: config.runnerToken, ownToken: runnerToken },
    toJira: jira !== null,
    secrets: [...config.secrets, ...(runnerToken === null ? [] : [runnerToken])],
    whyOutdated: action => checkFork({ store, octokitFor, ...rules, clock }, action),
    onMessages: () => {
      nudgePublisher()
      // What was ignored may be due again, because a machine is gone.
      nudgeInbox()
    },
    lookSoon: () => late.schedule?.soon(LOOKING_AFTER_RUNNERS),
    dryRun: isDryRun,
    git: { ...gitRules(config, store, rules), access: () => late.github?.gitAccess ?? null, webUrl },
  })
  const server = await openServer({
    ...{ store, metrics, clock, log, host: config.host, port: config.port },
    ...webhooksOf(config),
    lanes: { github: githubLane, jira: jiraLane },
    runnerRoutes: runnerApi.routes,
    isExempt: exemptFrom(config.proxies ?? []),
    onAccepted: nudgeInbox,
    checked: Promise.all([care?.checked, checked]),
  }).catch(async error => {
    care?.close()
    await store.close()
    throw error
  })

  const github = await openOwnGitHub(config, { log, show, repositories: store.repositories })
  late.github = github
  const jiraUrl = config.jira === null || isGateway(config.jira.url) ? null : config.jira.url
  const publisher = openPublisher({ store, github, jira, webUrl, jiraUrl, dryRun: isDryRun, clock, log })
  late.publisher = publisher
  const hasGitHub = config.github !== null
  const { explain } = config
  const decideContext = { store, jira, github, hasGitHub, octokitFor, ...rules, explain, clock }
  const inbox = openInbox({
    ...{ store, clock, log },
    decide: delivery => decide(decideContext, delivery),
    isBusy: server.isBusy,
    onSettled: ({ source, event, id }, { verdict, reason, actions }) => {
      show?.({ what: 'delivery', source, event, id, verdict, reason, actions: [...actions] })
      metrics.decided(source, event, verdict)
      runnerApi.dispatch()
      late.schedule?.soon(ACCEPTING_SCHEDULED)
      publisher.nudge()
    },
  })
  late.inbox = inbox
  const operator = await openOperator({
    home: config.home,
    store,
    onReplay: nudgeAll,
    onRevoke: runnerApi.revoke,
    onForget: nudgeAll,
    hereSince: runnerApi.hereSince,
    ...{ clock, log },
  })
  await reportAtStart(config, { store, github, jira }, clock, log)
  const schedule = openSchedule(
    scheduleRows({
      ...{ config, store, github, jira, ...rules, nudgeInbox, clock, log },
      lookAfterRunners: runnerApi.look,
      checkLinks: openLinkCheck({ ...decideContext, nudgePublisher, log }),
    }),
    { clock, log },
  )
  late.schedule = schedule
  log.info({ url: server.url, github: hasGitHub, jira: jira !== null }, 'the bot is up')
  return {
    url: server.url,
    port: server.port,
    catchUp: () => schedule.run(CATCHING_UP),
    close: async () => {
      care?.close()
      runnerApi.close()
      await Promise.all([
        schedule.close(CLOSE_MS),
        server.close(),
        operator.close(),
        inbox.close(CLOSE_MS),
        publisher.close(),
      ])
      await store.close()
    },
  }
}

const reportAtStart = async (
  config: Config,
  { store, github, jira }: { store: Store; github: GitHub | null; jira: ReturnType<typeof openJira> | null },
  clock: () => number,
  log: Log,
): Promise<void> => {
  await reportHeld(store, log)
  reportCredentials(github, jira, clock, log)
  reportMissing(config, clock, log)
  for (const warning of servingWarnings(config.serving)) log.warn(warning)
}

/** After a restore, the operator decides what of the former queue still matters. */
const reportHeld = async ({ held }: Store, log: Log): Promise<void> => {
  const restoredAt = await held.restoredAt()
  if (restoredAt === null || (await held.list(1)).length === 0) return
  log.warn(
    { restoredAt: new Date(restoredAt).toISOString() },
    'the store was restored from a backup. What was queued in it is not carried out: agent-swarm bot held lists it. What happened before the restore is only reported: agent-swarm bot inbox',
  )
}

/** Wrong credentials are reported at the start, not with the first event. A side that is only out of reach is asked again later. */
const reportCredentials = (
  github: GitHub | null,
  jira: ReturnType<typeof openJira> | null,
  clock: () => number,
  log: Log,
): void => {
  const warn = ({ message, remedy }: Failure) => log.warn({ remedy }, message)
  github?.login().catch(error => warn(githubFailure(error, 'reading our account on GitHub', clock()).failure))
  jira?.me().catch(error => warn(failureOf(error, 'reading our account in Jira')))
}

/** What an existing App lacks for what the operator turned on. Without such a feature, nothing is asked. */
const reportMissing = ({ github, agent, transitions, workspace }: Config, clock: () => number, log: Log): void => {
  const look = async () => {
    const { missingForFeatures } = await import('./github/check.ts')
    for (const { text, remedy } of await missingForFeatures({ github, agent, transitions, workspace }))
      log.warn({ remedy }, text)
  }
  if (!needsMore({ agent, transitions, workspace })) return
  look().catch(error => {
    const { message, remedy } = githubFailure(error, 'reading the permissions of the App', clock()).failure
    log.warn({ remedy }, message)
  })
}
