/** What `up` shows on a terminal, line by line. */
import { stripVTControlCharacters } from 'node:util'
import { expect, test } from 'vitest'
import { happening } from '../../src/cli/happenings.ts'
import { actionKinds } from '../../src/schema/action.ts'

const at = new Date(2026, 10, 24, 11, 17, 15).toISOString()
const shown = (fields: object) => {
  const line = happening(JSON.stringify({ level: 30, time: at, msg: 'outcome recorded', ...fields }))
  return line === null ? null : stripVTControlCharacters(line)
}
const dana = { via: 'jira', who: '557058:dana', name: 'Dana Example', cause: 'ticket moved', movedTo: 'In Progress' }
const octocat = (cause: string) => ({ via: 'github', who: 'octocat', cause })
const outcome = (kind: string, more: object) => ({
  ...{ happened: 'outcome', kind, ticket: 'DROP-1', result: 'done', seconds: 1.84, by: dana },
  ...more,
})

test.for<[string, object, string | null]>([
  ['a create', outcome('create', {}), 'created in 1.8 s (ticket moved to In Progress by Dana Example)'],
  [
    'an account without a name',
    outcome('create', { by: { ...dana, name: undefined } }),
    'created in 1.8 s (ticket moved to In Progress)',
  ],
  [
    'a stop',
    outcome('stop', { by: { ...dana, movedTo: 'To Do' } }),
    'stopped in 1.8 s (ticket moved to To Do by Dana Example)',
  ],
  [
    'a status without its name',
    outcome('create', { by: { ...dana, movedTo: undefined } }),
    'created in 1.8 s (ticket moved by Dana Example)',
  ],
  [
    'a start at once',
    outcome('start', { seconds: 0.04 }),
    'started in less than 0.1 s (ticket moved to In Progress by Dana Example)',
  ],
  [
    'a checkpoint',
    outcome('checkpoint', { checkpoint: 'push-abc1234', by: octocat('push') }),
    'checkpoint push-abc1234 made in 1.8 s (push by octocat)',
  ],
  [
    'a restore',
    outcome('restore', { checkpoint: 'before', seconds: 90, by: octocat('command') }),
    'restored to before in 2 min (command by octocat)',
  ],
  [
    'a delete that saved work',
    outcome('delete', { rescued: 'unsaved work is rescued in ~/x', by: octocat('merge') }),
    'deleted in 1.8 s; unsaved work is rescued in ~/x (merge by octocat)',
  ],
  [
    'a move',
    outcome('move', { from: 'SHOP-7', by: { ...dana, cause: 'key changed', movedTo: undefined } }),
    'moved from SHOP-7 in 1.8 s (key changed by Dana Example)',
  ],
  ['a question', outcome('status', {}), null],
  [
    'nothing to do',
    outcome('start', { result: 'skipped', reason: 'it is running' }),
    'start: nothing to do: it is running (ticket moved to In Progress by Dana Example)',
  ],
  [
    'a failure, with the way on',
    outcome('create', { result: 'failed', reason: 'creating DROP-1:\n4 GiB needed', remedy: 'Stop another.' }),
    'create failed: creating DROP-1: 4 GiB needed. Stop another.',
  ],
  [
    'hostile text',
    outcome('checkpoint', { checkpoint: null, by: { ...dana, name: 'Da\u001b[2Jna\u202e\nEx' } }),
    'checkpoint made in 1.8 s (ticket moved to In Progress by Da [2Jna Ex)',
  ],
])('%s', ([, fields, expected]) => {
  expect(shown(fields)).toBe(expected === null ? null : `11:17:15  DROP-1  ${expected}\n`)
})

test.for<[string, object, string | null]>([
  ['a decision', { msg: 'decided', event: 'push', verdict: 'actions' }, null],
  ['the begin of an action', { msg: 'begins', ticket: 'DROP-1', kind: 'create' }, null],
  [
    'a runner that comes',
    { msg: 'a runner is connected', host: 'studio', happened: 'connection' },
    'a runner is connected (studio)',
  ],
  [
    'a side that works again',
    { msg: 'polling Jira: works again', happened: 'connection' },
    'polling Jira: works again',
  ],
  [
    'a side that does not respond',
    { level: 40, msg: 'polling Jira: Jira cannot be reached', remedy: 'Check JIRA_HOST' },
    'polling Jira: Jira cannot be reached. Check JIRA_HOST',
  ],
  [
    'an error',
    { level: 50, msg: 'a request failed', err: { message: 'disk full', remedy: null, stack: 'at x\nat y' } },
    'a request failed: disk full',
  ],
  ['an outcome of another version', { happened: 'outcome', kind: 'freeze', ticket: 'DROP-1' }, null],
])('%s', ([, fields, expected]) => {
  expect(shown(fields)).toBe(expected === null ? null : `11:17:15  ${expected}\n`)
})

test.for(actionKinds)('%s has a text for its failure', kind => {
  const failed = { result: 'failed', reason: 'no', remedy: 'Do it again.' }
  expect(shown(outcome(kind, failed))).toBe(`11:17:15  DROP-1  ${kind} failed: no. Do it again.\n`)
})

test('a line that is no JSON is shown as it is', () => {
  expect(stripVTControlCharacters(happening('a secret left this\n') ?? '')).toMatch(
    /^\d\d:\d\d:\d\d {2}a secret left this\n$/,
  )
})
