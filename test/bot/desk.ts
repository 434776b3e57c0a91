/** The inbox of a bot between the stand-ins, without HTTP, runner and publisher. What arrives is decided when the test says so. */
import { acceptPolled, catchUp } from '../../src/bot/catch-up.ts'
import { githubLane } from '../../src/bot/github/events.ts'
import { openGitHub } from '../../src/bot/github/open.ts'
import { openGitHubPoll } from '../../src/bot/github/poll.ts'
import { openRedeliver } from '../../src/bot/github/redeliver.ts'
import { decide } from '../../src/bot/inbox/decide.ts'
import { openJira } from '../../src/bot/jira/client.ts'
import { jiraLane } from '../../src/bot/jira/events.ts'
import { openJiraPoll } from '../../src/bot/jira/poll.ts'
import { standardRules } from '../../src/bot/rules/repository-file.ts'
import { openRepositoryRules } from '../../src/bot/rules/repository-rules.ts'
import { projectKeys, readServing } from '../../src/config/serving.ts'
import { openLog } from '../../src/log.ts'
import type { Environment } from '../../src/schema/environment.ts'
import type { ManualOperation } from '../../src/schema/runner-protocol.ts'
import type { OperatorAgent, Transitions } from '../../src/schema/workspace.ts'
import { statusMessage } from '../../src/store/messages.ts'
import type { Delivery } from '../../src/store/port.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { environmentOf, heartbeatOf } from '../store/fixtures.ts'
import { type GitHubStandIn, type Permission, startGitHub, WEBHOOK_SECRET } from '../support/github.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'

export type Desk = Awaited<ReturnType<typeof openDesk>>

/** Tickets DROP-1 to DROP-<count>, assigned to the account of the bot's token. */
export const tickets = (count: number, project = 'DROP'): Record<string, string> =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [`${project}-${n + 1}`, 'a ticket']))

export const openDesk = async ({
  people = { dev: 'push' } as Record<string, Permission | null>,
  issues = tickets(1),
  /** As in JIRA_PROJECTS. */
  projects: entries = ['DROP'],
  /** The name of GitHub's repository under acme. */
  repo = 'shop',
  /** As in GITHUB_REPOSITORIES. */
  repositories = ['acme/shop'],
  /** Repositories of GitHub besides that one. */
  more = [] as string[],
  jiraCommanders = [] as string[],
  /** As in config.yaml. */
  agent = null as OperatorAgent | null,
  transitions = null as Transitions | null,
  clock = Date.now as () => number,
  before = async (_github: GitHubStandIn, _jira: JiraStandIn): Promise<void> => {},
} = {}) => {
  const github = await startGitHub({ people, repo, more })
  const jira = await startJira({ issues })
  await before(github, jira)
  const log = openLog('silent')
  const projects = projectKeys(entries)
  const store = openStore(':memory:', clock)
  const { id: appId, privateKey } = github.app
  const githubClient = await openGitHub(
    { via: 'app', appId, privateKey, webhookSecret: WEBHOOK_SECRET, repositories, apiUrl: github.url },
    {
      ...{ log, paced: false },
      repositories: store.repositories,
    },
  )
  const jiraClient = openJira({
    ...{
      url: jira.url,
      email: jira.me.emailAddress,
      apiToken: jira.token,
      webhookSecret: null,
      automationSecret: null,
    },
  })
  const octokitFor = githubClient.clientFor
  const rules = openRepositoryRules({
    ...{ store, clock, log, clientFor: octokitFor },
    onProblems: async repo => store.outbox.put((await store.pullRequests.ticketsIn(repo)).map(statusMessage)),
    standard: standardRules({ projects, assignees: 'me', jiraCommanders, agent, transitions }),
    serving: readServing(repositories, entries),
  })
  const context = {
    ...{ store, jira: jiraClient, github: githubClient, hasGitHub: true, octokitFor, ...rules, explain: true, clock },
  }
  const receive = async (delivery: Omit<Delivery, 'receivedAt'>) => {
    await store.inbox.accept([{ ...delivery, receivedAt: clock() }])
    return 202
  }
  github.sendTo((event, payload, id) =>
    receive({ source: 'github', id, event, lane: githubLane(event, payload), body: JSON.stringify(payload) }),
  )
  jira.sendTo((payload, id) => {
    const { webhookEvent: event = '' } = payload as { webhookEvent?: string }
    return receive({ source: 'jira', id, event, lane: jiraLane(payload), body: JSON.stringify(payload) })
  })

  const found = { accept: acceptPolled(store, clock, () => {}), everyMs: 60_000, clock, log, store }
  const githubPoll = openGitHubPoll({ ...found, github: githubClient, ...rules, parts: ['pulls'] })
  const jiraPoll = openJiraPoll({ ...found, jira: jiraClient, projects, assignees: 'me', hasWebhook: true })
  const round = catchUp([
    openRedeliver({ github: githubClient, store, clock, log }),
    ...[githubPoll.round, githubPoll.compare, jiraPoll.round, jiraPoll.compare],
  ])

  /** Decides everything that is due. Returns why deliveries could not be decided; they are due again afterwards. */
  const decided = async (): Promise<string[]> => {
    const failed: { seq: number; message: string }[] = []
    for (let due = await store.inbox.due(50); due.length > 0; due = await store.inbox.due(50))
      for (const delivery of due) {
        try {
          await store.inbox.settle([{ seq: delivery.seq, ...(await decide(context, delivery)) }])
        } catch (error) {
          failed.push({ seq: delivery.seq, message: (error as Error).message })
        }
      }
    for (const { seq, message } of failed) await store.inbox.postpone(seq, clock(), message)
    return failed.map(({ message }) => message)
  }
  const known = new Map<string, Environment>()
  const heartbeat = (manualOperations: ManualOperation[] = []) =>
    store.runners.heartbeat(heartbeatOf([...known.values()], { manualOperations }))

  return {
    github,
    jira,
    store,
    context,
    decided,
    heartbeat,
    /** The runner has a machine for the ticket, besides those that it has already. */
    machine: async (ticket: string, more: Partial<Environment> = {}) => {
      known.set(ticket, environmentOf(ticket, more))
      await heartbeat()
    },
    /** Somebody deleted the ticket's machine by hand: two heartbeats come without it. */
    gone: async (ticket: string) => {
      known.delete(ticket)
      await heartbeat()
      await heartbeat()
    },
    /** Polls for what was missed, once, and decides it. */
    caughtUp: async () => {
      await round(new AbortController().signal)
      // GitHub redelivers after it has answered.
      await new Promise(resolve => setImmediate(resolve))
      await decided()
    },
    /** The keys of what waits to be published. */
    messages: async () => (await store.outbox.due(1_000)).map(({ key }) => key),
    actionsOf: async (ticket: string) => (await store.queue.list({ ticket })).map(({ action }) => action),
    /** `create pending`, `delete cancelled`, … in their order. */
    states: async (ticket: string): Promise<string[]> =>
      (await store.queue.list({ ticket })).map(({ action, state }) => `${action.kind} ${state}`),
    verdict: async (id: string) => {
      const [row] = await store.inbox.list([{ word: id, lanes: [] }], 1)
      return row === undefined ? null : { verdict: row.verdict, reason: row.reason }
    },
    close: async () => {
      await store.close()
      await Promise.all([github.stop(), jira.stop()])
    },
  }
}
