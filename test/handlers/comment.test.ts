import { describe, expect, test } from 'vitest'
import type { Facts, Rules } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import { now, type Of, rules, said } from './fixtures.ts'

describe('comment', () => {
  const event = (body: string, more: Partial<Of<'comment'>> = {}): Of<'comment'> => ({
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
    now: now(),
    allowed: null,
    since: { personRequest: null, lastRequest: null, moves: [] },
    ...more,
  })
  test.for<[string, Of<'comment'>, Facts['comment'], string]>([
    ['a command', event('/swarm create'), facts(), 'create DROP-1'],
    [
      'several, in order',
      event('/swarm checkpoint a\n/swarm restore a'),
      facts(),
      'checkpoint DROP-1 a, restore DROP-1 a',
    ],
    ['upper case', event('/swarm Checkpoint Before'), facts(), 'checkpoint DROP-1 before'],
    ['delete', event('/swarm delete'), facts(), 'delete DROP-1'],
    ['delete --force', event('/swarm delete --force'), facts(), 'delete DROP-1 --force'],
    ['a flag that is none', event('/swarm delete --hard'), facts(), 'no: That is not how `delete` is us'],
    ['too many words', event('/swarm stop now'), facts(), 'no: That is not how `stop` is used'],
    ['a name that cannot be', event('/swarm checkpoint ../x'), facts(), 'no: `../x` is no checkpoint name. '],
    ['a mistyped command', event('/swarm chekpoint'), facts(), 'no: There is no command `chekpoint'],
    ['help', event('/swarm help'), facts(), 'reply'],
    ['the bare word', event('/swarm'), facts(), 'reply'],
    ['no command', event('nice'), facts(), 'ignored: no command in the comment'],
    ['an admin', event('/swarm stop'), facts({ permission: 'admin' }), 'stop DROP-1'],
    ['a reader', event('/swarm stop'), facts({ permission: 'read' }), 'refused: dev has no write access'],
    ['a stranger', event('/swarm help'), facts({ permission: 'none' }), 'refused: dev has no write access'],
    ['a bot that may write', event('/swarm stop', { authorIsBot: true }), facts(), 'refused: a bot gives no commands'],
    ['no ticket', event('/swarm create'), facts({ now: now({ branch: 'x' }) }), 'no: This pull request names no tic'],
    ['a pull request that is gone', event('/swarm create'), facts({ now: null }), 'ignored: the pull request is gone'],
    [
      'a stranger, on one that is gone',
      event('/swarm create'),
      facts({ now: null, permission: 'read' }),
      'refused: dev has no write access',
    ],
  ])('%s', ([, given, known, expected]) => expect(said(handlers.comment(given, known, rules))).toBe(expected))

  const head = 'a'.repeat(40)
  const fork = (more: Partial<Facts['comment']> = {}) => facts({ now: now({ fromFork: true, headSha: head }), ...more })
  test.for<[string, string, Facts['comment'], string]>([
    ['nothing allowed', '/swarm create', fork(), 'no: This pull request comes from a'],
    ['help', '/swarm help', fork(), 'reply'],
    ['its head allowed before', '/swarm create', fork({ allowed: head }), `create DROP-1 at ${head}`],
    [
      'another commit allowed before',
      '/swarm create',
      fork({ allowed: 'b'.repeat(40) }),
      'no: This pull request comes from a',
    ],
    [
      'its head allowed now',
      `/swarm allow ${head}\n/swarm create`,
      fork(),
      `create DROP-1 at ${head}, reply, allow ${head}`,
    ],
    ['upper case', `/swarm allow ${head.toUpperCase()}`, fork(), `reply, allow ${head}`],
    [
      'a commit that is not its head',
      `/swarm allow ${'b'.repeat(40)}\n/swarm create`,
      fork(),
      'no: Not allowed: `bbbbbbbbbb` is n, no: This pull request comes from a',
    ],
    [
      'a shortened commit, which another can be made to fit',
      `/swarm allow ${head.slice(0, 12)}`,
      fork(),
      'no: Name the commit in full, with ',
    ],
    ['no commit', '/swarm allow', fork(), 'no: Name the commit in full, with '],
    ['a reader', `/swarm allow ${head}`, fork({ permission: 'read' }), 'refused: dev has no write access'],
    ['no fork', `/swarm allow ${head}`, facts(), 'no: This pull request comes from n'],
  ])('from a fork: %s', ([, body, known, expected]) => {
    const decision = handlers.comment(event(body), known, rules)
    const allow = decision.verdict === 'act' && decision.allow !== null ? `, allow ${decision.allow}` : ''
    const at = decision.verdict === 'act' ? decision.actions.map(one => one.onlyAt) : []
    expect(`${said(decision).replace('create DROP-1', `create DROP-1 at ${at[0]}`)}${allow}`).toBe(expected)
  })

  const narrowed: Rules = { ...rules, commands: { delete: ['Boss', 'acme/ops'], restore: [] } }
  test.for<[string, string, Facts['comment'], string]>([
    ['a command without a rule', '/swarm stop', facts(), 'stop DROP-1'],
    ['one that is not named', '/swarm delete', facts(), 'no: Not done: a rule keeps the com'],
    ['in a team that is named', '/swarm delete', facts({ teams: ['acme/ops'] }), 'delete DROP-1'],
    ['teams that cannot be read', '/swarm delete', facts({ teams: null }), 'no: Not done: a rule keeps the com'],
    [
      'an admin is named like anybody',
      '/swarm delete',
      facts({ permission: 'admin' }),
      'no: Not done: a rule keeps the com',
    ],
    ['named for nobody', '/swarm restore', facts({ permission: 'admin' }), 'no: Not done: a rule keeps the com'],
    ['help is for all', '/swarm help', facts(), 'reply'],
  ])('a rule for a command: %s', ([, body, known, expected]) =>
    expect(said(handlers.comment(event(body), known, narrowed))).toBe(expected),
  )
  test.for<[string, Partial<Rules>, string]>([
    ['a branch that does not count', { branches: ['feature/*'] }, 'no: The branch of this pull reques'],
    ['no project that counts', { projects: [] }, 'no: No project counts here: `.gith'],
    ['a project of others', { projects: ['WEB'] }, 'no: This pull request names no tic'],
  ])('why a pull request is about no ticket: %s', ([, more, expected]) =>
    expect(said(handlers.comment(event('/swarm stop'), facts(), { ...rules, ...more }))).toBe(expected),
  )
  test('somebody who is named may, whatever the case, and only with write access', () => {
    const boss = event('/swarm delete', { author: 'boss' })
    expect(said(handlers.comment(boss, facts(), narrowed))).toBe('delete DROP-1')
    expect(said(handlers.comment(boss, facts({ permission: 'read' }), narrowed))).toBe(
      'refused: boss has no write access',
    )
  })

  test('what can be no command is refused, whoever wrote it, and talk is talk', () => {
    const edited = { unfit: 'an edited comment gives no commands' }
    const admin = facts({ permission: 'admin' })
    expect(said(handlers.comment(event('/swarm stop', edited), admin, rules))).toBe(`refused: ${edited.unfit}`)
    expect(said(handlers.comment(event('nice', edited), admin, rules))).toBe('ignored: no command in the comment')
  })

  test('what is refused is for the audit log, with who and what', () => {
    expect(handlers.comment(event('/swarm delete --force\n/swarm stop'), facts({ permission: 'none' }), rules)).toEqual(
      {
        verdict: 'refused',
        reason: 'dev has no write access',
        refusals: [
          {
            by: { via: 'github', who: 'dev' },
            what: '/swarm delete --force; /swarm stop',
            reason: 'dev has no write access',
            ticket: null,
          },
        ],
      },
    )
    expect(handlers.comment(event('/swarm delete'), facts(), narrowed)).toMatchObject({
      refusals: [{ what: '/swarm delete', reason: 'a rule keeps the command delete for others', ticket: 'DROP-1' }],
    })
  })

  test('more than ten commands: ten are done, and that is said', () => {
    const decision = handlers.comment(event(Array(13).fill('/swarm status').join('\n')), facts(), rules)
    expect(decision).toMatchObject({
      verdict: 'act',
      actions: { length: 10 },
      replies: [{ ok: false, text: expect.stringContaining('the 3 after that were left out') }],
    })
  })

  test('each answer knows its line', () => {
    const decision = handlers.comment(event('/swarm nonsense-here\n/swarm stop'), facts(), rules)
    expect(decision).toMatchObject({
      actions: [
        { replyTo: { line: 1, commentId: 9, repo: 'acme/shop', number: 1 }, by: { via: 'github', who: 'dev' } },
      ],
      replies: [{ to: { line: 0 } }],
    })
  })

  test('what a stranger writes comes back as no Markdown', () => {
    const decision = handlers.comment(event('/swarm checkpoint @everyone\n/swarm |x|'), facts(), rules)
    if (decision.verdict !== 'act') throw new Error('no answer')
    for (const { text } of decision.replies) expect(text).not.toContain('@')
  })
})
