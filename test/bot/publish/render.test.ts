import { expect, test } from 'vitest'
import {
  commentBody,
  failedText,
  type ReplyView,
  readyText,
  remoteLink,
  replyMarker,
  replyTo as replyOn,
  statusComment,
  statusMarker,
} from '../../../src/bot/publish/render.ts'
import { adf, plainBlocks } from '../../../src/bot/publish/text.ts'
import type { Action } from '../../../src/schema/action.ts'
import type { Environment } from '../../../src/schema/environment.ts'
import type { Outcome } from '../../../src/schema/outcome.ts'
import type { HeardCommand } from '../../../src/store/sqlite/commands.ts'
import type { Mirrored } from '../../../src/store/sqlite/environments.ts'
import type { Operation } from '../../../src/store/sqlite/operations.ts'

const environment = (more: Partial<Environment> = {}): Environment => ({
  ticket: 'DROP-1',
  provider: 'kvm',
  vmId: 'as-drop-1-1a2b3c4d',
  ip: '192.168.122.7',
  status: 'running',
  baseImage: 'agent-swarm-base',
  createdAt: '2026-11-24T09:00:00.000Z',
  createdBy: { via: 'jira', who: 'dev' },
  ssh: { host: '192.168.122.7', port: 22, user: 'agent' },
  checkpoints: [],
  unsavedWork: null,
  observedAt: '2026-11-24T09:45:10.000Z',
  ...more,
})
const mirrored = (more: Partial<Mirrored> = {}): Mirrored => ({
  environment: environment(),
  runnerId: 'r1',
  heardAt: Date.parse('2026-11-24T09:45:11Z'),
  goneAt: null,
  ...more,
})
const runner = { id: 'r1', host: 'studio', seenAt: Date.parse('2026-11-24T09:45:11Z'), connected: true }
const by = { via: 'github', who: 'octocat' } as const
const replyTo = { repo: 'acme/shop', number: 7, commentId: 5, line: 0 }
const restore: Action = { kind: 'restore', name: 'before', ticket: 'DROP-1', by, replyTo }
const view = (outcome: Outcome | null, more: Partial<ReplyView> = {}, action: Action = restore): ReplyView => ({
  command: {
    comment: replyTo,
    line: 0,
    at: Date.parse('2026-11-24T09:59:00Z'),
    actionId: 'github:d1:0',
    action,
    said: null,
    outcome,
    ok: null,
    endedAt: null,
  } satisfies HeardCommand,
  row: {
    id: 'github:d1:0',
    correlation: 'd1',
    action,
    seq: 1,
    state: 'pending',
    attempt: 0,
    runnerId: null,
    leaseUntil: null,
    progress: null,
    createdAt: 0,
    notBefore: 0,
    outcome: null,
  },
  ahead: [],
  pinned: null,
  anyRunner: true,
  known: null,
  host: null,
  deletedAt: null,
  now: Date.parse('2026-11-24T10:00:00Z'),
  ...more,
})

const replied = (...views: ReplyView[]) => commentBody(replyMarker(5), replyOn(replyTo, views))
/** An action of the ticket that was asked for before. */
const before = (more: Partial<ReplyView['ahead'][number]> = {}): ReplyView['ahead'][number] => {
  const { row } = view(null, {}, { kind: 'create', ticket: 'DROP-1', by, replyTo: null })
  if (row === null) throw new Error('no row')
  return { ...row, ...more }
}

test('the status comment of a running machine', () => {
  const comment = statusComment({
    ticket: 'DROP-1',
    mirrored: mirrored({
      environment: environment({
        checkpoints: [
          {
            name: 'push-abc1234',
            why: 'push',
            commit: 'abc1234def',
            createdAt: '2026-11-24T09:10:00.000Z',
            withMemory: true,
            sizeBytes: 1_288_490_189,
          },
          {
            name: 'before',
            why: 'command',
            commit: null,
            createdAt: '2026-11-24T09:20:00.000Z',
            withMemory: false,
            sizeBytes: null,
          },
        ],
      }),
    }),
    runner,
    operations: [
      {
        what: '/swarm delete',
        by,
        at: Date.parse('2026-11-24T09:50:00Z'),
        result: 'refused',
        said: 'not you',
        seconds: null,
      },
      { what: 'restore before', by, at: Date.parse('2026-11-24T09:45:11Z'), result: 'done', said: null, seconds: 3.2 },
      { what: 'start', by, at: Date.parse('2026-11-24T09:44:00Z'), result: 'failed', said: 'no room', seconds: null },
    ] satisfies Operation[],
    deletedAt: null,
    ruleProblems: [],
  })
  expect(commentBody(statusMarker('DROP-1'), comment)).toBe(`<!-- agent-swarm:status:DROP-1 -->
### DROP-1: running

|  |  |
| --- | --- |
| State | **running**, as seen 2026-11-24 09:45:10 UTC |
| Log in | \`agent-swarm ssh DROP-1\` on the runner's machine (\`studio\`), or \`ssh -i ~/.agent-swarm/ssh/login/key -o IdentitiesOnly=yes -o HostKeyAlias=as-drop-1-1a2b3c4d -o UserKnownHostsFile=~/.agent-swarm/ssh/as-drop-1-1a2b3c4d.known_hosts -o StrictHostKeyChecking=yes agent@192.168.122.7\` from there |
| Runner | \`studio\`, last heard 2026-11-24 09:45:11 UTC |
| Provider | kvm |
| Machine | \`as-drop-1-1a2b3c4d\`, made 2026-11-24 09:00:00 UTC from \`agent-swarm-base\`, asked for in Jira by \`dev\` |

Checkpoints, as seen 2026-11-24 09:45:10 UTC:

| checkpoint | why | made | size |
| --- | --- | --- | --- |
| \`before\` | command | 2026-11-24 09:20:00 UTC |  |
| \`push-abc1234\` | push of \`abc1234\`, with memory | 2026-11-24 09:10:00 UTC | 1.2 GiB |

What was asked for last:

- 2026-11-24 09:50:00 UTC: \`/swarm delete\`, asked for on GitHub by \`octocat\`: refused: not you
- 2026-11-24 09:45:11 UTC: \`restore before\`, asked for on GitHub by \`octocat\`: done in 3.2 s
- 2026-11-24 09:44:00 UTC: \`start\`, asked for on GitHub by \`octocat\`: failed: \`no room\`

<sub>Kept up to date by agent-swarm. \`/swarm help\` lists the commands.</sub>
`)
})

test('the comment of a deleted machine tells what was saved first, and where', () => {
  const kept = 'its unsaved work (1 stash in /home/@all) is kept in ~/.agent-swarm/rescued/DROP-1-20261124-094500'
  const comment = statusComment({
    ticket: 'DROP-1',
    mirrored: mirrored({ goneAt: Date.parse('2026-11-24T10:00:00Z') }),
    runner,
    operations: [
      { what: 'delete', by, at: Date.parse('2026-11-24T10:00:00Z'), result: 'done', said: kept, seconds: 3 },
    ],
    deletedAt: null,
    ruleProblems: [],
  })
  expect(commentBody('', comment)).toContain(
    "On its runner's machine (`studio`): its unsaved work \\(1 stash in /home/@\u200ball\\) is kept in \\~/.agent-swarm/rescued/DROP-1-20261124-094500. `rescued.json` there has the commands that bring it back.",
  )
})

const status = (more: Partial<Mirrored>, connected = true) =>
  statusComment({
    ticket: 'DROP-1',
    mirrored: mirrored(more),
    runner: { ...runner, connected },
    operations: [],
    deletedAt: null,
    ruleProblems: [],
  })

test.for([
  ['a deleted machine', { goneAt: Date.parse('2026-11-24T10:00:00Z') }, '### DROP-1: deleted'],
  ['a stopped machine', { environment: environment({ status: 'stopped' }) }, '### DROP-1: stopped'],
  [
    'a synthetic machine, which is none',
    { environment: environment({ provider: 'synthetic' }) },
    'synthetic: no real machine',
  ],
  [
    'another port',
    { environment: environment({ ssh: { host: '127.0.0.1', port: 2222, user: 'agent' } }) },
    '`ssh -i ~/.agent-swarm/ssh/login/key -o IdentitiesOnly=yes -o HostKeyAlias=as-drop-1-1a2b3c4d -o UserKnownHostsFile=~/.agent-swarm/ssh/as-drop-1-1a2b3c4d.known_hosts -o StrictHostKeyChecking=yes -p 2222 agent@127.0.0.1`',
  ],
  [
    'work at risk',
    {
      environment: environment({
        unsavedWork: {
          known: true,
          repositories: [{ path: '/srv/a', uncommitted: 2, untracked: 0, stashes: 0, unpushed: 1 }],
        },
      }),
    },
    '| Work only there | `/srv/a`: 2 uncommitted, 1 unpushed |',
  ],
  [
    'work at risk in more repositories than can be named',
    {
      environment: environment({
        unsavedWork: {
          known: true,
          repositories: Array.from({ length: 200 }, (_, n) => ({
            ...{ path: `/srv/${n}`, uncommitted: 1, untracked: 0, stashes: 0, unpushed: 0 },
          })),
        },
      }),
    },
    '`/srv/9`: 1 uncommitted; 190 more repositories |',
  ],
] as [string, Partial<Mirrored>, string][])('the status comment of %s', ([, more, expected]) => {
  expect(commentBody('', status(more))).toContain(expected)
})

test('a runner that is away is told, with when it was last heard', () => {
  const body = commentBody('', status({}, false))
  expect(body).toContain('The runner on `studio` does not answer: this is how things were when it was last heard.')
  expect(body).toContain('last heard 2026-11-24 09:45:11 UTC')
})

test('a status that was looked at again and is the same has the same fingerprint, and another state another', () => {
  const before = status({})
  const later = status({ environment: environment({ observedAt: '2026-11-24T11:00:00.000Z' }), heardAt: 9 })
  expect(later.fingerprint).toBe(before.fingerprint)
  expect(later.blocks).not.toEqual(before.blocks)
  expect(status({ environment: environment({ status: 'stopped' }) }).fingerprint).not.toBe(before.fingerprint)
})

test.for([
  [
    'a restore',
    view({
      result: 'done',
      summary: 'DROP-1 is back at before; what it replaced is kept as pre-restore-20261124-094500',
      environment: environment(),
      seconds: 4,
    }),
    [
      '`/swarm restore before`',
      'DROP-1 is back at before; what it replaced is kept as pre-restore-20261124-094500. It took 4 s.',
      'agent-swarm ssh DROP-1',
    ],
  ],
  [
    'a checkpoint',
    view({ result: 'done', summary: 'checkpoint before of DROP-1 is made', environment: null, seconds: 0 }, {}, {
      ...restore,
      kind: 'checkpoint',
      why: 'command',
      commit: null,
    } as Action),
    ['It took less than 0.1 s.', '`/swarm restore before` brings it back.'],
  ],
  [
    'a forced delete',
    view({ result: 'done', summary: 'DROP-1 is deleted', environment: null, seconds: 125 }, {}, {
      ...restore,
      kind: 'delete',
      force: true,
    } as Action),
    ['`/swarm delete --force`', 'It took 2 min 5 s.', 'That cannot be taken back.'],
  ],
  [
    'a failure',
    view({
      result: 'failed',
      failure: { kind: 'capacity', message: 'creating DROP-1: 4 GiB needed', remedy: 'Stop another.' },
      environment: null,
    }),
    ['It failed:', '```text\ncreating DROP-1: 4 GiB needed\n```', 'What helps: Stop another.'],
  ],
  [
    'a failure that a command from here mends: it can be copied as it stands',
    view({
      result: 'failed',
      failure: { kind: 'unsaved-work', message: 'DROP-1 is kept and stopped', remedy: 'agent-swarm start DROP-1' },
      environment: null,
    }),
    [
      'It failed:',
      '```text\nDROP-1 is kept and stopped\n```',
      'What helps: agent-swarm start DROP-1',
      'Here: `/swarm start` to look after it, or `/swarm delete --force`, which saves nothing.',
    ],
  ],
  [
    'nothing to do',
    view({ result: 'skipped', reason: 'DROP-1 is running already', environment: null }),
    ['Nothing to do: DROP-1 is running already.'],
  ],
  [
    'a question about what is not there',
    view(
      { result: 'done', summary: 'DROP-1 has no environment', environment: null, seconds: 0 },
      {},
      {
        kind: 'status',
        ticket: 'DROP-1',
        by,
        replyTo,
      },
    ),
    ['DROP-1 has no environment. `/swarm create` makes its machine.'],
  ],
  [
    'a stop that found work',
    view(
      {
        result: 'done',
        summary: 'DROP-1 is stopped',
        environment: environment({
          status: 'stopped',
          unsavedWork: {
            known: true,
            repositories: [{ path: '/srv/shop', uncommitted: 2, untracked: 0, stashes: 0, unpushed: 1 }],
          },
        }),
        seconds: 4,
      },
      {},
      { kind: 'stop', ticket: 'DROP-1', by, replyTo },
    ),
    ['Work only there, when it was looked for last: `/srv/shop`: 2 uncommitted, 1 unpushed.'],
  ],
  ['no runner', view(null, { anyRunner: false }), ['It waits: no runner is connected.', '(2026-11-24 10:00:00 UTC)']],
  ['its runner away', view(null, { pinned: { ...runner, connected: false } }), ['It waits for the runner on `studio`']],
  [
    'one before it, and what that is at',
    view(null, {
      ahead: [before({ state: 'active', progress: { phase: 'ssh', at: '2026-11-24T09:59:30.000Z' } })],
    }),
    ['It waits for `create`, which is under way (`ssh` since 2026-11-24 09:59:30 UTC). (2026-11-24 10:00:00 UTC)'],
  ],
  [
    'several before it',
    view(null, { ahead: [before(), before()] }),
    ['It waits for `create`, which waits too, and 1 more of DROP-1.'],
  ],
  [
    'another try',
    view(null, { row: before({ attempt: 2, notBefore: Date.parse('2026-11-24T10:00:08Z') }) }),
    ['It did not work yet (tried 2 times), and is tried again at 2026-11-24 10:00:08 UTC.'],
  ],
  ['no room', view(null), ['It is the next: a runner takes it as soon as it has room.']],
  [
    'what it is at, since when, and how long it takes',
    view(null, { row: before({ state: 'active', progress: { phase: 'boot', at: '2026-11-24T09:59:20.000Z' } }) }),
    ['It is under way: `boot` since 2026-11-24 09:59:20 UTC (2026-11-24 10:00:00 UTC, 60 s after it was heard).'],
  ],
  ['an action that is forgotten', view(null, { row: null }), ['It is no longer in the queue.']],
] as [string, ReplyView, string[]][])('the reply says: %s', ([, one, expected]) => {
  const body = replied(one)
  expect(body.startsWith('<!-- agent-swarm:reply:5 -->\n')).toBe(true)
  for (const text of expected) expect(body).toContain(text)
})

const question = (about: 'checkpoints' | 'ssh' | null): Action => ({
  kind: 'status',
  ...(about === null ? {} : { about }),
  ticket: 'DROP-1',
  by,
  replyTo,
})
const told = (more: Partial<Environment> = {}): Outcome => ({
  result: 'done',
  summary: 'DROP-1 is running',
  environment: environment({ ssh: { host: '127.0.0.1', port: 2222, user: 'agent' }, ...more }),
  seconds: 0.2,
})
test('/swarm ssh says whether it runs, where, and how to enter it, and how old that is', () => {
  expect(replied(view(told(), { host: 'studio' }, question('ssh')))).toBe(`<!-- agent-swarm:reply:5 -->
\`/swarm ssh\`

DROP-1 is running, as seen 2026-11-24 09:45:10 UTC. Its SSH is at \`127.0.0.1:2222\`.

Log in with \`agent-swarm ssh DROP-1\` on the runner's machine (\`studio\`), or \`ssh -i ~/.agent-swarm/ssh/login/key -o IdentitiesOnly=yes -o HostKeyAlias=as-drop-1-1a2b3c4d -o UserKnownHostsFile=~/.agent-swarm/ssh/as-drop-1-1a2b3c4d.known_hosts -o StrictHostKeyChecking=yes -p 2222 agent@127.0.0.1\` from there.
`)
  expect(replied(view(told({ status: 'stopped' }), {}, question('ssh')))).toContain(
    'DROP-1 is stopped, as seen 2026-11-24 09:45:10 UTC.\n\nIt is stopped: `/swarm start` starts it.',
  )
})
test('/swarm checkpoints lists them, and nothing else', () => {
  const body = replied(view(told(), {}, question('checkpoints')))
  expect(body).toContain('`/swarm checkpoints`\n\nNo checkpoints yet')
  expect(body).not.toContain('Log in')
})
test('a question that nobody can answer just now is answered with what was told last', () => {
  const body = replied(view(null, { anyRunner: false, known: environment() }, question(null)))
  expect(body).toContain('It waits: no runner is connected.')
  expect(body).toContain('Until then, what was told last:\n\nDROP-1 is running, as seen 2026-11-24 09:45:10 UTC.')
})
test('a command that waited long says how long it took in all', () => {
  const one = view({ result: 'done', summary: 'DROP-1 is started', environment: null, seconds: 4 })
  const command = { ...one.command, endedAt: one.command.at + 130_000 }
  expect(replied({ ...one, command })).toContain('DROP-1 is started. It took 4 s (2 min 10 s with the wait).')
})
test('what goes on is told anew when something changes, and once a minute', () => {
  const at = (seconds: number, phase: string) =>
    replyOn(replyTo, [
      view(null, {
        row: before({ state: 'active', progress: { phase, at: '2026-11-24T09:59:20.000Z' } }),
        now: Date.parse('2026-11-24T10:00:00Z') + seconds * 1000,
      }),
    ]).fingerprint
  expect(at(50, 'boot')).toBe(at(0, 'boot'))
  expect(at(0, 'ssh')).not.toBe(at(0, 'boot'))
  expect(at(60, 'boot')).not.toBe(at(0, 'boot'))
})
test('a delete that comes after some minutes of grace is told, and what keeps the machine', () => {
  const deletedAt = Date.parse('2026-11-24T10:30:00Z')
  const comment = statusComment({
    ticket: 'DROP-1',
    mirrored: mirrored(),
    runner,
    operations: [],
    deletedAt,
    ruleProblems: [],
  })
  expect(commentBody('', comment)).toContain(
    'Its pull request is merged: it will be deleted at 2026-11-24 10:30:00 UTC. `/swarm start` keeps it.',
  )
})
test('in the minutes of grace an answer says so, and what calls the delete off says that', () => {
  const asked: Action = { kind: 'status', ticket: 'DROP-1', by, replyTo }
  const seen: Outcome = { result: 'done', summary: '', environment: environment(), seconds: 0 }
  expect(replied(view(seen, { deletedAt: Date.parse('2026-11-24T10:30:00Z') }, asked))).toContain(
    'Its pull request is merged: it will be deleted at 2026-11-24 10:30:00 UTC. `/swarm start` keeps it.',
  )
  const start: Action = { kind: 'start', ticket: 'DROP-1', by, replyTo }
  const running: Outcome = { result: 'skipped', reason: 'DROP-1 is running already', environment: environment() }
  const off = 'The delete that was to follow the merge is called off.'
  expect(replied(view(running, {}, start))).not.toContain(off)
  expect(replied(view(running, {}, { ...start, cancelsDelete: true }))).toContain(
    `Nothing to do: DROP-1 is running already.\n\n${off}`,
  )
})
test('where work was looked for and none is at risk, that is said', () => {
  const workAtRisk = { known: true, repositories: [] } as const
  const stopped = environment({ status: 'stopped', unsavedWork: { ...workAtRisk, repositories: [] } })
  const stop: Action = { kind: 'stop', ticket: 'DROP-1', by, replyTo }
  expect(
    replied(view({ result: 'done', summary: 'DROP-1 is stopped', environment: stopped, seconds: 1 }, {}, stop)),
  ).toContain('Work only there, when it was looked for last: none.')
  expect(commentBody('', status({ environment: stopped }))).toContain('| Work only there | none |')
})
test('a checkpoint without a name is told by the one that it got', () => {
  const [why, commit, withMemory, sizeBytes] = ['command', null, true, null] as const
  const made = { name: '20261124-095900', createdAt: '2026-11-24T09:59:00.000Z', why, commit, withMemory, sizeBytes }
  const outcome: Outcome = {
    ...{ result: 'done', summary: 'checkpoint 20261124-095900 of DROP-1 is made', seconds: 1 },
    environment: environment({ checkpoints: [{ ...made, name: 'older' }, made] }),
  }
  const action: Action = { kind: 'checkpoint', name: null, why, commit, ticket: 'DROP-1', by, replyTo }
  expect(replied(view(outcome, {}, action))).toContain('`/swarm restore 20261124-095900` brings it back.')
})
test('the commands are listed once, however many ask for them, behind what was answered', () => {
  const told = (text: string, help: boolean): ReplyView => ({
    ...view(null),
    command: { ...view(null).command, action: null, said: { text, help } },
  })
  const body = replied(told('', true), told('There is no command `fly`.', true), told('', true))
  expect(body.match(/Commands, each/g)).toHaveLength(1)
  expect(body).toMatch(/^<!--.*-->\nThere is no command `fly`\.\n\n---\n\nCommands, each/)
  expect(replied(told('', true))).toMatch(/^<!--.*-->\nCommands, each/)
})
test('times of a runner that are none break nothing', () => {
  const { blocks } = status({ environment: environment({ observedAt: 'soon', createdAt: '' }) })
  expect(JSON.stringify(blocks)).toContain('at a time that is not known')
})
test('in Jira the answer names the comment, and help leaves out what is of pull requests alone', () => {
  const { blocks } = replyOn({ ticket: 'DROP-1', commentId: '10001' }, [
    { ...view(null, {}, restore), command: { ...view(null).command, action: null, said: { text: '', help: true } } },
  ])
  expect(blocks[0]).toEqual({ line: [{ ours: 'Answer to comment 10001:' }] })
  const text = JSON.stringify(adf(blocks))
  expect(text).toContain('/swarm restore [name]')
  expect(text).not.toContain('/swarm allow')
})
test('a pull request as Jira links it', () => {
  const link = {
    repo: 'acme/shop',
    number: 7,
    ticket: 'DROP-1',
    branch: 'drop-1-login',
    state: 'merged',
    closedAt: null,
  } as const
  expect(remoteLink(link, 'https://github.com')).toEqual({
    globalId: 'agent-swarm:https://github.com/acme/shop/pull/7',
    relationship: 'pull request',
    object: {
      url: 'https://github.com/acme/shop/pull/7',
      title: 'acme/shop#7',
      summary: 'drop-1-login (merged)',
      status: { resolved: true },
    },
  })
})

test('what Jira is told', () => {
  expect(adf(plainBlocks(readyText(environment({ provider: 'synthetic' }), 'studio'))).content).toEqual([
    {
      type: 'paragraph',
      content: [
        {
          type: 'text',
          text: "DROP-1 has its machine: as-drop-1-1a2b3c4d (synthetic: no real machine). On the runner's machine (studio):",
        },
      ],
    },
    {
      type: 'codeBlock',
      content: [
        {
          type: 'text',
          text: 'agent-swarm ssh DROP-1\nssh -i ~/.agent-swarm/ssh/login/key -o IdentitiesOnly=yes -o HostKeyAlias=as-drop-1-1a2b3c4d -o UserKnownHostsFile=~/.agent-swarm/ssh/as-drop-1-1a2b3c4d.known_hosts -o StrictHostKeyChecking=yes agent@192.168.122.7',
        },
      ],
    },
  ])
  const failure = { kind: 'capacity', message: 'creating DROP-1: no room', remedy: 'Stop another.' } as const
  expect(
    adf(plainBlocks(failedText({ ...restore, kind: 'create' } as Action, failure))).content.map(one => one.type),
  ).toEqual(['paragraph', 'codeBlock', 'paragraph'])
})

test('rules with mistakes stand in the status comment, and nothing in them works as Markdown', () => {
  const ruleProblems = ['.github/agent-swarm.yml:1: @everyone is no setting <b>', 'x ``` [y](http://evil.example)']
  const view = { ticket: 'DROP-1', mirrored: mirrored(), runner, operations: [], deletedAt: null, ruleProblems }
  const body = commentBody('', statusComment(view))
  expect(body).toContain('The rules of this repository have mistakes.')
  expect(body).toMatch(
    /````(text)?\n\.github\/agent-swarm\.yml:1: @everyone is no setting <b>\nx ``` \[y\]\(http:\/\/evil\.example\)\n````/,
  )
})
