import { describe, expect, test } from 'vitest'
import { commandLines } from '../../handlers/command-lines.ts'
import { commanded } from '../../handlers/commands.ts'
import type { Facts, LaterWish, PullRequestNow, Rules, Since, SwarmEvent } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import { commandsOn, readCommand, slashCommands } from '../../handlers/slash-commands.ts'
import { words } from '../../src/bot/render.ts'
import { standardRules } from '../../src/bot/repository-file.ts'
import type { Environment, EnvironmentStatus } from '../../src/domain.ts'

const rules: Rules = standardRules({ projects: ['DROP', 'WEB'], assignees: 'me', jiraCommanders: [] })
const environment = (status: EnvironmentStatus = 'running'): Environment => ({
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
  workAtRisk: null,
  observedAt: '2026-11-24T10:00:00Z',
})
type Of<Kind extends SwarmEvent['kind']> = Extract<SwarmEvent, { kind: Kind }>
/** What a decision comes to, in a word: `delete DROP-1`, or why nothing. */
const said = (decision: ReturnType<(typeof handlers)['push']>) =>
  decision.verdict === 'act'
    ? [
        ...decision.actions.map(
          one =>
            `${one.kind} ${one.ticket}${'name' in one && one.name !== null ? ` ${one.name}` : ''}${'force' in one && one.force ? ' --force' : ''}`,
        ),
        ...decision.replies.map(one => (one.ok ? 'reply' : `no: ${one.text.slice(0, 30)}`)),
      ].join(', ')
    : `${decision.verdict}: ${decision.reason}`

describe('push', () => {
  const push = (more: Partial<Of<'push'>> = {}): Of<'push'> => ({
    kind: 'push',
    repo: 'acme/shop',
    ref: 'refs/heads/DROP-1-x',
    after: 'ABCDEF0123'.padEnd(40, '0'),
    deleted: false,
    pusher: 'dev',
    ...more,
  })
  const facts = (more: Partial<Facts['push']> = {}): Facts['push'] => ({
    environment: environment(),
    live: true,
    ...more,
  })
  test.for<[string, Of<'push'>, Facts['push'], string]>([
    ['a push to the ticket branch', push(), facts(), 'checkpoint DROP-1 push-abcdef0'],
    ['lower case in the branch', push({ ref: 'refs/heads/feature/drop-1' }), facts(), 'checkpoint DROP-1 push-abcdef0'],
    ['a deleted branch', push({ deleted: true }), facts(), 'ignored: the branch was deleted'],
    ['a tag', push({ ref: 'refs/tags/DROP-1' }), facts(), 'ignored: no branch'],
    ['no ticket', push({ ref: 'refs/heads/main' }), facts(), 'ignored: no ticket in the branch name'],
    ['another project', push({ ref: 'refs/heads/UTF-8' }), facts(), 'ignored: no ticket in the branch name'],
    ['no environment', push(), facts({ environment: null }), 'ignored: DROP-1 has no environment'],
    ['a stopped one', push(), facts({ environment: environment('stopped') }), 'ignored: DROP-1 is stopped'],
    [
      'a provider that would stop the guest',
      push(),
      facts({ live: false }),
      'ignored: kvm cannot make a checkpoint without stopping the machine',
    ],
  ])('%s', ([, event, given, expected]) => expect(said(handlers.push(event, given, rules))).toBe(expected))
})

const now = (more: Partial<PullRequestNow> = {}): PullRequestNow => ({
  state: 'open',
  branch: 'DROP-1-x',
  title: '',
  body: '',
  fromFork: false,
  headSha: 'a'.repeat(40),
  closedAt: null,
  ...more,
})

describe('pull request', () => {
  const event = (change: Of<'pull-request'>['change'], more: Partial<Of<'pull-request'>> = {}): Of<'pull-request'> => ({
    kind: 'pull-request',
    change,
    pullRequest: { repo: 'acme/shop', number: 1 },
    branch: 'DROP-1-x',
    title: '',
    body: '',
    fromFork: false,
    sender: 'dev',
    at: null,
    ...more,
  })
  const facts = (more: Partial<Facts['pull-request']> = {}): Facts['pull-request'] => ({
    environment: environment(),
    now: now(),
    endDecided: false,
    others: [],
    begunAnew: false,
    laterWish: null,
    ...more,
  })
  const other = { repo: 'acme/shop', number: 2 }
  test.for<[string, Of<'pull-request'>, Facts['pull-request'], string]>([
    ['opened', event('opened'), facts(), 'ignored: it belongs to DROP-1, and asks for nothing'],
    [
      'reopened, and the machine is stopped',
      event('reopened'),
      facts({ environment: environment('stopped') }),
      'start DROP-1',
    ],
    [
      'reopened, and closed again since, which was decided',
      event('reopened'),
      facts({ environment: environment('stopped'), now: now({ state: 'closed' }), endDecided: true }),
      'ignored: it belongs to DROP-1, and asks for nothing',
    ],
    [
      'opened, and closed since, which nobody told',
      event('opened'),
      facts({ now: now({ state: 'closed' }) }),
      'stop DROP-1',
    ],
    ['merged', event('closed'), facts({ now: now({ state: 'merged' }) }), 'delete DROP-1'],
    [
      'merged, and another is open',
      event('closed'),
      facts({ now: now({ state: 'merged' }), others: [other] }),
      'ignored: DROP-1 has another open pull request, acme/shop#2',
    ],
    [
      'merged before the ticket was begun anew',
      event('closed'),
      facts({ now: now({ state: 'merged' }), begunAnew: true }),
      'ignored: DROP-1 was begun anew after that',
    ],
    ['closed unmerged', event('closed'), facts({ now: now({ state: 'closed' }) }), 'stop DROP-1'],
    [
      'closed unmerged, and another is open',
      event('closed'),
      facts({ now: now({ state: 'closed' }), others: [other] }),
      'ignored: DROP-1 has another open pull request, acme/shop#2',
    ],
    [
      'merged before somebody asked for the machine',
      event('closed'),
      facts({ now: now({ state: 'merged' }), laterWish: { who: 'dev', kind: 'create' } }),
      'ignored: dev asked for create after that',
    ],
    [
      'reopened before somebody stopped it',
      event('reopened'),
      facts({ environment: environment('stopped'), laterWish: { who: 'dev', kind: 'stop' } }),
      'ignored: dev asked for stop after that',
    ],
    ['closed, and open again since', event('closed'), facts(), 'ignored: it is open again'],
    ['closed, and gone', event('closed'), facts({ now: null }), 'ignored: the pull request is gone'],
    [
      'closed, stopped already',
      event('closed'),
      facts({ now: now({ state: 'closed' }), environment: environment('stopped') }),
      'ignored: DROP-1 is stopped already',
    ],
    [
      'merged without a machine',
      event('closed'),
      facts({ now: now({ state: 'merged' }), environment: null }),
      'ignored: DROP-1 has no environment',
    ],
    [
      'merged, from a fork',
      event('closed', { fromFork: true }),
      facts({ now: now({ state: 'merged', fromFork: true }) }),
      'ignored: pull requests from forks do nothing',
    ],
    [
      'merged, said to be none, but from a fork now',
      event('closed'),
      facts({ now: now({ state: 'merged', fromFork: true }) }),
      'ignored: pull requests from forks do nothing',
    ],
    [
      'the ticket in the title alone',
      event('closed', { branch: 'x' }),
      facts({ now: now({ state: 'merged', branch: 'x', title: 'WEB-7: y' }) }),
      'delete WEB-7',
    ],
    [
      'no ticket',
      event('closed', { branch: 'x' }),
      facts({ now: now({ branch: 'x', state: 'merged' }) }),
      'ignored: no ticket in branch, title or body',
    ],
  ])('%s', ([, given, known, expected]) => expect(said(handlers['pull-request'](given, known, rules))).toBe(expected))
})

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
    since: { person: null, asked: null, moved: [] },
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

describe('a comment on a ticket', () => {
  const document = (text: string) => ({
    type: 'doc',
    content: [{ type: 'paragraph', content: [{ type: 'text', text }] }],
  })
  const event = (text: string, more: Partial<Of<'ticket-comment'>> = {}): Of<'ticket-comment'> => ({
    kind: 'ticket-comment',
    ticket: 'DROP-1',
    commentId: '10274',
    body: text,
    change: 'created',
    at: null,
    ...more,
  })
  type Now = NonNullable<Facts['ticket-comment']['now']>
  const facts = (text: string, now: Partial<Now> = {}, more: Partial<Facts['ticket-comment']> = {}) => ({
    now: { body: document(text), author: 'dev', authorIsApp: false, edited: false, ...now },
    isOurs: false,
    assignee: 'dev',
    since: { person: null, asked: null, moved: [] },
    ...more,
  })
  const listed: Rules = { ...rules, jiraCommanders: ['boss'], commands: { delete: ['dev', 'jira:boss'] } }
  const create = '/swarm create'
  test.for<[string, Of<'ticket-comment'>, Facts['ticket-comment'], string]>([
    ['the assignee', event(create), facts(create), 'create DROP-1'],
    ['an account that is listed', event(create), facts(create, { author: 'boss' }), 'create DROP-1'],
    [
      'anybody else',
      event(create),
      facts(create, { author: 'other' }),
      'refused: neither the assignee of the ticket nor an account that is listed',
    ],
    [
      'nobody, on a ticket of nobody',
      event(create),
      facts(create, { author: null }, { assignee: null }),
      'refused: neither the assignee of the ticket nor an account that is listed',
    ],
    [
      'an app that is assigned',
      event(create),
      facts(create, { authorIsApp: true }),
      'refused: a bot gives no commands',
    ],
    [
      'a comment of ours',
      event(create),
      facts(create, {}, { isOurs: true }),
      'refused: a comment of ours gives no commands',
    ],
    [
      'edited before it was read',
      event(create),
      facts(create, { edited: true }),
      'refused: an edited comment gives no commands',
    ],
    ['an edit', event(create, { change: 'edited' }), facts(create), 'refused: an edited comment gives no commands'],
    ['gone', event(create), facts(create, {}, { now: null } as object), 'ignored: the comment is gone'],
    ['talk', event('hello'), facts('hello'), 'ignored: no command in the comment'],
    ['talk that was told as a command', event(create), facts('hello'), 'ignored: no command in the comment'],
    [
      'a command of pull requests',
      event('/swarm allow x'),
      facts('/swarm allow x'),
      'no: `/swarm allow` is given on pul',
    ],
    [
      'a command that a rule keeps for others',
      event('/swarm delete'),
      facts('/swarm delete'),
      'no: Not done: a rule keeps the com',
    ],
    ['one that a rule names', event('/swarm delete'), facts('/swarm delete', { author: 'boss' }), 'delete DROP-1'],
  ])('%s', ([, given, known, expected]) =>
    expect(said(handlers['ticket-comment'](given, known, listed))).toBe(expected),
  )
  test('what is refused names the account', () => {
    expect(handlers['ticket-comment'](event(create), facts(create, { author: 'other' }), rules)).toMatchObject({
      refusals: [{ by: { via: 'jira', who: 'other' }, what: create }],
    })
  })
})

describe('slash commands', () => {
  const asked = {
    ticket: 'DROP-1',
    by: { via: 'github', who: 'dev' },
    replyTo: { repo: 'acme/shop', number: 1, commentId: 9, line: 0 },
  } as const
  test.for(Object.entries(slashCommands))('the example of %s means that command', ([name, { example, usage }]) => {
    const read = readCommand(example.split(' ').slice(1), 'github')
    if ('answer' in read) throw new Error(read.answer)
    expect([read.name, usage.split(' ')[0]]).toEqual([name, name])
    const meaning = read.meaning(asked)
    if (name === 'help') expect(meaning).toEqual({ help: true })
    else if (name === 'allow') expect(meaning).toEqual({ allow: example.split(' ')[2] })
    else if ('action' in meaning)
      expect([name, meaning.action.ticket]).toEqual([words(meaning.action).split(' ')[0], 'DROP-1'])
    else throw new Error('it means nothing')
  })
  test.for([
    ['chekpoint', 'Did you mean `/swarm checkpoint`?'],
    ['sttaus', 'Did you mean `/swarm status`?'],
    ['Delte', 'Did you mean `/swarm delete`?'],
    ['reboot', 'There is no command `reboot`.'],
    ['__proto__', 'There is no command `__proto__`.'],
    ['constructor', 'There is no command `constructor`.'],
    ['@everyone', 'There is no command `?everyone`.'],
  ] as [string, string][])('/swarm %s is answered: %s', ([typed, expected]) =>
    // All of them are listed where none is near.
    expect(readCommand([typed], 'github')).toEqual({
      answer: expect.stringContaining(expected),
      help: expected.startsWith('There is'),
    }),
  )
  test.for([
    ['status please', '`/swarm status`, and nothing behind it.'],
    ['stop --force', '`/swarm stop`, and nothing behind it.'],
    ['checkpoint a b', '`/swarm checkpoint [name]`, as in `/swarm checkpoint before-refactor`.'],
    ['delete now', '`/swarm delete [--force]`, as in `/swarm delete`.'],
  ] as [string, string][])('/swarm %s is answered with how it is used', ([typed, expected]) =>
    expect(readCommand(typed.split(' '), 'github')).toEqual({ answer: expect.stringContaining(expected), help: false }),
  )
  test('what is of pull requests alone is no command in Jira, and not proposed there', () => {
    expect(readCommand(['allow', 'a'.repeat(40)], 'jira')).toEqual({
      answer: '`/swarm allow` is given on pull requests, and means nothing here.',
      help: false,
    })
    expect(readCommand(['alow', 'a'.repeat(40)], 'jira')).toMatchObject({ help: true })
    expect(commandsOn('jira').map(one => one.usage)).not.toContain('allow <commit>')
  })
})

describe('a command that comes late', () => {
  const by = (kind: LaterWish['kind']): LaterWish => ({ who: 'boss', kind })
  const late = (command: string, since: Partial<Since>): string =>
    said(
      commanded(commandLines(`/swarm ${command}`), {
        who: { via: 'github', login: 'dev', isBot: false, permission: 'write', teams: [] },
        by: { via: 'github', who: 'dev' },
        replyTo: line => ({ repo: 'acme/shop', number: 1, commentId: 9, line }),
        ticket: 'DROP-1',
        branch: null,
        fork: null,
        since: { person: null, asked: null, moved: [], ...since },
        rules,
      }),
    )
  test.for<[string, string, Partial<Since>, string]>([
    ['a person asked for something else since', 'delete', { person: by('stop') }, 'no: Not done: `stop` was asked for'],
    ['it says nothing of how the machine shall be', 'checkpoint a', { person: by('stop') }, 'checkpoint DROP-1 a'],
    ['a merge deletes since', 'start', { asked: by('delete') }, 'no: Not done: `delete` was asked f'],
    ['the ticket was started since', 'stop', { asked: by('start') }, 'no: Not done: `start` was asked fo'],
    ['a merge deletes since, and it stops', 'stop', { asked: by('delete') }, 'stop DROP-1'],
    ['the ticket is done since, and it deletes', 'delete', { asked: by('stop') }, 'delete DROP-1'],
    ['the ticket went back since', 'start', { moved: ['new'] }, 'no: Not done: the ticket was moved'],
    ['the ticket went on since', 'stop', { moved: ['indeterminate'] }, 'no: Not done: the ticket was moved'],
    ['the ticket went on since, and it deletes', 'delete', { moved: ['indeterminate'] }, 'delete DROP-1'],
    [
      'the ticket was begun anew since',
      'delete',
      { moved: ['new', 'indeterminate'] },
      'no: Not done: the ticket was moved',
    ],
    ['the ticket went back since, and it deletes', 'delete', { moved: ['indeterminate', 'new'] }, 'delete DROP-1'],
  ])('%s', ([, command, since, expected]) => expect(late(command, since)).toBe(expected))
})

describe('ticket', () => {
  const event = (category: Of<'ticket'>['category'], more: Partial<Of<'ticket'>> = {}): Of<'ticket'> => ({
    kind: 'ticket',
    ticket: 'DROP-1',
    change: 'status',
    category,
    assignee: 'me',
    labels: [],
    by: 'me',
    at: null,
    ...more,
  })
  const facts = (category: Of<'ticket'>['category'] | null, more: Partial<Facts['ticket']> = {}): Facts['ticket'] => ({
    environment: null,
    now: category === null ? null : { category, assignee: 'me', labels: [] },
    endedSinceNew: false,
    hadPullRequest: false,
    closedSince: false,
    me: 'me',
    laterWish: null,
    ...more,
  })
  const has = (status: EnvironmentStatus) => ({ environment: environment(status) })
  test.for<[string, Of<'ticket'>, Facts['ticket'], string]>([
    ['in progress', event('indeterminate'), facts('indeterminate'), 'create DROP-1'],
    ['in progress, stopped', event('indeterminate'), facts('indeterminate', has('stopped')), 'start DROP-1'],
    [
      'in progress, running',
      event('indeterminate'),
      facts('indeterminate', has('running')),
      'ignored: DROP-1 has its machine',
    ],
    [
      'in progress, and deleted by a person since',
      event('indeterminate'),
      facts('indeterminate', { laterWish: { who: 'dev', kind: 'delete' } }),
      'ignored: dev asked for delete after that',
    ],
    [
      'in progress, and its pull request was closed since',
      event('indeterminate'),
      facts('indeterminate', { closedSince: true }),
      'create DROP-1, stop DROP-1',
    ],
    [
      'in progress, stopped when its pull request was closed since',
      event('indeterminate'),
      facts('indeterminate', { ...has('stopped'), closedSince: true }),
      'ignored: its pull request was closed after that',
    ],
    [
      'in progress, not to be read, and later news is known',
      event('indeterminate'),
      facts('indeterminate', { now: 'overtaken' }),
      'ignored: later news of DROP-1 is known, and how it is now cannot be read',
    ],
    ['in progress, failed before', event('indeterminate'), facts('indeterminate', has('failed')), 'create DROP-1'],
    [
      'in review after the merge',
      event('indeterminate'),
      facts('indeterminate', { endedSinceNew: true }),
      'ignored: the last machine of DROP-1 was deleted or merged, and the ticket was not back in the backlog since',
    ],
    ['in progress, and moved back since', event('indeterminate'), facts('new'), 'ignored: DROP-1 has no environment'],
    ['in progress, and Jira does not answer', event('indeterminate'), facts('new', { now: 'unread' }), 'create DROP-1'],
    [
      'assigned to somebody else',
      event('indeterminate'),
      facts('indeterminate', { now: { category: 'indeterminate', assignee: 'other', labels: [] } }),
      'ignored: DROP-1 is assigned to somebody else',
    ],
    [
      'assigned to nobody',
      event('indeterminate'),
      facts('indeterminate', { now: { category: 'indeterminate', assignee: null, labels: [] } }),
      'ignored: DROP-1 is assigned to nobody',
    ],
    [
      'assigned to us while in progress',
      event('indeterminate', { change: 'assignee' }),
      facts('indeterminate'),
      'create DROP-1',
    ],
    [
      'assigned while in the backlog',
      event('new', { change: 'assignee' }),
      facts('new', has('running')),
      'ignored: DROP-1 was assigned, and is not in progress',
    ],
    [
      'another project',
      event('indeterminate', { ticket: 'OTHER-1' }),
      facts('indeterminate'),
      'ignored: OTHER is no project of ours',
    ],
    ['back to new', event('new'), facts('new', has('running')), 'stop DROP-1'],
    ['back to new, stopped', event('new'), facts('new', has('stopped')), 'ignored: DROP-1 is stopped already'],
    ['done, never a pull request', event('done'), facts('done', has('running')), 'delete DROP-1'],
    [
      'done, with a pull request',
      event('done'),
      facts('done', { ...has('running'), hadPullRequest: true }),
      'stop DROP-1',
    ],
    [
      'done, and Jira does not answer',
      event('done'),
      facts('done', { ...has('running'), now: 'unread' }),
      'stop DROP-1',
    ],
    ['done, and reopened since', event('done'), facts('indeterminate', has('stopped')), 'start DROP-1'],
    ['deleted in Jira', event('indeterminate', { change: 'deleted' }), facts(null, has('running')), 'delete DROP-1'],
    [
      'no category',
      event('undefined'),
      facts('undefined', has('running')),
      'ignored: the status of DROP-1 has no category',
    ],
  ])('%s', ([, given, known, expected]) => expect(said(handlers.ticket(given, known, rules))).toBe(expected))

  test('anybody, or those who are listed', () => {
    const theirs = facts('indeterminate', { now: { category: 'indeterminate', assignee: 'other', labels: [] } })
    expect(said(handlers.ticket(event('indeterminate'), theirs, { ...rules, assignees: 'any' }))).toBe('create DROP-1')
    expect(said(handlers.ticket(event('indeterminate'), theirs, { ...rules, assignees: ['other'] }))).toBe(
      'create DROP-1',
    )
    expect(said(handlers.ticket(event('indeterminate'), theirs, { ...rules, assignees: ['me'] }))).toMatch(
      /somebody else/,
    )
  })
})

describe("the repository's own rules", () => {
  const push: Of<'push'> = {
    kind: 'push',
    repo: 'acme/shop',
    ref: 'refs/heads/feature/DROP-1',
    after: 'abcdef0123'.repeat(4),
    deleted: false,
    pusher: 'dev',
  }
  const closed: Of<'pull-request'> = {
    kind: 'pull-request',
    change: 'closed',
    pullRequest: { repo: 'acme/shop', number: 1 },
    branch: 'DROP-1-x',
    title: '',
    body: '',
    fromFork: false,
    sender: 'dev',
    at: null,
  }
  const ended = (state: 'closed' | 'merged', more: Partial<Rules>, event = closed) =>
    handlers['pull-request'](
      event,
      {
        environment: environment(),
        now: now({ state }),
        endDecided: false,
        others: [],
        begunAnew: false,
        laterWish: null,
      },
      { ...rules, ...more },
    )

  test.for<[string, string, string[], boolean]>([
    ['no pattern', 'anything', [], true],
    ['the same', 'main', ['main'], true],
    ['another', 'main2', ['main'], false],
    ['a star at the end', 'feature/DROP-1', ['feature/*'], true],
    ['a star in the middle', 'feature/DROP-1-x', ['feature/*-x'], true],
    ['a star that reaches too little', 'feature/DROP-1-y', ['feature/*-x'], false],
    ['nothing for the star', 'feature/', ['feature/*'], true],
    ['one of several', 'fix/DROP-1', ['feature/*', 'fix/*'], true],
    ['what regular expressions read otherwise', 'a.c', ['a?c', '(a.c)+', '[a].c'], false],
    ['stars without end, against a text that nearly fits', `${'a'.repeat(250)}b`, ['*a'.repeat(50)], false],
  ])('branches: %s', ([, branch, branches, counts]) => {
    expect(
      said(
        handlers.push(
          { ...push, ref: `refs/heads/${branch}` },
          { environment: environment(), live: true },
          { ...rules, branches },
        ),
      ).includes('does not count'),
    ).toBe(!counts && /drop-\d/i.test(branch))
    expect(
      said(
        handlers['pull-request'](
          closed,
          {
            environment: environment(),
            now: now({ branch, title: 'DROP-1', state: 'closed' }),
            endDecided: false,
            others: [],
            begunAnew: false,
            laterWish: null,
          },
          { ...rules, branches },
        ),
      ),
    ).toBe(counts ? 'stop DROP-1' : 'ignored: the branch does not count here')
  })

  test('a push asks for as many checkpoints to be kept as the rules say', () => {
    const keep = { newest: 2, days: 7 }
    expect(handlers.push(push, { environment: environment(), live: true }, { ...rules, keep })).toMatchObject({
      actions: [{ kind: 'checkpoint', keep }],
    })
  })

  test.for<['closed' | 'merged', Partial<Rules>, string]>([
    ['closed', { closed: 'delete' }, 'delete DROP-1'],
    ['closed', { closed: 'nothing' }, 'ignored: it is closed, and nothing follows from that here'],
    ['closed', { closed: 'delete', graceMinutes: 30 }, 'delete DROP-1'],
    ['merged', { merged: 'stop' }, 'stop DROP-1'],
    ['merged', { merged: 'nothing' }, 'ignored: it is merged, and nothing follows from that here'],
    ['merged', { graceMinutes: 1 }, 'later: DROP-1 will be deleted in 1 minute, unless somebody starts it'],
    ['merged', { graceMinutes: 30 }, 'later: DROP-1 will be deleted in 30 minutes, unless somebody starts it'],
  ])('%s, with %j', ([state, more, expected]) => expect(said(ended(state, more))).toBe(expected))

  test('when the minutes of grace are over, it is decided again, by what is true then', () => {
    const later = ended('merged', { graceMinutes: 30 })
    if (later.verdict !== 'later') throw new Error('not later')
    expect(later).toMatchObject({ minutes: 30, ticket: 'DROP-1' })
    const event = later.event as Of<'pull-request'>
    expect(said(ended('merged', { graceMinutes: 30 }, event))).toBe('delete DROP-1')
    expect(said(ended('merged', { graceMinutes: 30, merged: 'stop' }, event))).toBe('stop DROP-1')
  })

  const ticket = (category: 'indeterminate' | 'done', labels: string[], more: Partial<Rules>) =>
    said(
      handlers.ticket(
        {
          kind: 'ticket',
          ticket: 'DROP-1',
          change: 'status',
          category,
          assignee: 'me',
          labels: [],
          by: 'me',
          at: null,
        },
        {
          environment: category === 'done' ? environment() : null,
          now: { category, assignee: 'me', labels },
          endedSinceNew: false,
          hadPullRequest: true,
          closedSince: false,
          me: 'me',
          laterWish: null,
        },
        { ...rules, ...more },
      ),
    )
  test.for<['indeterminate' | 'done', string[], Partial<Rules>, string]>([
    ['indeterminate', [], { labels: ['agent'] }, 'ignored: DROP-1 has none of the labels agent'],
    ['indeterminate', ['Agent', 'x'], { labels: ['agent', 'swarm'] }, 'create DROP-1'],
    ['done', [], {}, 'stop DROP-1'],
    ['done', [], { done: 'delete' }, 'delete DROP-1'],
    ['done', [], { done: 'stop' }, 'stop DROP-1'],
    ['done', [], { done: 'nothing' }, 'ignored: DROP-1 is done, and nothing follows from that here'],
  ])('a ticket that is %s, with labels %j, under %j', ([category, labels, more, expected]) =>
    expect(ticket(category, labels, more)).toBe(expected),
  )

  test('a new machine is what the rules say', () => {
    const machine = { cpus: 4, baseImage: 'big' }
    expect(
      handlers.ticket(
        {
          kind: 'ticket',
          ticket: 'DROP-1',
          change: 'status',
          category: 'indeterminate',
          assignee: 'me',
          labels: [],
          by: 'me',
          at: null,
        },
        {
          environment: null,
          now: 'unread',
          endedSinceNew: false,
          hadPullRequest: false,
          closedSince: false,
          me: 'me',
          laterWish: null,
        },
        { ...rules, machine },
      ),
    ).toMatchObject({ actions: [{ kind: 'create', machine }] })
  })
})
