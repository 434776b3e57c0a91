import { expect, test } from 'vitest'
import { commandLines } from '../../../handlers/command-lines.ts'
import { jiraCommandLines } from '../../../handlers/jira-lines.ts'
import { plain as plainText } from '../../../src/bot/jira/answers.ts'
import { jiraNote } from '../../../src/bot/publish/jira-notes.ts'
import { type ReplyView, replyTo } from '../../../src/bot/publish/reply.ts'
import { statusComment } from '../../../src/bot/publish/status-comment.ts'
import { adf } from '../../../src/bot/publish/text.ts'
import { type Action, type ActionKind, actionKinds } from '../../../src/schema/action.ts'
import type { AgentReport, Environment, Project } from '../../../src/schema/environment.ts'
import type { Outcome } from '../../../src/schema/outcome.ts'
import type { ActionRow } from '../../../src/store/port.ts'
import { at, dev, environment, known, links, markdownOf, noLinks, offer, runner } from './fixtures.ts'

const comment = { repo: 'acme/shop', number: 7, commentId: 5 }
const common = { ticket: 'DROP-1', by: dev, replyTo: { ...comment, line: 0 } }
const restore: Action = { kind: 'restore', name: 'before', ...common }
const create: Action = { kind: 'create', ...common }
const actionRow = (action: Action, more: Partial<ActionRow> = {}): ActionRow => ({
  ...{
    id: 'github:d1:0',
    correlation: 'd1',
    action,
    seq: 1,
    state: 'pending',
    attempt: 0,
    runnerId: null,
    token: null,
  },
  ...{ leaseUntil: null, progress: null, needs: null, createdAt: 0, notBefore: 0, outcome: null },
  ...more,
})
const view = (outcome: Outcome | null, more: Partial<ReplyView> = {}, action: Action = restore): ReplyView => ({
  request: {
    ...{ id: 'github:d1:0', at: at('09:59:00'), by: dev, person: true, place: 'acme/shop#7', ticket: 'DROP-1' },
    ...{ command: { comment, line: 0 }, what: '/swarm', action, verdict: 'allowed', reason: null, answer: null },
    ended: outcome === null ? null : { at: at('09:59:04'), ok: outcome.result !== 'failed', outcome },
  },
  row: actionRow(action),
  ...{
    ahead: [],
    pinned: null,
    runners: [runner()],
    known: null,
    host: null,
    deleteAt: null,
    noMachine: null,
    beyondLimit: null,
  },
  now: at('10:00:00'),
  links: noLinks,
  ...more,
})
const answered = (text: string, help: boolean, what = '/swarm'): ReplyView => {
  const { request, ...rest } = view(null)
  return { ...rest, request: { ...request, what, action: null, answer: { text, help } } }
}
const replied = (...views: ReplyView[]) => markdownOf(replyTo(comment, views))
const done = (summary: string, more: Partial<Extract<Outcome, { result: 'done' }>> = {}): Outcome => ({
  ...{ result: 'done', summary, environment: null, seconds: 4 },
  ...more,
})
const failed = (kind: 'capacity' | 'unsaved-work', message: string, remedy: string | null): Outcome => ({
  result: 'failed',
  failure: { kind, message, remedy },
  environment: null,
})

test.for([
  [
    'a restore',
    view(
      done('Restored DROP-1 to before; its previous state is kept as pre-restore-20261124-094500', {
        environment: environment(),
      }),
    ),
    [
      '`/swarm restore before`',
      'Restored DROP-1 to before; its previous state is kept as pre-restore-20261124-094500. It took 4 s.',
      'Pushed commits and sent messages are not undone.',
      'Log in with `agent-swarm ssh DROP-1`',
    ],
  ],
  [
    'a checkpoint',
    view(
      done('Made checkpoint before of DROP-1', { seconds: 0 }),
      {},
      {
        ...{ kind: 'checkpoint', name: 'before', why: 'command', commit: null, ...common },
      },
    ),
    ['It took less than 0.1 s.', '`/swarm restore before` restores it.'],
  ],
  [
    'a forced delete',
    view(done('DROP-1 is deleted', { seconds: 125 }), {}, { kind: 'delete', force: true, ...common }),
    ['`/swarm delete --force`', 'It took 2 min 5 s.', 'This cannot be undone.'],
  ],
  [
    'a delete that saved work',
    view(done('DROP-1 is deleted', { rescued: 'x' }), {}, { kind: 'delete', force: false, ...common }),
    ['`agent-swarm rescued list` there shows it, and `agent-swarm rescued restore` brings it back.'],
  ],
  [
    'a failure',
    view(failed('capacity', 'creating DROP-1: 4 GiB needed', 'Stop another.')),
    ['Failed:', '```text\ncreating DROP-1: 4 GiB needed\n```', 'What to do: Stop another.'],
  ],
  [
    'a failure that a command can solve, which can be copied',
    view(
      failed(
        'unsaved-work',
        'DROP-1 is kept and stopped',
        'Start it and save the work: agent-swarm start DROP-1. Or delete it with the work: agent-swarm delete DROP-1 --force',
      ),
    ),
    [
      '```text\nDROP-1 is kept and stopped\n```',
      'What to do: Start it and save the work: `/swarm start`. Or delete it with the work: `/swarm delete --force`',
    ],
  ],
  [
    'a remedy that names no ticket, or leaves it to the reader',
    view(
      failed(
        'capacity',
        'restoring DROP-1',
        'Stop it, and restore it then: agent-swarm stop <TICKET>, agent-swarm restore <TICKET> <NAME>. See: agent-swarm status',
      ),
    ),
    ['What to do: Stop it, and restore it then: `/swarm stop`, `/swarm restore <NAME>`. See: `/swarm status`'],
  ],
  [
    'a remedy about the host',
    view(failed('capacity', 'creating DROP-1', 'See: agent-swarm status DROP-2, agent-swarm providers')),
    ['What to do: See: `agent-swarm status DROP-2`, agent-swarm providers'],
  ],
  [
    'nothing to do',
    view({ result: 'skipped', reason: 'DROP-1 is already running', environment: null }),
    ['Nothing to do: DROP-1 is already running.'],
  ],
  [
    'a question about a machine that does not exist',
    view(done('DROP-1 has no machine'), {}, { kind: 'status', ...common }),
    ['DROP-1 has no machine. `/swarm create` creates its machine.'],
  ],
  [
    'a question about a ticket that got no machine in Jira',
    view(
      done('DROP-1 has no machine'),
      { noMachine: { at: at('09:00:00'), reason: 'DROP-1 has none of the labels <agent>' } },
      { kind: 'status', ...common },
    ),
    ['It got none in Jira at 2026-11-24 09:00:00 UTC: DROP-1 has none of the labels \\<agent\\>.'],
  ],
  [
    'a stop that found unsaved work',
    view(
      done('DROP-1 is stopped', {
        environment: environment({
          status: 'stopped',
          unsavedWork: {
            known: true,
            repositories: [{ path: '/srv/shop', uncommitted: 2, untracked: 0, stashes: 0, unpushed: 1 }],
          },
        }),
      }),
      {},
      { kind: 'stop', ...common },
    ),
    ['`/swarm start` starts it again.', 'Unsaved work at the last check: `/srv/shop`: 2 uncommitted, 1 unpushed.'],
  ],
  [
    'a stop that found none',
    view(
      done('DROP-1 is stopped', {
        environment: environment({ status: 'stopped', unsavedWork: { known: true, repositories: [] } }),
      }),
      {},
      { kind: 'stop', ...common },
    ),
    ['Unsaved work at the last check: none.'],
  ],
  ['no runner', view(null, { runners: [] }), ['Waiting: no runner is connected.', '(2026-11-24 10:00:00 UTC)']],
  [
    'its runner is away',
    view(null, { pinned: runner({ connected: false }) }),
    ['Waiting for the runner on `studio`, which has this machine and does not respond.'],
  ],
  [
    'an earlier action in progress',
    view(null, {
      ahead: [actionRow(create, { state: 'active', progress: { phase: 'ssh', at: '2026-11-24T09:59:30.000Z' } })],
    }),
    ['Waiting for `create`, which is in progress (`ssh` since 2026-11-24 09:59:30 UTC). (2026-11-24 10:00:00 UTC)'],
  ],
  [
    'several earlier actions',
    view(null, { ahead: [actionRow(create), actionRow(create)] }),
    ['Waiting for `create`, which is waiting too, and 1 more of DROP-1.'],
  ],
  [
    'another attempt',
    view(null, { row: actionRow(restore, { attempt: 2, notBefore: at('10:00:08') }) }),
    ['Attempt 2 failed. The next attempt is at 2026-11-24 10:00:08 UTC.'],
  ],
  [
    'a create that only waits for free memory',
    view(null, { runners: [runner({ offer: offer(1_024) })] }, create),
    [
      'Waiting for room: the host has no room for another machine of this size on `studio`. It starts when another machine is stopped or deleted.',
    ],
  ],
  [
    'a create with free memory on one of two runners',
    view(null, { runners: [runner({ offer: offer(1_024) }), runner({ offer: offer(8_192) })] }, create),
    ['Next in the queue: it starts as soon as a runner has a free slot.'],
  ],
  ['no free slot', view(null), ['Next in the queue: it starts as soon as a runner has a free slot.']],
  [
    'in progress',
    view(null, {
      row: actionRow(restore, { state: 'active', progress: { phase: 'boot', at: '2026-11-24T09:59:20.000Z' } }),
    }),
    ['In progress: `boot` since 2026-11-24 09:59:20 UTC (2026-11-24 10:00:00 UTC, 60 s after the command).'],
  ],
  ['cancelled', view(null, { row: actionRow(restore, { state: 'cancelled' }) }), ['Cancelled before it started.']],
  ['no longer queued', view(null, { row: null }), ['The command is no longer in the queue. Repeat it']],
] satisfies [string, ReplyView, string[]][])('%s', ([, given, expected]) => {
  const body = replied(given)
  for (const text of expected) expect(body).toContain(text)
})

const status = (about?: 'checkpoints' | 'ssh'): Action => ({
  kind: 'status',
  ...(about === undefined ? {} : { about }),
  ...common,
})
const running = (more: Partial<Environment> = {}): Outcome =>
  done('DROP-1 is running', {
    environment: environment({ ssh: { host: '127.0.0.1', port: 2222, user: 'agent' }, ...more }),
  })

test('/swarm ssh shows whether it runs, where, how to log in, and how old that is', () => {
  expect(replied(view(running(), { host: 'studio' }, status('ssh')))).toBe(`> \`octocat\` on \`DROP-1\`: \`/swarm ssh\`

DROP-1 is running as of 2026-11-24 09:45:10 UTC. Its SSH address is \`127.0.0.1:2222\`.

Log in with \`agent-swarm ssh DROP-1\` on the runner's host (\`studio\`), or \`ssh -i ~/.agent-swarm/ssh/login/key -o IdentitiesOnly=yes -o HostKeyAlias=as-drop-1-1a2b3c4d -o UserKnownHostsFile=~/.agent-swarm/ssh/as-drop-1-1a2b3c4d.known_hosts -o StrictHostKeyChecking=yes -p 2222 agent@127.0.0.1\` from there.`)
  expect(replied(view(running({ status: 'stopped' }), {}, status('ssh')))).toContain(
    'DROP-1 is stopped as of 2026-11-24 09:45:10 UTC.\n\nIt is stopped. `/swarm start` starts it.',
  )
})

test('/swarm checkpoints lists them, and nothing else', () => {
  const body = replied(view(running(), {}, status('checkpoints')))
  expect(body).toContain('`/swarm checkpoints`\n\nNo checkpoints yet')
  expect(body).not.toContain('Log in')
})

test('a question that no runner can answer now shows the last known state', () => {
  const body = replied(view(null, { runners: [], known: environment() }, status()))
  expect(body).toContain('Waiting: no runner is connected.')
  expect(body).toContain('Until then, the last known state:\n\nDROP-1 is running as of 2026-11-24 09:45:10 UTC.')
})

test('a command that waited long shows the total time', () => {
  const { request, ...rest } = view(done('DROP-1 is started'))
  const outcome = request.ended?.outcome ?? null
  const late = { ...request, ended: { at: request.at + 130_000, ok: true, outcome } }
  expect(replied({ ...rest, request: late })).toContain(
    'DROP-1 is started. It took 4 s (2 min 10 s including the wait).',
  )
})

test('the fingerprint of an action in progress changes with its phase, and once a minute', () => {
  const fingerprint = (seconds: number, phase: string) =>
    replyTo(comment, [
      view(null, {
        row: actionRow(restore, { state: 'active', progress: { phase, at: '2026-11-24T09:59:20.000Z' } }),
        now: at('10:00:00') + seconds * 1000,
      }),
    ]).fingerprint
  expect(fingerprint(50, 'boot')).toBe(fingerprint(0, 'boot'))
  expect(fingerprint(0, 'ssh')).not.toBe(fingerprint(0, 'boot'))
  expect(fingerprint(60, 'boot')).not.toBe(fingerprint(0, 'boot'))
})

test('in the minutes of grace an answer says when the machine is deleted', () => {
  const seen = done('', { environment: environment() })
  expect(replied(view(seen, { deleteAt: at('10:30:00') }, status()))).toContain(
    'The pull request is merged. The machine will be deleted at 2026-11-24 10:30:00 UTC. `/swarm start` keeps it.',
  )
})

test('a command that cancels the delete after a merge says so', () => {
  const skipped: Outcome = { result: 'skipped', reason: 'DROP-1 is already running', environment: environment() }
  const start: Action = { kind: 'start', ...common }
  const cancelled = 'The delete that was scheduled after the merge is cancelled.'
  expect(replied(view(skipped, {}, start))).not.toContain(cancelled)
  expect(replied(view(skipped, {}, { ...start, cancelsDelete: true }))).toContain(
    `Nothing to do: DROP-1 is already running.\n\n${cancelled}`,
  )
})

test('a checkpoint without a name shows the name that it got', () => {
  const common = { why: 'command', commit: null, withMemory: true, sizeBytes: null } as const
  const made = { name: '20261124-095900', createdAt: '2026-11-24T09:59:00.000Z', ...common }
  const after = environment({ checkpoints: [{ ...made, name: 'older' }, made] })
  const action: Action = { ...restore, kind: 'checkpoint', name: null, why: 'command', commit: null }
  expect(replied(view(done('it is made', { environment: after }), {}, action))).toContain(
    '`/swarm restore 20261124-095900` restores it.',
  )
})

test('the table of commands comes once, after the answers', () => {
  const body = replied(answered('', true), answered('Unknown command `fly`.', true, '/swarm fly'), answered('', true))
  expect(body.match(/Commands, each/g)).toHaveLength(1)
  expect(body).toMatch(/^> `octocat` on `DROP-1`: `\/swarm fly`\n\nUnknown command `fly`\.\n\n---\n\nCommands, each/)
  expect(replied(answered('', true))).toMatch(/^Commands, each/)
})

test('in Jira the reply names the comment, and the table leaves out what only works on pull requests', () => {
  const { blocks } = replyTo({ ticket: 'DROP-1', commentId: '10001' }, [answered('', true)])
  expect(blocks[0]).toEqual({ line: [{ own: 'Answer to comment 10001:' }] })
  const text = JSON.stringify(adf(blocks))
  expect(text).toContain('/swarm restore [name]')
  expect(text).not.toContain('/swarm allow')
})

// ── Who and what ──

const quoted = (more: Partial<ReplyView['request']>, side = links) => {
  const { request, ...rest } = view(done('It is done'))
  return markdownOf(replyTo(comment, [{ ...rest, links: side, request: { ...request, ...more } }])).split('\n')[0]
}
test.for<[string, string | undefined, string]>([
  [
    'a reply quotes the command as it was written, says who gave it, and links the ticket',
    quoted({ what: '/swarm RESTORE before' }),
    '> `octocat` on [DROP-1](https://acme.atlassian.net/browse/DROP-1): `/swarm RESTORE before`',
  ],
  [
    'people of Jira have their names, which do nothing',
    quoted({
      by: { via: 'jira', who: '557058:dana', name: 'Dana *@acme/all* [x](http://evil.example) <b>' },
      what: '/swarm stop',
    }),
    '> Dana \\*@\u200bacme/all\\* \\[x\\]\\(http:\\//evil.example\\) \\<b\\> on [DROP-1](https://acme.atlassian.net/browse/DROP-1): `/swarm stop`',
  ],
  [
    'a command with backticks and a mention is code',
    quoted({ what: '/swarm `x` @octocat' }, noLinks),
    '> `octocat` on `DROP-1`: ``/swarm `x` @octocat``',
  ],
  [
    'a request of an earlier version',
    quoted({ what: 'restore' }, noLinks),
    '> `octocat` on `DROP-1`: `/swarm restore before`',
  ],
  [
    'nobody is known',
    quoted({ by: { via: 'github', who: null }, ticket: null }, noLinks),
    '> Somebody: `/swarm restore before`',
  ],
])('%s', ([, line, expected]) => expect(line).toBe(expected))

test('no reply contains a command, whatever it quotes', () => {
  const given = view(done('x'))
  const hostile = { ...given.request, what: '/swarm delete --force', by: { ...dev, name: '/swarm delete --force' } }
  const body = markdownOf(replyTo(comment, [{ ...given, request: hostile }]))
  expect(commandLines(body)).toEqual([])
  expect(
    jiraCommandLines(adf(replyTo({ ticket: 'DROP-1', commentId: '1' }, [{ ...given, request: hostile }]).blocks)),
  ).toEqual([])
})

test('a commit of a checkpoint is a link, where one repository is known', () => {
  const checkpoint = {
    name: 'push-abc1234',
    why: 'push',
    commit: 'abc1234def',
    createdAt: '2026-11-24T09:10:00.000Z',
  } as const
  const list = running({ checkpoints: [{ ...checkpoint, withMemory: true, sizeBytes: null }] })
  expect(replied(view(list, { links }, status('checkpoints')))).toContain(
    'push of [abc1234](https://github.com/acme/shop/commit/abc1234def)',
  )
  expect(replied(view(list, {}, status('checkpoints')))).toContain('push of `abc1234`')
})

// ── Every kind of action ──

const every = {
  create,
  start: { kind: 'start', ...common },
  stop: { kind: 'stop', ...common },
  restart: { kind: 'restart', ...common },
  checkpoint: { kind: 'checkpoint', name: 'before', why: 'command', commit: null, ...common },
  restore,
  'delete-checkpoint': { kind: 'delete-checkpoint', name: 'before', ...common },
  delete: { kind: 'delete', force: false, ...common },
  tell: { kind: 'tell', text: 'Use the other queue.', ...common },
  agent: { kind: 'agent', what: 'stop', ...common },
  move: { kind: 'move', from: 'SHOP-7', ...common },
  fork: { kind: 'fork', count: 3, from: null, ...common },
  promote: { kind: 'promote', attempt: 2, ...common },
  status: { kind: 'status', ...common },
} satisfies Record<ActionKind, Action>
const textOf = (blocks: Parameters<typeof adf>[0]) => plainText(adf(blocks)).replaceAll(/\s+/g, ' ')
const remedy = 'Do it again: agent-swarm start DROP-1'

test.for(actionKinds)('%s: done and failed are told on GitHub and in Jira', kind => {
  const action: Action = every[kind]
  const about = { ticket: 'DROP-1', commentId: '10001' }
  const success = view(done(`The summary of ${kind}`, { environment: environment() }), {}, action)
  const failure = view(failed('capacity', `the cause of ${kind}`, remedy), {}, action)
  // A question is answered with what it asked for.
  const expected = kind === 'status' ? 'DROP-1 is running' : `The summary of ${kind}`
  expect(replied(success)).toContain(expected)
  expect(textOf(replyTo(about, [success]).blocks)).toContain(expected)
  for (const text of [replied(failure), textOf(replyTo(about, [failure]).blocks)]) {
    expect(text).toContain(`the cause of ${kind}`)
    expect(text).toContain('/swarm start')
    expect(text).not.toContain('agent-swarm start')
  }
  const note = textOf(
    jiraNote('DROP-1', {
      kind: 'failed',
      action,
      failure: { kind: 'capacity', message: `the cause of ${kind}`, remedy },
    }).blocks,
  )
  expect(note).toContain(`${kind}`)
  expect(note).toContain(`the cause of ${kind}`)
  expect(note).toContain('/swarm start')
  const { request } = failure
  const shown = markdownOf(
    statusComment({
      ...{ ticket: 'DROP-1', known: known(), runner: runner(), history: [{ ...request, action }, success.request] },
      ...{ deleteAt: null, openAfterMerge: [], waiting: null, attempts: [], links, skippedMoves: [], fileProblems: [] },
    }),
  )
  expect(shown).toContain(`failed: \`the cause of ${kind}\``)
  expect(shown).toContain('done in 4 s')
})

test('a fork lists its attempts, and how to log in and to keep one', () => {
  const attempts = [
    { ticket: 'DROP-1~1', branch: 'DROP-1-x-attempt-1' },
    { ticket: 'DROP-1~2', branch: null },
  ].map(made => ({ ...made, vmId: 'as-x-00000001', status: 'running' as const, ssh: null }))
  const text = replied(
    view(done('Forked DROP-1 into 2 attempts', { environment: environment(), attempts }), {}, every.fork),
  )
  expect(text).toContain('- `DROP-1~1` on the branch `DROP-1-x-attempt-1`\n- `DROP-1~2`\n')
  expect(text).toContain('Log in: `agent-swarm ssh DROP-1~1`. Keep one: `/swarm promote 1`.')
  expect(text).not.toContain('agent-swarm ssh DROP-1`')
})

test('a promote says whether its deletes can be undone, and how to start a machine that is off', () => {
  const stopped = { environment: environment({ status: 'stopped' }) }
  const plain = replied(view(done('It is stopped. Start it: agent-swarm start DROP-1', stopped), {}, every.promote))
  expect(plain).toContain('It is stopped. Start it: `/swarm start`. It took')
  expect(plain).toContain('The deletes cannot be undone.')
  const rescued = replied(view(done('x', { ...stopped, rescued: 'it is in ~/x' }), {}, every.promote))
  expect(rescued).toContain("Rescued work is on the runner's host. `agent-swarm rescued list` there shows it")
  expect(rescued).not.toContain('cannot be undone')
})

test('what a new machine lacks is told once, whoever tells it', () => {
  // A runner's summary ends without a full stop.
  const noProject = 'No project was cloned: choose one'
  const lacking = { ...create, noProject: `${noProject}.`, noAgent: 'No agent was started.' } as Action
  const times = (text: string, part: string) => text.split(part).length - 1
  const plain = replied(view(done('DROP-1 has a machine'), {}, lacking))
  const told = replied(view(done(`DROP-1 has a machine. ${noProject}`), {}, lacking))
  for (const text of [plain, told])
    expect([times(text, noProject), times(text, 'No agent was started.')]).toEqual([1, 1])
})

test('the answer to logs says who can read it where that is everybody', () => {
  const logs: Action = { kind: 'status', about: 'logs', ...common }
  const outcome = done('', { environment: environment(), log: 'npm ci\nadded 3 packages' })
  const shown = replied(view(outcome, {}, logs))
  expect(shown).toContain('```text\nnpm ci\nadded 3 packages\n```')
  expect(shown).toContain('Everybody who can see this pull request can read these lines.')
  const inJira: Action = { ...logs, replyTo: { ticket: 'DROP-1', commentId: '5', line: 0 } }
  expect(replied(view(outcome, {}, inJira))).not.toContain('Everybody')
  expect(replied(view(done('', { environment: environment(), log: ' \n' }), {}, logs))).toContain('The logs are empty.')
})

test('the answer to status tells of the project and the agent at work', () => {
  const status: Action = { kind: 'status', ...common }
  const project: Omit<Project, 'problem'> = {
    repo: 'acme/shop',
    branch: null,
    path: '/home/agent/shop',
    ports: [],
    setup: null,
    start: null,
  }
  const agent: AgentReport = {
    ...{ use: 'codex', run: '0a1b2c3d', state: 'running', startedAt: null, endedAt: null, result: null, reason: null },
    ...{ summary: null, turns: 3, tokens: 1_000, usd: null, rounds: 0, pullRequest: 'draft' },
  }
  const shown = replied(
    view(
      done('', { environment: environment({ project: { ...project, problem: 'no such <b>branch</b>' }, agent }) }),
      {},
      status,
    ),
  )
  expect(shown).toContain('Project: `acme/shop` in `/home/agent/shop`. Problem: no such \\<b\\>branch\\</b\\>.')
  expect(shown).toContain('Agent: Codex is at work (3 turns, 1,000 tokens as of 2026-11-24 09:45:10 UTC).')
})
