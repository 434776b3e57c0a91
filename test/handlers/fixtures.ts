/** Events and facts that the tests of the handlers start from, and a decision in one line. */
import type { Decision, EventKind, Facts, PullRequestNow, Rules, SwarmEvent } from '../../handlers/handler.ts'
import { standardRules } from '../../src/bot/rules/repository-file.ts'
import type { Environment, EnvironmentStatus } from '../../src/schema/environment.ts'

export const rules: Rules = standardRules({ projects: ['DROP', 'WEB'], assignees: 'me', jiraCommanders: [] })

export const environment = (status: EnvironmentStatus = 'running'): Environment => ({
  ticket: 'DROP-1',
  provider: 'kvm',
  vmId: 'as-drop-1-00000001',
  ip: null,
  status,
  baseImage: 'base',
  createdAt: '2026-11-24T10:00:00Z',
  createdBy: { via: 'cli', who: null },
  ssh: null,
  checkpoints: [],
  unsavedWork: null,
  observedAt: '2026-11-24T10:00:00Z',
})

export type EventOf<Kind extends EventKind> = Extract<SwarmEvent, { kind: Kind }>

export const pushEvent = (more: Partial<EventOf<'push'>> = {}): EventOf<'push'> => ({
  kind: 'push',
  repo: 'acme/shop',
  ref: 'refs/heads/DROP-1-x',
  after: 'ABCDEF0123'.padEnd(40, '0'),
  deleted: false,
  pusher: 'dev',
  ...more,
})
export const pushFacts = (more: Partial<Facts['push']> = {}): Facts['push'] => ({
  environment: environment(),
  live: true,
  ...more,
})

export const pullRequestEvent = (
  change: EventOf<'pull-request'>['change'],
  more: Partial<EventOf<'pull-request'>> = {},
): EventOf<'pull-request'> => ({
  kind: 'pull-request',
  change,
  pullRequest: { repo: 'acme/shop', number: 1 },
  branch: 'DROP-1-x',
  title: '',
  fromFork: false,
  merged: false,
  sender: 'dev',
  at: null,
  ...more,
})
export const pullRequestNow = (more: Partial<PullRequestNow> = {}): PullRequestNow => ({
  state: 'open',
  branch: 'DROP-1-x',
  title: '',
  fromFork: false,
  isDraft: false,
  headSha: 'a'.repeat(40),
  closedAt: null,
  updatedAt: null,
  ...more,
})
export const pullRequestFacts = (more: Partial<Facts['pull-request']> = {}): Facts['pull-request'] => ({
  environment: environment(),
  now: pullRequestNow(),
  stateDecided: false,
  readyDecided: false,
  hadMachine: true,
  stoppedByClose: false,
  others: [],
  ticketRestarted: false,
  laterRequest: null,
  ...more,
})

type StatusEvent = Extract<EventOf<'ticket'>, { change: 'status' | 'assignee' | 'deleted' }>
export const ticketEvent = (category: StatusEvent['category'], more: Partial<StatusEvent> = {}): StatusEvent => ({
  kind: 'ticket',
  ticket: 'DROP-1',
  change: 'status',
  category,
  assignee: 'me',
  labels: [],
  fromStatus: null,
  statusName: null,
  by: { via: 'jira', who: 'me' },
  at: null,
  ...more,
})
/** `category`: the present one; null for an issue that is gone. */
export const ticketFacts = (
  category: StatusEvent['category'] | null,
  more: Partial<Facts['ticket']> = {},
): Facts['ticket'] => ({
  environment: null,
  previous: null,
  now: category === null ? null : { category, assignee: 'me', labels: [] },
  from: null,
  isOurs: true,
  endedSinceNew: false,
  hadPullRequest: false,
  closedSince: false,
  me: 'me',
  laterRequest: null,
  ...more,
})

/** A decision in one line, for example `delete DROP-1`, or the reason why nothing is done. Long answers are cut. */
export const summarize = (decision: Decision): string => {
  if (decision.verdict !== 'act') return `${decision.verdict}: ${decision.reason}`
  const { renames, actions, replies, notes, allow } = decision
  return [
    ...renames.map(({ from, to }) => `rename ${from} to ${to}`),
    ...actions.map(action => {
      const name = 'name' in action && action.name !== null ? ` ${action.name}` : ''
      const from = 'from' in action ? ` from ${action.from}` : ''
      const force = 'force' in action && action.force ? ' --force' : ''
      return `${action.kind} ${action.ticket}${name}${from}${force}`
    }),
    ...replies.map(({ ok, text }) => (ok ? 'reply' : `no: ${text.slice(0, 30)}`)),
    ...notes.map(({ ticket, reason }) => `note on ${ticket}: ${reason}`),
    ...(allow === null ? [] : [`allow ${allow}`]),
  ].join(', ')
}
