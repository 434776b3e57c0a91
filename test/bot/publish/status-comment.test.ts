import { expect, test } from 'vitest'
import { type StatusView, statusComment } from '../../../src/bot/publish/status-comment.ts'
import type { Action } from '../../../src/schema/action.ts'
import type { AgentReport, Checkpoint } from '../../../src/schema/environment.ts'
import type { Outcome } from '../../../src/schema/outcome.ts'
import type { Request } from '../../../src/store/port.ts'
import { at, dev, environment, known, markdownOf, noLinks, runner } from './fixtures.ts'

const view = (more: Partial<StatusView> = {}): StatusView => ({
  ticket: 'DROP-1',
  known: known(),
  runner: runner(),
  history: [],
  deleteAt: null,
  openAfterMerge: [],
  waiting: null,
  attempts: [],
  links: noLinks,
  skippedMoves: [],
  fileProblems: [],
  ...more,
})
const statusOf = (more: Partial<StatusView>) => markdownOf(statusComment(view(more)))
test('the attempts of the ticket stand beside it', () => {
  const project = {
    ...{ repo: 'acme/shop', branch: 'DROP-1-x-attempt-2', path: '~/shop', ports: [] },
    setup: null,
    start: null,
    problem: null,
  }
  const attempts = [
    { ...environment(), ticket: 'DROP-1~1', vmId: 'as-drop-1-1-00000001', status: 'stopped' as const, isHere: false },
    { ...environment(), ticket: 'DROP-1~2', vmId: 'as-drop-1-2-00000002', project, isHere: true },
  ]
  const text = statusOf({ attempts })
  expect(text).toContain(
    'Attempts as of 2026-11-24 09:45:10 UTC (`/swarm promote 2` makes DROP-1~2 the machine of the ticket and deletes the others):',
  )
  expect(text).toContain('DROP-1~1: stopped, machine `as-drop-1-1-00000001`')
  expect(text).toContain(
    'DROP-1~2: running, machine `as-drop-1-2-00000002`, branch `DROP-1-x-attempt-2` (this pull request)',
  )
})

const common = { ticket: 'DROP-1', by: dev, replyTo: null }
const request = (endedAt: string, action: Action | null, outcome: Outcome | null): Request => ({
  ...{ id: endedAt, at: at(endedAt), by: dev, person: true, place: 'acme/shop#7', command: null, ticket: 'DROP-1' },
  ...{ what: '/swarm delete', action, verdict: 'allowed', reason: null, answer: null },
  ended: { at: at(endedAt), ok: true, outcome },
})
const refused = (time: string, reason: string): Request => ({
  ...request(time, null, null),
  verdict: 'refused',
  reason,
})
const done = (more: Partial<Extract<Outcome, { result: 'done' }>> = {}): Outcome => ({
  ...{ result: 'done', summary: 'done', environment: null, seconds: 3.2 },
  ...more,
})
const failed = (message: string): Outcome => ({
  result: 'failed',
  failure: { kind: 'capacity', message, remedy: null },
  environment: null,
})

test('what a promote did, and for which pull request the machine stays', () => {
  const summary = 'DROP-1~2 is now the machine of DROP-1. Deleted: DROP-1~1, DROP-1~3'
  const action: Action = { kind: 'promote', attempt: 2, ...common }
  const text = statusOf({
    history: [request('09:45:11', action, done({ summary }))],
    openAfterMerge: ['acme/shop#13'],
  })
  expect(text).toContain('A pull request of DROP-1 is merged. It stays: acme/shop\\#\u200b13 is open.')
  expect(text).toContain(
    '2026-11-24 09:45:11 UTC: `promote 2`, requested by `octocat` on GitHub: done in 3.2 s: DROP-1\\~2 is now the machine of DROP-1. Deleted: DROP-1\\~1, DROP-1\\~3',
  )
})

const SSH =
  'ssh -i ~/.agent-swarm/ssh/login/key -o IdentitiesOnly=yes -o HostKeyAlias=as-drop-1-1a2b3c4d -o UserKnownHostsFile=~/.agent-swarm/ssh/as-drop-1-1a2b3c4d.known_hosts -o StrictHostKeyChecking=yes'

test('a running machine', () => {
  const checkpoints: Checkpoint[] = [
    {
      ...{ name: 'push-abc1234', why: 'push', commit: 'abc1234def', createdAt: '2026-11-24T09:10:00.000Z' },
      ...{ withMemory: true, sizeBytes: 1_288_490_189 },
    },
    {
      ...{ name: 'before', why: 'command', commit: null, createdAt: '2026-11-24T09:20:00.000Z' },
      ...{ withMemory: false, sizeBytes: null },
    },
  ]
  const history = [
    refused('09:50:00', 'not you'),
    request('09:45:11', { kind: 'restore', name: 'before', ...common }, done()),
    request('09:44:00', { kind: 'start', ...common }, failed('no room')),
  ]
  expect(statusOf({ known: known({ environment: environment({ checkpoints }) }), history })).toBe(`### DROP-1: running

|  |  |
| --- | --- |
| State | **running** as of 2026-11-24 09:45:10 UTC |
| Log in | \`agent-swarm ssh DROP-1\` on the runner's host (\`studio\`), or \`${SSH} agent@192.168.122.7\` from there |
| Runner | \`studio\`, last contact 2026-11-24 09:45:11 UTC |
| Provider | kvm |
| Machine | \`as-drop-1-1a2b3c4d\`, created 2026-11-24 09:00:00 UTC from \`agent-swarm-base\`, requested by \`dev\` in Jira |

Checkpoints as of 2026-11-24 09:45:10 UTC:

| checkpoint | reason | created | size |
| --- | --- | --- | --- |
| \`before\` | command | 2026-11-24 09:20:00 UTC |  |
| \`push-abc1234\` | push of \`abc1234\`, with memory | 2026-11-24 09:10:00 UTC | 1.2 GiB |

Recent requests:

- 2026-11-24 09:50:00 UTC: \`/swarm delete\`, requested by \`octocat\` on GitHub: refused: not you
- 2026-11-24 09:45:11 UTC: \`restore before\`, requested by \`octocat\` on GitHub: done in 3.2 s
- 2026-11-24 09:44:00 UTC: \`start\`, requested by \`octocat\` on GitHub: failed: \`no room\`

<sub>Kept up to date by agent-swarm. \`/swarm help\` lists the commands.</sub>`)
})

test('a deleted machine, with the work that was saved first', () => {
  const rescued = 'unsaved work (1 stash in /home/@all) is in ~/.agent-swarm/rescued/DROP-1-20261124-094500'
  const body = statusOf({
    known: known({ goneAt: at('10:00:00') }),
    history: [request('10:00:00', { kind: 'delete', force: false, ...common }, done({ rescued }))],
  })
  expect(body).toContain('### DROP-1: deleted')
  expect(body).toContain(
    "Rescued before the delete, on the runner's host (`studio`): unsaved work \\(1 stash in /home/@\u200ball\\) is in \\~/.agent-swarm/rescued/DROP-1-20261124-094500. `agent-swarm rescued list` there shows it, and `agent-swarm rescued restore` brings it back.",
  )
})

test('the machine of a runner that an operator forgot is not said to be deleted', () => {
  const body = statusOf({ known: known({ goneAt: at('10:00:00'), runnerForgotten: true }) })
  expect(body).toContain('### DROP-1: out of reach')
  expect(body).toContain('an operator forgot its runner')
  expect(body).not.toContain('no longer exist')
})

const unsaved = (count: number) => ({
  known: true as const,
  repositories: Array.from({ length: count }, (_, n) => ({
    ...{ path: `/srv/${n}`, uncommitted: 2, untracked: 0, stashes: 0, unpushed: 1 },
  })),
})
test.for([
  ['a stopped machine', { status: 'stopped' }, '### DROP-1: stopped'],
  ['a synthetic machine', { provider: 'synthetic' }, 'synthetic: no real machine'],
  ['another port', { ssh: { host: '127.0.0.1', port: 2222, user: 'agent' } }, `\`${SSH} -p 2222 agent@127.0.0.1\``],
  [
    'unsaved work',
    { unsavedWork: unsaved(1) },
    '| Unsaved work at the last check | `/srv/0`: 2 uncommitted, 1 unpushed |',
  ],
  ['no unsaved work', { unsavedWork: unsaved(0) }, '| Unsaved work at the last check | none |'],
  [
    'unsaved work in more repositories than a comment can name',
    { unsavedWork: unsaved(200) },
    '`/srv/9`: 2 uncommitted, 1 unpushed; 190 more repositories |',
  ],
] as const)('%s', ([, more, expected]) => {
  expect(statusOf({ known: known({ environment: environment(structuredClone(more) as object) }) })).toContain(expected)
})

test('a runner that is away, with its last contact', () => {
  const body = statusOf({ runner: runner({ connected: false }) })
  expect(body).toContain('The runner on `studio` does not respond. This is the state at its last contact.')
  expect(body).toContain('last contact 2026-11-24 09:45:11 UTC')
})

test('a machine that nobody uses, and one that sleeps', () => {
  const since = '2026-11-24T08:00:00Z'
  const warned = { state: 'warned', since, becomes: 'stopped', at: '2026-11-24T10:00:00Z', reason: null } as const
  expect(statusOf({ known: known({ environment: environment({ idle: warned }) }) })).toContain(
    'It will be stopped at about 2026-11-24 10:00:00 UTC, unless somebody uses it',
  )
  const asleep = environment({ status: 'stopped', ssh: null, idle: { state: 'saved', at: since } })
  expect(statusOf({ known: known({ environment: asleep }) })).toContain(
    'asleep since 2026-11-24 08:00:00 UTC: its memory is saved',
  )
})

test('a paused machine', () => {
  expect(statusOf({ known: known({ environment: environment({ paused: 'disk full' }) }) })).toContain(
    '**running**, and paused: disk full, as of',
  )
})

test('a machine that its hypervisor takes back, and one that it ended', () => {
  const announced = { state: 'announced', by: 'AWS', cause: 'marked-for-stop', next: 'AWS starts it again' } as const
  const soon = statusOf({ known: known({ environment: environment({ interruption: announced }) }) })
  expect(soon).toContain('**running**, and AWS stops it within minutes, as of')
  expect(soon).toContain(
    'AWS stops the machine of DROP-1 within minutes: marked-for-stop. `/swarm checkpoint` keeps its disk as it is now; what is in its memory alone is lost. AWS starts it again.',
  )
  const taken = environment({ status: 'stopped', ssh: null, interruption: { ...announced, state: 'stopped' } })
  const after = statusOf({ known: known({ environment: taken }) })
  expect(after).toContain('**stopped**, by AWS, as of')
  expect(after).toContain('Its disk and its checkpoints stay. AWS starts it again.')
  const lost = environment({ status: 'lost', ssh: null, ending: 'AWS says: Server.SpotInstanceTermination' })
  expect(statusOf({ known: known({ environment: lost }) })).toContain(
    '**lost** (AWS says: Server.SpotInstanceTermination) as of',
  )
})

test('the minutes of grace after a merge', () => {
  expect(statusOf({ deleteAt: at('10:30:00') })).toContain(
    'The pull request is merged. The machine will be deleted at 2026-11-24 10:30:00 UTC. `/swarm start` keeps it.',
  )
})

test('the fingerprint follows the state, not the time of the last look', () => {
  const of = (more: Parameters<typeof environment>[0], heardAt = 0) =>
    statusComment(view({ known: known({ environment: environment(more), heardAt }) }))
  const [before, later] = [of({}), of({ observedAt: '2026-11-24T11:00:00.000Z' }, 9)]
  expect(later.fingerprint).toBe(before.fingerprint)
  expect(later.blocks).not.toEqual(before.blocks)
  expect(of({ status: 'stopped' }).fingerprint).not.toBe(before.fingerprint)
})

test('times that are none do no harm', () => {
  const body = statusOf({ known: known({ environment: environment({ observedAt: 'soon', createdAt: '' }) }) })
  expect(body).toContain('an unknown time')
})

test('errors of the configuration file are listed, and nothing in them works as Markdown', () => {
  const fileProblems = ['.github/agent-swarm.yml:1: @everyone is not a setting <b>', 'x ``` [y](http://evil.example)']
  const body = statusOf({ fileProblems })
  expect(body).toContain('`.github/agent-swarm.yml` has errors. The previous version stays in effect:')
  expect(body).toMatch(
    /````(text)?\n\.github\/agent-swarm\.yml:1: @everyone is not a setting <b>\nx ``` \[y\]\(http:\/\/evil\.example\)\n````/,
  )
})

test('the work of an agent is news when its state changes, and not with every turn', () => {
  const fingerprint = (more: object) => {
    const agent = {
      ...{ use: 'claude', run: '0a1b2c3d', state: 'running', startedAt: null, endedAt: null, result: null },
      ...{ reason: null, summary: null, turns: 1, tokens: 5, usd: 0.1, rounds: 0, pullRequest: 'draft', ...more },
    } as AgentReport
    return statusComment(view({ known: known({ environment: environment({ agent }) }) })).fingerprint
  }
  expect(fingerprint({ turns: 9, tokens: 99, usd: 3 })).toBe(fingerprint({}))
  expect(fingerprint({ rounds: 1 })).not.toBe(fingerprint({}))
  expect(fingerprint({ state: 'ended', result: 'done' })).not.toBe(fingerprint({}))
})

test('a move in Jira that could not be made is told', () => {
  expect(statusOf({ skippedMoves: ['no transition leads to the status "<b>"'] })).toContain(
    'The ticket was not moved in Jira: no transition leads to the status "\\<b\\>".',
  )
})
