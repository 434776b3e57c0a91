/** The checks of the bot: its settings, the accounts on GitHub and Jira, whether deliveries arrive, and what waits. */

import { existsSync } from 'node:fs'
import { checkApp, checkAppRepositories, checkToken, checkTokenRepositories } from '../bot/github/check.ts'
import { checkAppDeliveries } from '../bot/github/deliveries-check.ts'
import { findBot } from '../bot/http/operator.ts'
import { checkJiraAccount, checkJiraProjects } from '../bot/jira/check.ts'
import { type Finding, hasError, ok, problem, warning } from '../check.ts'
import { DAY_MS } from '../clock.ts'
import type { Config } from '../config/config.ts'
import { storeFile } from '../config/home.ts'
import { servingWarnings } from '../config/serving.ts'
import { isConnected } from '../store/port.ts'
import { lookAtStore, type StoreLook } from '../store/sqlite/look.ts'
import { ago, counted } from '../words.ts'
import type { Row } from './rows.ts'

/** GitHub and Jira are asked one thing after the other, once for each repository and project. */
const REMOTE_DEADLINE_MS = 60_000
/** Whatever waits longer than this is reported. Milliseconds. */
const LONG_MS = 10 * 60_000
const RECENT_MS = 7 * DAY_MS

/** A bot was begun to be set up here, or has run here. */
const isBotHere = (config: Config): boolean =>
  config.github !== null ||
  config.jira !== null ||
  config.botProblems.some(text => /^(GitHub|Jira): /.test(text)) ||
  existsSync(storeFile(config.home))

const checkSettings = (config: Config): Finding[] => [
  ...config.botProblems.map(text => problem(text.replace(/\.$/, ''), 'agent-swarm init')),
  ...servingWarnings(config.serving).map(text => warning(text)),
  ...(config.botProblems.length === 0 ? [ok('the settings of the bot are complete')] : []),
]

/** The second check needs what the first one finds. */
const inTurn = async (checks: readonly (() => Promise<Finding[]>)[]): Promise<Finding[]> => {
  const findings: Finding[] = []
  for (const check of checks) {
    findings.push(...(await check()))
    if (hasError(findings)) break
  }
  return findings
}

const checkGitHub = (config: Config): Promise<Finding[]> =>
  config.github?.via === 'app'
    ? inTurn([() => checkApp(config), () => checkAppRepositories(config)])
    : inTurn([() => checkToken(config), () => checkTokenRepositories(config)])
const checkJira = (config: Config): Promise<Finding[]> =>
  inTurn([() => checkJiraAccount(config), () => checkJiraProjects(config)])

// ── The process ──

const START = 'Start it: agent-swarm up (or bot). As a service: agent-swarm service install'

const checkProcess = async ({ home, host, port }: Config, signal: AbortSignal): Promise<Finding> => {
  if ((await findBot(home)) === null) return warning('no bot runs with this home', START)
  if (port === 0) return ok('the bot runs')
  const name = host === '0.0.0.0' ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host
  const url = `http://${name}:${port}/readyz`
  const response = await fetch(url, { signal, redirect: 'error' }).catch(() => null)
  if (response === null) return warning(`the bot runs, but does not answer at ${url}`, `curl ${url}`)
  await response.body?.cancel()
  return response.ok
    ? ok(`the bot runs, and is ready at ${url}`)
    : problem(`the bot runs, and is not ready: HTTP ${response.status}`, `See its log, and: curl ${url}`)
}

// ── Webhooks ──

const pathsOf = ({ github, jira }: Config): string[] => [
  ...(github?.via === 'app' ? ['/api/github/webhooks'] : []),
  ...(typeof jira?.webhookSecret === 'string' ? ['/jira/webhook'] : []),
  ...(typeof jira?.automationSecret === 'string' ? ['/jira/automation'] : []),
]

/** A bot refuses a delivery without a signature in JSON: so a request shows whether the address leads to it. */
const checkPublicPath = async (url: string, signal: AbortSignal): Promise<Finding> => {
  const remedy = `Compare the reverse proxy (docs/run-as-a-service.md), then: curl -i -X POST ${url}`
  let response: Response
  try {
    const headers = { 'content-type': 'application/json' }
    response = await fetch(url, { method: 'POST', body: '{}', headers, redirect: 'manual', signal })
  } catch {
    return warning(
      `${url} cannot be reached from this host`,
      `It may be reachable from outside all the same. Try it there: curl -i -X POST ${url}`,
    )
  }
  const isJson = response.headers.get('content-type')?.startsWith('application/json') === true
  await response.body?.cancel()
  return response.status === 401 && isJson
    ? ok(`${url} leads to the bot`)
    : problem(`${url} does not lead to the bot: it answers HTTP ${response.status}`, remedy)
}

const checkPublic = async (config: Config, signal: AbortSignal): Promise<Finding[]> => {
  const { publicUrl } = config
  const paths = pathsOf(config)
  if (paths.length === 0) return []
  if (publicUrl === null)
    return [
      warning(
        'the public address of the bot is not known here, so it was not tried',
        'Set it: AGENT_SWARM_PUBLIC_URL=https://swarm.example.org',
      ),
    ]
  return Promise.all(paths.map(path => checkPublicPath(new URL(path, publicUrl).href, signal)))
}

// ── What waits ──

const arrivals = ({ github, jira, pollSeconds }: Config, { newest }: StoreLook, now: number): Finding[] => {
  const of = (source: string, name: string, isPolled: boolean): Finding => {
    const at = newest[source]
    if (at !== undefined) return ok(`the newest delivery of ${name} came ${ago(at, now)}`)
    return isPolled
      ? ok(`nothing of ${name} was found yet; it is polled every ${pollSeconds} s`)
      : warning(
          `no delivery of ${name} ever arrived`,
          'See docs/troubleshooting.md, Nothing arrives. In Jira, an administrator sees the webhook; on GitHub, the page Advanced of the App has the deliveries.',
        )
  }
  return [
    ...(github === null ? [] : [of('github', 'GitHub', github.via === 'token')]),
    ...(jira === null ? [] : [of('jira', 'Jira', jira.webhookSecret === null)]),
  ]
}

const queue = ({ actions, pendingActions, activeActions, runners }: StoreLook, now: number): Finding[] => {
  const connected = runners.filter(({ seenAt }) => isConnected(Number(seenAt), now))
  const hosts = connected.map(({ host }) => host).join(', ')
  const oldest = actions.find(({ state }) => state === 'pending')
  const runnerRow =
    connected.length > 0
      ? ok(`${counted(connected.length, 'runner')} connected: ${hosts}`)
      : warning(
          'no runner is connected',
          'agent-swarm bot runner list; on its host: agent-swarm runner, or agent-swarm up',
        )
  if (oldest === undefined) return [runnerRow, ok(`no action waits, and ${activeActions} are in progress`)]
  const text = `${counted(pendingActions, 'action')} waiting; the oldest is ${oldest.kind} ${oldest.ticket}, since ${ago(Number(oldest.createdAt), now)}`
  const isLong = now - Number(oldest.createdAt) > LONG_MS
  const remedy = `agent-swarm status ${oldest.ticket}`
  return [
    runnerRow,
    isLong ? (connected.length === 0 ? problem(text, 'agent-swarm up') : warning(text, remedy)) : ok(text),
  ]
}

const inbox = ({ stuckDeliveries: stuck, waitingDeliveries, failedDeliveries }: StoreLook, now: number): Finding[] => {
  const { count, newestAt } = failedDeliveries
  return [
    stuck.count === 0
      ? ok(`${counted(waitingDeliveries, 'delivery', 'deliveries')} waiting to be decided`)
      : warning(
          `${counted(stuck.count, 'delivery', 'deliveries')} could not be decided yet: ${stuck.reason ?? ''}`,
          'agent-swarm bot inbox waiting',
        ),
    ...(newestAt !== null && now - newestAt < RECENT_MS
      ? [
          warning(
            `${counted(count, 'delivery', 'deliveries')} failed for good, the newest ${ago(newestAt, now)}`,
            'agent-swarm bot inbox failed; decide one again: agent-swarm bot replay ID',
          ),
        ]
      : []),
  ]
}

const outbox = ({ messages, waitingMessages, held }: StoreLook, now: number): Finding[] => {
  const late = messages.find(({ createdAt }) => now - Number(createdAt) > LONG_MS)
  return [
    late === undefined
      ? ok(`${counted(waitingMessages, 'comment')} waiting to be published`)
      : warning(
          `${counted(waitingMessages, 'comment')} waiting to be published, the oldest since ${ago(Number(late.createdAt), now)}: ${late.reason ?? 'no reason is known'}`,
          'Check the permissions: agent-swarm init --dry-run',
        ),
    ...(held === 0
      ? []
      : [
          warning(
            `${counted(held, 'action or comment', 'actions and comments')} of a restored backup held back`,
            'agent-swarm bot held; carry one out: agent-swarm bot replay ID',
          ),
        ]),
  ]
}

const checkStore = (config: Config, now: number): Finding[] => {
  const path = storeFile(config.home)
  if (!existsSync(path)) return []
  const look = lookAtStore(path)
  if (look === null)
    return [warning(`${path} was written by another version, and the next start migrates it`, 'agent-swarm up')]
  return [...arrivals(config, look, now), ...queue(look, now), ...inbox(look, now), ...outbox(look, now)]
}

export const botRows = (config: Config): Row[] => {
  if (!isBotHere(config)) return []
  const remote = { deadlineMs: REMOTE_DEADLINE_MS }
  return [
    { subject: 'Bot', doing: 'reading the settings of the bot', run: () => checkSettings(config) },
    { subject: 'Bot', doing: 'looking for the bot', run: signal => checkProcess(config, signal) },
    ...(config.github === null
      ? []
      : [{ subject: 'GitHub', doing: 'checking GitHub', run: () => checkGitHub(config), ...remote }]),
    ...(config.github?.via === 'app'
      ? [{ subject: 'GitHub', doing: 'reading deliveries', run: () => checkAppDeliveries(config), ...remote }]
      : []),
    ...(config.jira === null
      ? []
      : [{ subject: 'Jira', doing: 'checking Jira', run: () => checkJira(config), ...remote }]),
    { subject: 'Webhooks', doing: 'trying the public address', run: signal => checkPublic(config, signal) },
    { subject: 'Queue', doing: `reading ${storeFile(config.home)}`, run: () => checkStore(config, Date.now()) },
  ]
}
