import { describe, expect, test } from 'vitest'
import { commandLines } from '../../handlers/command-lines.ts'
import { runCommands } from '../../handlers/commands.ts'
import type { LaterRequest, SinceCommand } from '../../handlers/handler.ts'
import { rules, said } from './fixtures.ts'

describe('a command that comes late', () => {
  const by = (kind: LaterRequest['kind']): LaterRequest => ({ who: 'boss', kind })
  const late = (command: string, since: Partial<SinceCommand>): string =>
    said(
      runCommands(commandLines(`/swarm ${command}`), {
        who: { via: 'github', login: 'dev', isBot: false, permission: 'write', teams: [] },
        by: { via: 'github', who: 'dev' },
        replyTo: line => ({ repo: 'acme/shop', number: 1, commentId: 9, line }),
        ticket: 'DROP-1',
        branch: null,
        fork: null,
        since: { personRequest: null, lastRequest: null, moves: [], ...since },
        rules,
      }),
    )
  test.for<[string, string, Partial<SinceCommand>, string]>([
    [
      'a person asked for something else since',
      'delete',
      { personRequest: by('stop') },
      'no: Not done: `stop` was asked for',
    ],
    [
      'it says nothing of how the machine shall be',
      'checkpoint a',
      { personRequest: by('stop') },
      'checkpoint DROP-1 a',
    ],
    ['a merge deletes since', 'start', { lastRequest: by('delete') }, 'no: Not done: `delete` was asked f'],
    ['the ticket was started since', 'stop', { lastRequest: by('start') }, 'no: Not done: `start` was asked fo'],
    ['a merge deletes since, and it stops', 'stop', { lastRequest: by('delete') }, 'stop DROP-1'],
    ['the ticket is done since, and it deletes', 'delete', { lastRequest: by('stop') }, 'delete DROP-1'],
    ['the ticket went back since', 'start', { moves: ['new'] }, 'no: Not done: the ticket was moved'],
    ['the ticket went on since', 'stop', { moves: ['indeterminate'] }, 'no: Not done: the ticket was moved'],
    ['the ticket went on since, and it deletes', 'delete', { moves: ['indeterminate'] }, 'delete DROP-1'],
    [
      'the ticket was begun anew since',
      'delete',
      { moves: ['new', 'indeterminate'] },
      'no: Not done: the ticket was moved',
    ],
    ['the ticket went back since, and it deletes', 'delete', { moves: ['indeterminate', 'new'] }, 'delete DROP-1'],
  ])('%s', ([, command, since, expected]) => expect(late(command, since)).toBe(expected))
})
