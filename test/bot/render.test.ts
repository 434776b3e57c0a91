import { fromMarkdown } from 'mdast-util-from-markdown'
import { expect, test } from 'vitest'
import type { HeardCommand, Mirrored } from '../../src/bot/memory.ts'
import {
  adf,
  code,
  escaped,
  failedText,
  type ReplyView,
  readyText,
  replyComment,
  statusComment,
} from '../../src/bot/render.ts'
import type { Action, Environment, Outcome } from '../../src/domain.ts'

const environment = (more: Partial<Environment> = {}): Environment => ({
  ticket: 'DROP-1',
  provider: 'kvm',
  vmId: 'as-drop-1-1a2b3c4d',
  ip: '192.168.122.7',
  status: 'running',
  baseImage: 'agent-swarm-base',
  createdAt: '2026-11-24T09:00:00.000Z',
  createdBy: { via: 'cli', who: null },
  ssh: { host: '192.168.122.7', port: 22, user: 'agent' },
  checkpoints: [],
  workAtRisk: null,
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
  command: { ...replyTo, at: 0, actionId: 'github:d1:0', action, said: null, outcome, ok: null } satisfies HeardCommand,
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
  ahead: 0,
  pinned: null,
  anyRunner: true,
  now: Date.parse('2026-11-24T10:00:00Z'),
  ...more,
})

test('the status comment of a running machine', () => {
  const { body } = statusComment({
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
            sizeBytes: null,
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
    last: {
      action: restore,
      outcome: { result: 'done', said: 'x', environment: null, seconds: 3.2 },
      at: Date.parse('2026-11-24T09:45:11Z'),
    },
  })
  expect(body).toBe(`<!-- agent-swarm:status:DROP-1 -->
### DROP-1: running

| | |
| --- | --- |
| State | **running**, as seen 2026-11-24 09:45:10 UTC |
| Log in | \`agent-swarm ssh DROP-1\` on the runner's machine (\`studio\`), or \`ssh -i ~/.agent-swarm/ssh/login/key agent@192.168.122.7\` from there |
| Provider | kvm |
| Machine | \`as-drop-1-1a2b3c4d\`, made 2026-11-24 09:00:00 UTC from \`agent-swarm-base\` |
| Last action | \`restore before\`, asked for on GitHub by \`octocat\`: done in 3.2 s (2026-11-24 09:45:11 UTC) |

| checkpoint | why | made |
| --- | --- | --- |
| \`before\` | command | 2026-11-24 09:20:00 UTC |
| \`push-abc1234\` | push of \`abc1234\`, with memory | 2026-11-24 09:10:00 UTC |

<sub>Kept up to date by agent-swarm. \`/swarm help\` lists the commands.</sub>
`)
})

test('the comment of a deleted machine tells what was saved first, and where', () => {
  const { body } = statusComment({
    ticket: 'DROP-1',
    mirrored: mirrored({ goneAt: Date.parse('2026-11-24T10:00:00Z') }),
    runner,
    last: {
      action: { kind: 'delete', force: false, ticket: 'DROP-1', by: restore.by, replyTo: null },
      outcome: {
        result: 'done',
        said: 'x',
        environment: null,
        seconds: 3,
        kept: 'its unsaved work (1 stash in /home/@all) is kept in ~/.agent-swarm/rescued/DROP-1-20261124-094500',
      },
      at: Date.parse('2026-11-24T10:00:00Z'),
    },
  })
  expect(body).toContain(
    "On its runner's machine (`studio`): its unsaved work \\(1 stash in /home/@\u200ball\\) is kept in \\~/.agent-swarm/rescued/DROP-1-20261124-094500.",
  )
})

const status = (more: Partial<Mirrored>, connected = true) =>
  statusComment({ ticket: 'DROP-1', mirrored: mirrored(more), runner: { ...runner, connected }, last: null })

test.for([
  ['a deleted machine', { goneAt: Date.parse('2026-11-24T10:00:00Z') }, '### DROP-1: deleted'],
  ['a stopped machine', { environment: environment({ status: 'stopped' }) }, '### DROP-1: stopped'],
  [
    'a synthetic machine, which is none',
    { environment: environment({ provider: 'synthetic' }) },
    'synthetic (no real machine)',
  ],
  [
    'another port',
    { environment: environment({ ssh: { host: '127.0.0.1', port: 2222, user: 'agent' } }) },
    '`ssh -i ~/.agent-swarm/ssh/login/key -p 2222 agent@127.0.0.1`',
  ],
  [
    'work at risk',
    {
      environment: environment({
        workAtRisk: {
          known: true,
          repositories: [{ path: '/srv/a', uncommitted: 2, untracked: 0, stashes: 0, unpushed: 1 }],
        },
      }),
    },
    '| Work only there | `/srv/a`: 2 uncommitted, 1 unpushed |',
  ],
] as [string, Partial<Mirrored>, string][])('the status comment of %s', ([, more, expected]) => {
  expect(status(more).body).toContain(expected)
})

test('a runner that is away is told, with when it was last heard', () => {
  expect(status({}, false).body).toContain(
    'The runner on `studio` does not answer; it was last heard 2026-11-24 09:45:11 UTC.',
  )
})

test('a status that was looked at again and is the same has the same fingerprint, and another state another', () => {
  const before = status({})
  const later = status({ environment: environment({ observedAt: '2026-11-24T11:00:00.000Z' }), heardAt: 9 })
  expect(later.fingerprint).toBe(before.fingerprint)
  expect(later.body).not.toBe(before.body)
  expect(status({ environment: environment({ status: 'stopped' }) }).fingerprint).not.toBe(before.fingerprint)
})

test.for([
  [
    'a restore',
    view({
      result: 'done',
      said: 'DROP-1 is back at before; what it replaced is kept as pre-restore-20261124-094500',
      environment: environment(),
      seconds: 4,
    }),
    [
      '**`/swarm restore before`**',
      'DROP-1 is back at before; what it replaced is kept as pre-restore-20261124-094500. It took 4 s.',
      'agent-swarm ssh DROP-1',
    ],
  ],
  [
    'a checkpoint',
    view({ result: 'done', said: 'checkpoint before of DROP-1 is made', environment: null, seconds: 0 }, {}, {
      ...restore,
      kind: 'checkpoint',
      why: 'command',
      commit: null,
    } as Action),
    ['It took less than 0.1 s.', '`/swarm restore before` brings it back.'],
  ],
  [
    'a forced delete',
    view({ result: 'done', said: 'DROP-1 is deleted', environment: null, seconds: 125 }, {}, {
      ...restore,
      kind: 'delete',
      force: true,
    } as Action),
    ['**`/swarm delete --force`**', 'It took 2 min 5 s.', 'That cannot be taken back.'],
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
    'nothing to do',
    view({ result: 'skipped', because: 'DROP-1 is running already', environment: null }),
    ['Nothing to do: DROP-1 is running already.'],
  ],
  ['no runner', view(null, { anyRunner: false }), ['It waits: no runner is connected.', '(2026-11-24 10:00:00 UTC)']],
  ['its runner away', view(null, { pinned: { ...runner, connected: false } }), ['It waits for the runner on `studio`']],
  ['others before it', view(null, { ahead: 2 }), ['It waits for 2 earlier actions of DROP-1.']],
  ['an action that is forgotten', view(null, { row: null }), ['It is no longer in the queue.']],
] as [string, ReplyView, string[]][])('the reply says: %s', ([, one, expected]) => {
  const { body } = replyComment(5, [one])
  expect(body.startsWith('<!-- agent-swarm:reply:5 -->\n')).toBe(true)
  for (const text of expected) expect(body).toContain(text)
})

const hostile = [
  '@octocat look',
  '<img src=x onerror=alert(1)>',
  '[click](http://evil.example)',
  '![pixel](https://evil.example/p.png)',
  'see https://evil.example or www.evil.example',
  '<!-- agent-swarm:status:DROP-1 -->',
  '`` ` ``` ```` text',
  '</details>\n\n# heading\n\n> quote\n| a | b |\n| - | - |',
  '```\n@octocat out of the block\n```',
  'a\u202eb\u0000c\u200b',
  '*bold* _it_ ~~gone~~ $x$ #12 &amp;',
]
/** Every kind of thing that Markdown made out of a text. */
const made = (markdown: string): Set<string> => {
  const found = new Set<string>()
  const walk = (node: { type: string; children?: unknown[] }) => {
    found.add(node.type)
    for (const child of node.children ?? []) walk(child as { type: string; children?: unknown[] })
  }
  walk(fromMarkdown(markdown))
  return found
}

test.for(hostile)('outside text stays text: %j', text => {
  expect(made(`said: ${escaped(text)}.`)).toEqual(new Set(['root', 'paragraph', 'text']))
  expect(escaped(text)).not.toMatch(/@(?!\u200b)|#(?!\u200b)|:\/\/|\n/)
  expect(made(`said: ${code(text)}.`)).toEqual(new Set(['root', 'paragraph', 'text', 'inlineCode']))
  const failure = { kind: 'unknown', message: text, remedy: text } as const
  const reply = replyComment(5, [view({ result: 'failed', failure, environment: null })]).body
  expect(made(reply.slice(reply.indexOf('\n')))).toEqual(
    new Set(['root', 'paragraph', 'strong', 'inlineCode', 'text', 'code']),
  )
})

test('a huge message is cut', () => {
  const failure = { kind: 'unknown', message: 'x'.repeat(1_000_000), remedy: null } as const
  expect(replyComment(5, [view({ result: 'failed', failure, environment: null })]).body.length).toBeLessThan(3_000)
})

test('what Jira is told', () => {
  expect(adf(readyText(environment({ provider: 'synthetic' }), 'studio')).content).toEqual([
    {
      type: 'paragraph',
      content: [
        {
          type: 'text',
          text: "DROP-1 has its machine: as-drop-1-1a2b3c4d (synthetic (no real machine)). On the runner's machine (studio):",
        },
      ],
    },
    {
      type: 'codeBlock',
      content: [
        { type: 'text', text: 'agent-swarm ssh DROP-1\nssh -i ~/.agent-swarm/ssh/login/key agent@192.168.122.7' },
      ],
    },
  ])
  const failure = { kind: 'capacity', message: 'creating DROP-1: no room', remedy: 'Stop another.' } as const
  expect(adf(failedText({ ...restore, kind: 'create' } as Action, failure)).content.map(one => one.type)).toEqual([
    'paragraph',
    'codeBlock',
    'paragraph',
  ])
})
