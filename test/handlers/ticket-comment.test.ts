import { describe, expect, test } from 'vitest'
import type { Facts, Rules } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import { type Of, rules, said } from './fixtures.ts'

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
    isOwnComment: false,
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
      facts(create, {}, { isOwnComment: true }),
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
