import { expect, test } from 'vitest'
import { type Facts, type Rules, UNFIT_EDITED, UNFIT_OWN } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import { type EventOf, rules, summarize } from './fixtures.ts'

type CommentFacts = Facts['ticket-comment']

const by = (who: string | null) => ({ via: 'jira', who }) as const
const event = (text: string, change: 'created' | 'edited' = 'created'): EventOf<'ticket-comment'> => ({
  kind: 'ticket-comment',
  ticket: 'DROP-1',
  commentId: '10274',
  body: text,
  change,
  at: null,
})
const facts = (text: string, now: Partial<NonNullable<CommentFacts['now']>> = {}): CommentFacts => ({
  now: {
    body: { type: 'doc', content: [{ type: 'paragraph', content: [{ type: 'text', text }] }] },
    author: by('dev'),
    authorIsApp: false,
    edited: false,
    ...now,
  },
  isOwnComment: false,
  assignee: 'dev',
  since: { personRequest: null, lastRequest: null, moves: [] },
})
const listed: Rules = { ...rules, jiraCommanders: ['boss'], commands: { delete: ['dev', 'jira:boss'] } }
const create = '/swarm create'
const NOT_LISTED = 'refused: only the assignee of the ticket and the accounts in JIRA_COMMANDERS may give commands'

test.for<[string, EventOf<'ticket-comment'>, CommentFacts, string]>([
  ['the assignee', event(create), facts(create), 'create DROP-1'],
  ['a listed account', event(create), facts(create, { author: by('boss') }), 'create DROP-1'],
  ['anybody else', event(create), facts(create, { author: by('other') }), NOT_LISTED],
  [
    'no author, on a ticket without an assignee',
    event(create),
    { ...facts(create, { author: by(null) }), assignee: null },
    NOT_LISTED,
  ],
  [
    'an app as the assignee',
    event(create),
    facts(create, { authorIsApp: true }),
    'refused: bots cannot give commands: only people may',
  ],
  ["the bot's own comment", event(create), { ...facts(create), isOwnComment: true }, `refused: ${UNFIT_OWN}`],
  ['edited before it was read', event(create), facts(create, { edited: true }), `refused: ${UNFIT_EDITED}`],
  ['an edit', event(create, 'edited'), facts(create), `refused: ${UNFIT_EDITED}`],
  ['gone', event(create), { ...facts(create), now: null }, 'ignored: the comment does not exist any more'],
  ['no command', event('hello'), facts('hello'), 'ignored: no command in the comment'],
  [
    'a command in the event, but not in the comment',
    event(create),
    facts('hello'),
    'ignored: no command in the comment',
  ],
  [
    'a command of pull requests',
    event('/swarm allow x'),
    facts('/swarm allow x'),
    'no: `/swarm allow` works only on p',
  ],
  [
    'a command that a rule allows others only',
    event('/swarm delete'),
    facts('/swarm delete'),
    'no: Not allowed: only `dev`, `jira',
  ],
  [
    'a command that a rule allows this account',
    event('/swarm delete'),
    facts('/swarm delete', { author: by('boss') }),
    'delete DROP-1',
  ],
])('a comment on a ticket: %s', ([, given, known, expected]) =>
  expect(summarize(handlers['ticket-comment'](given, known, listed))).toBe(expected),
)

test('a refusal names the account', () => {
  expect(handlers['ticket-comment'](event(create), facts(create, { author: by('other') }), rules)).toMatchObject({
    refusals: [{ by: { via: 'jira', who: 'other' }, what: create }],
  })
})
