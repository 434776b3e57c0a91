import { expect, test } from 'vitest'
import { commandLines } from '../../handlers/command-lines.ts'
import { runCommands } from '../../handlers/commands.ts'
import type { LaterRequest, NewMachine, SinceCommand } from '../../handlers/handler.ts'
import { rules, summarize } from './fixtures.ts'

const by = (kind: LaterRequest['kind']): LaterRequest => ({ who: 'boss', kind })

test.for<[string, string, Partial<SinceCommand>, string]>([
  ['a person requested something else', 'delete', { personRequest: by('stop') }, 'no: Skipped: `stop` was requested '],
  ['the command changes no state', 'checkpoint a', { personRequest: by('stop') }, 'checkpoint DROP-1 a'],
  ['a merge deletes, it starts', 'start', { lastRequest: by('delete') }, 'no: Skipped: `delete` was requeste'],
  ['a merge deletes, it promotes', 'promote 1', { lastRequest: by('delete') }, 'no: Skipped: `delete` was requeste'],
  ['the ticket was stopped, it forks', 'fork', { lastRequest: by('stop') }, 'fork DROP-1 from null'],
  ['the ticket was started, it stops', 'stop', { lastRequest: by('start') }, 'no: Skipped: `start` was requested'],
  ['a merge deletes, it stops', 'stop', { lastRequest: by('delete') }, 'stop DROP-1'],
  ['the ticket is done, it deletes', 'delete', { lastRequest: by('stop') }, 'delete DROP-1'],
  ['the ticket went back, it starts', 'start', { moves: ['new'] }, 'no: Skipped: the ticket was moved '],
  ['the ticket went on, it stops', 'stop', { moves: ['indeterminate'] }, 'no: Skipped: the ticket was moved '],
  ['the ticket went on, it deletes', 'delete', { moves: ['indeterminate'] }, 'delete DROP-1'],
  [
    'the ticket restarted, it deletes',
    'delete',
    { moves: ['new', 'indeterminate'] },
    'no: Skipped: the ticket was moved ',
  ],
  ['the ticket went back, it deletes', 'delete', { moves: ['indeterminate', 'new'] }, 'delete DROP-1'],
])('a command that arrives late: %s', ([, command, since, expected]) => {
  const decision = runCommands(commandLines(`/swarm ${command}`), {
    who: { via: 'github', login: 'dev', isBot: false, permission: 'write', teams: [] },
    by: { via: 'github', who: 'dev' },
    replyTo: line => ({ repo: 'acme/shop', number: 1, commentId: 9, line }),
    ticket: 'DROP-1',
    branch: null,
    fork: null,
    since: { personRequest: null, lastRequest: null, moves: [], ...since },
    rules,
  })
  expect(summarize(decision)).toBe(expected)
})

const newMachine: NewMachine = {
  ...{ repositories: ['acme/shop', 'acme/api'], isMapped: true, pullRequest: null, withBranch: null },
  ...{ summary: 'Pay by card', text: null, me: null },
}
test.for([
  ['/swarm create', 'acme/shop'],
  ['/swarm create acme/api', 'acme/api'],
  ['/swarm create evil/shop', 'no: Not allowed: `evil/shop` does not serve DROP. These do: `acme/shop`, `acme/api`.'],
  ['/swarm create shop', 'no: `shop` is not a repository. Write its full name, for example `acme/shop`.'],
  ['/swarm create acme/..', 'no: `acme/..` is not a repository. Write its full name, for example `acme/shop`.'],
  ['/swarm create acme/$(id)', 'no: `acme/??id?` is not a repository. Write its full name, for example `acme/shop`.'],
  [
    '/swarm create acme/shop acme/api',
    'no: Usage: `/swarm create [owner/name]`, for example `/swarm create acme/shop`.',
  ],
])('%s', ([line = '', expected]) => {
  const decision = runCommands(commandLines(line), {
    who: { via: 'jira', account: 'me', isBot: false, isAssignee: true },
    by: { via: 'jira', who: 'me' },
    replyTo: index => ({ ticket: 'DROP-1', commentId: '9', line: index }),
    ...{ ticket: 'DROP-1', branch: null, fork: null, newMachine, rules },
    since: { personRequest: null, lastRequest: null, moves: [] },
  })
  const { actions: [action] = [], replies: [reply] = [] } = decision.verdict === 'act' ? decision : {}
  const gets = action?.kind === 'create' ? action.project?.repo : `no: ${reply?.text}`
  expect(gets).toBe(expected)
})
