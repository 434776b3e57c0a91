/** What the tests of the handlers begin with, and how they say what a decision comes to. */
import type { PullRequestNow, Rules, SwarmEvent } from '../../handlers/handler.ts'
import type { handlers } from '../../handlers/index.ts'
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
export type Of<Kind extends SwarmEvent['kind']> = Extract<SwarmEvent, { kind: Kind }>
/** What a decision comes to, in a word: `delete DROP-1`, or why nothing. */
export const said = (decision: ReturnType<(typeof handlers)['push']>) =>
  decision.verdict === 'act'
    ? [
        ...decision.actions.map(
          one =>
            `${one.kind} ${one.ticket}${'name' in one && one.name !== null ? ` ${one.name}` : ''}${'force' in one && one.force ? ' --force' : ''}`,
        ),
        ...decision.replies.map(one => (one.ok ? 'reply' : `no: ${one.text.slice(0, 30)}`)),
      ].join(', ')
    : `${decision.verdict}: ${decision.reason}`

export const now = (more: Partial<PullRequestNow> = {}): PullRequestNow => ({
  state: 'open',
  branch: 'DROP-1-x',
  title: '',
  body: '',
  fromFork: false,
  headSha: 'a'.repeat(40),
  closedAt: null,
  ...more,
})
