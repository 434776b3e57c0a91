import { expect, test } from 'vitest'
import { type Facts, type Rules, UNFIT_EDITED } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import { type EventOf, pullRequestNow, rules, summarize } from './fixtures.ts'

const event = (body: string, more: Partial<EventOf<'comment'>> = {}): EventOf<'comment'> => ({
  kind: 'comment',
  pullRequest: { repo: 'acme/shop', number: 1 },
  commentId: 9,
  body,
  author: 'dev',
  authorIsBot: false,
  unfit: null,
  at: null,
  ...more,
})
const facts = (more: Partial<Facts['comment']> = {}): Facts['comment'] => ({
  permission: 'write',
  teams: [],
  now: pullRequestNow(),
  allowed: null,
  since: { personRequest: null, lastRequest: null, moves: [] },
  ...more,
})
const branch = (name: string) => ({ now: pullRequestNow({ branch: name }) })

test.for<[string, string, Partial<Facts['comment']>, string]>([
  ['a command', '/swarm create', {}, 'create DROP-1'],
  ['several, in order', '/swarm checkpoint a\n/swarm restore a', {}, 'checkpoint DROP-1 a, restore DROP-1 a'],
  ['upper case', '/swarm Checkpoint Before', {}, 'checkpoint DROP-1 before'],
  ['delete', '/swarm delete', {}, 'delete DROP-1'],
  ['delete --force', '/swarm delete --force', {}, 'delete DROP-1 --force'],
  ['an unknown flag', '/swarm delete --hard', {}, 'no: Usage: `/swarm delete [--force'],
  ['too many words', '/swarm stop now', {}, 'no: Usage: `/swarm stop [--save]`,'],
  ['an invalid name', '/swarm checkpoint ../x', {}, 'no: `../x` is not a valid checkpoi'],
  ['a mistyped command', '/swarm chekpoint', {}, 'no: Unknown command `chekpoint`. D'],
  ['help', '/swarm help', {}, 'reply'],
  ['no word after /swarm', '/swarm', {}, 'reply'],
  ['no command', 'nice', {}, 'ignored: no command in the comment'],
  ['an admin', '/swarm stop', { permission: 'admin' }, 'stop DROP-1'],
  [
    'a reader',
    '/swarm stop',
    { permission: 'read' },
    'refused: dev has no write access: only people with write access may give commands',
  ],
  [
    'a stranger',
    '/swarm help',
    { permission: 'none' },
    'refused: dev has no write access: only people with write access may give commands',
  ],
  ['no ticket', '/swarm create', branch('x'), 'no: This pull request names no tic'],
  ['a pull request that is gone', '/swarm create', { now: null }, 'ignored: the pull request does not exist any more'],
  [
    'a stranger, on a pull request that is gone',
    '/swarm create',
    { now: null, permission: 'read' },
    'refused: dev has no write access: only people with write access may give commands',
  ],
])('comment: %s', ([, body, more, expected]) =>
  expect(summarize(handlers.comment(event(body), facts(more), rules))).toBe(expected),
)

test('a bot with write access is refused', () =>
  expect(summarize(handlers.comment(event('/swarm stop', { authorIsBot: true }), facts(), rules))).toBe(
    'refused: bots cannot give commands: only people may',
  ))

const head = 'a'.repeat(40)
const fork = (more: Partial<Facts['comment']> = {}) =>
  facts({ now: pullRequestNow({ fromFork: true, headSha: head }), ...more })

test.for<[string, string, Facts['comment'], string]>([
  ['no commit is allowed', '/swarm create', fork(), 'no: This pull request is from a fo'],
  ['help', '/swarm help', fork(), 'reply'],
  ['its head was allowed before', '/swarm create', fork({ allowed: head }), `create DROP-1 at ${head}`],
  [
    'another commit was allowed',
    '/swarm create',
    fork({ allowed: 'b'.repeat(40) }),
    'no: This pull request is from a fo',
  ],
  [
    'its head is allowed now',
    `/swarm allow ${head}\n/swarm create`,
    fork(),
    `create DROP-1 at ${head}, reply, allow ${head}`,
  ],
  ['upper case', `/swarm allow ${head.toUpperCase()}`, fork(), `reply, allow ${head}`],
  [
    'a commit that is not its head',
    `/swarm allow ${'b'.repeat(40)}\n/swarm create`,
    fork(),
    'no: Not allowed: `bbbbbbbbbb` is n, no: This pull request is from a fo',
  ],
  ['a short commit id', `/swarm allow ${head.slice(0, 12)}`, fork(), 'no: Give the full commit id (40 di'],
  ['no commit id', '/swarm allow', fork(), 'no: Give the full commit id (40 di'],
  [
    'a reader',
    `/swarm allow ${head}`,
    fork({ permission: 'read' }),
    'refused: dev has no write access: only people with write access may give commands',
  ],
  ['a pull request that is not from a fork', `/swarm allow ${head}`, facts(), 'no: This pull request is not from '],
])('from a fork: %s', ([, body, given, expected]) => {
  const decision = handlers.comment(event(body), given, rules)
  const [action] = decision.verdict === 'act' ? decision.actions : []
  expect(summarize(decision).replace('create DROP-1', `create DROP-1 at ${action?.onlyAt}`)).toBe(expected)
})

const narrowed: Rules = { ...rules, commands: { delete: ['Boss', 'acme/ops'], restore: [] } }
const answer = (body: string, given: Facts['comment'], more = narrowed) => {
  const decision = handlers.comment(event(body), given, more)
  const [reply] = decision.verdict === 'act' ? decision.replies : []
  return reply === undefined || reply.ok ? summarize(decision) : reply.text
}
const ONLY = 'Not allowed: only `Boss`, `acme/ops` may use `delete` here (.github/agent-swarm.yml).'

test.for<[string, string, Partial<Facts['comment']>, string]>([
  ['a command without a rule', '/swarm stop', {}, 'stop DROP-1'],
  ['somebody who is not named', '/swarm delete', {}, ONLY],
  ['in a team that is named', '/swarm delete', { teams: ['acme/ops'] }, 'delete DROP-1'],
  [
    'teams that cannot be read',
    '/swarm delete',
    { teams: null },
    `${ONLY} Team members cannot be read: the App needs the permission to read members.`,
  ],
  ['an admin needs to be named too', '/swarm delete', { permission: 'admin' }, ONLY],
  [
    'nobody is named',
    '/swarm restore',
    { permission: 'admin' },
    'Not allowed: nobody may use `restore` here (.github/agent-swarm.yml).',
  ],
  ['help is for everybody', '/swarm help', {}, 'reply'],
])('a rule for a command: %s', ([, body, more, expected]) => expect(answer(body, facts(more))).toBe(expected))

test('of many names in a rule, the first five are listed', () => {
  const many = { ...rules, commands: { stop: ['a', 'b', 'c', 'd', 'e', 'f', 'g'] } }
  expect(answer('/swarm stop', facts(), many)).toContain('only `a`, `b`, `c`, `d`, `e`, 2 more may use `stop`')
})

test.for<[string, Partial<Rules>, string]>([
  [
    'the branch is not served',
    { branches: ['feature/*'] },
    'This branch is not served here: `.github/agent-swarm.yml`',
  ],
  ['no project is served', { projects: [] }, 'This repository serves no project: `JIRA_PROJECTS` of the bot'],
  ['another project', { projects: ['WEB'] }, 'This pull request names no ticket. Put its key (`WEB-123`)'],
])('why a pull request has no ticket: %s', ([, more, expected]) =>
  expect(answer('/swarm stop', facts(), { ...rules, ...more })).toContain(expected),
)

test.for(['revert-1-DROP-1', 'dependabot/npm/DROP-1'])('a pull request of the branch %s is about no ticket', branch =>
  expect(answer('/swarm delete --force', facts({ now: pullRequestNow({ branch, title: 'DROP-1' }) }), rules)).toContain(
    'Pull requests of bots, of dependencies or of a revert, are about no ticket.',
  ),
)

test('somebody who is named in any case may, and only with write access', () => {
  const boss = event('/swarm delete', { author: 'boss' })
  expect(summarize(handlers.comment(boss, facts(), narrowed))).toBe('delete DROP-1')
  expect(summarize(handlers.comment(boss, facts({ permission: 'read' }), narrowed))).toBe(
    'refused: boss has no write access: only people with write access may give commands',
  )
})

test('a comment that cannot give commands is refused, whoever wrote it; without a command it is ignored', () => {
  const edited = { unfit: UNFIT_EDITED }
  const admin = facts({ permission: 'admin' })
  expect(summarize(handlers.comment(event('/swarm stop', edited), admin, rules))).toBe(`refused: ${UNFIT_EDITED}`)
  expect(summarize(handlers.comment(event('nice', edited), admin, rules))).toBe('ignored: no command in the comment')
})

test('a refusal is recorded for the audit log, with who and what', () => {
  expect(handlers.comment(event('/swarm delete --force\n/swarm stop'), facts({ permission: 'none' }), rules)).toEqual({
    verdict: 'refused',
    reason: 'dev has no write access: only people with write access may give commands',
    refusals: [
      {
        by: { via: 'github', who: 'dev', cause: 'command' },
        line: null,
        what: '/swarm delete --force; /swarm stop',
        reason: 'dev has no write access: only people with write access may give commands',
        ticket: null,
      },
    ],
  })
  expect(handlers.comment(event('/swarm delete'), facts(), narrowed)).toMatchObject({
    refusals: [
      {
        line: 0,
        what: '/swarm delete',
        reason: 'only `Boss`, `acme/ops` may use `delete` here (.github/agent-swarm.yml)',
        ticket: 'DROP-1',
      },
    ],
  })
})

test('of more than ten commands, ten run, and a reply says so', () => {
  const decision = handlers.comment(event(Array(13).fill('/swarm status').join('\n')), facts(), rules)
  expect(decision).toMatchObject({
    verdict: 'act',
    actions: { length: 10 },
    replies: [{ ok: false, text: 'One comment can give at most 10 commands; the last 3 were skipped.' }],
  })
})

test('each answer has the line of its command', () => {
  const decision = handlers.comment(event('/swarm nonsense-here\n/swarm stop'), facts(), rules)
  expect(decision).toMatchObject({
    actions: [{ replyTo: { line: 1, commentId: 9, repo: 'acme/shop', number: 1 }, by: { via: 'github', who: 'dev' } }],
    replies: [{ to: { line: 0 }, what: '/swarm nonsense-here' }],
  })
})

test('an answer repeats no Markdown', () => {
  const lines = ['/swarm checkpoint ../everyone!', '/swarm |x|', '/swarm fork from Bad_Name']
  const decision = handlers.comment(event(lines.join('\n')), facts(), rules)
  if (decision.verdict !== 'act') throw new Error('no answer')
  expect(decision.replies.map(({ text }) => text)).toEqual([
    expect.stringMatching(/^`\.\.\/everyone\?` is not a valid checkpoint name/),
    'Unknown command `?x?`.',
    expect.stringMatching(/^`Bad_Name` is not a valid checkpoint name/),
  ])
})

test('who may not command gets no answer; a colleague gets a sign that it was read, and only for a command', () => {
  const decided = (body: string, more: Partial<Facts['comment']>) =>
    handlers.comment(event(body), facts({ permission: 'read', ...more }), rules)
  expect(decided('/swarm stop', {})).not.toHaveProperty('isShown')
  expect(decided('/swarm stop', { isColleague: true })).toMatchObject({ verdict: 'refused', isShown: true })
  // The Markdown of strangers is not read: what they quote counts as refused.
  expect(decided('```\n/swarm stop\n```', {})).toMatchObject({ verdict: 'refused' })
  expect(decided('```\n/swarm stop\n```', { isColleague: true })).toMatchObject({ verdict: 'ignored' })
})
