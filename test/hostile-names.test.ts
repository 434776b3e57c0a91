/** Names that every object has, given at every door: none of them finds a row of a table. */

import { safeParse } from 'valibot'
import { describe, expect, test } from 'vitest'
import { readCommand } from '../handlers/slash-commands.ts'
import { markTags, parseMark as parseAwsMark } from '../providers/aws/marks.ts'
import { parseMark as parseHypervMark } from '../providers/hyperv/marks.ts'
import { providerRow } from '../providers/index.ts'
import { parseVmName, vmName } from '../providers/tart/marks.ts'
import { parseGitHub } from '../src/bot/github/events.ts'
import { parseJira } from '../src/bot/jira/events.ts'
import { ticketArgument } from '../src/cli/arguments.ts'
import { splitName } from '../src/cli/command.ts'
import { commands } from '../src/cli/command-table.ts'
import { commandNamed, parseOptions } from '../src/cli/parse.ts'
import { readConfig } from '../src/config/config.ts'
import { checkName } from '../src/errors.ts'
import { ifUnlocked } from '../src/registry/lock.ts'
import { lease } from '../src/schema/runner-protocol.ts'

const NAMES = Object.getOwnPropertyNames(Object.prototype)

describe.for(NAMES)('%s', name => {
  test('is no command, neither in a comment nor on the command line, and no option', async () => {
    for (const via of ['github', 'jira'] as const)
      expect(readCommand([name], via)).toMatchObject({ answer: expect.stringContaining('Unknown command') })
    expect(splitName(commands, [name, name])).toEqual([name, name])
    await expect(commandNamed(name)).rejects.toThrow('Unknown command')
    const command = await commandNamed('list')
    await expect(parseOptions([`--${name}`], 'list', command)).rejects.toThrow(/Unknown option/)
  })
  test('is no event', () => {
    expect(parseGitHub(name, {})).not.toHaveProperty('event')
    expect(parseJira({ webhookEvent: name })).not.toHaveProperty('event')
  })
  test('is no provider, no action and no setting', async () => {
    expect(() => providerRow(name)).toThrow('does not exist')
    const action = { kind: name, ticket: 'DROP-1', by: { via: 'jira', who: null }, replyTo: null }
    expect(safeParse(lease, { id: '1', correlation: '1', action, attempt: 1, token: 'x' }).success).toBe(false)
    await expect(readConfig({}, { AGENT_SWARM_HOME: '/nowhere' }, `${name}: 1\n`)).rejects.toThrow(/is not a setting/)
  })
})

test.for(['../x', 'a/b', '', '.', 'DROP-1\n', '__proto__', '-rf', 'a\u0000b'])(
  'what is no name becomes no part of a path: %j',
  text => {
    for (const kind of ['ticket', 'environment', 'machine', 'checkpoint', 'image', 'provider'] as const)
      expect(() => checkName(kind, text)).toThrow('is not the name')
  },
)

test.for([
  'DROP-1~0',
  'DROP-1~',
  'DROP-1~~1',
  'DROP-1~01',
  'DROP-1~100',
  'DROP-1%7E1',
  'DROP-1~1~2',
  '~1',
  'DROP~1',
  'DROP-1~1\n',
])('what is no attempt becomes no lock, no row, no action, no mark and no argument: %j', async key => {
  expect(() => checkName('environment', key)).toThrow('is not the name of an environment')
  await expect(ifUnlocked('/nowhere', key, async () => 'locked')).rejects.toThrow(/neither a ticket nor a machine/)
  const action = { kind: 'start', ticket: key, by: { via: 'jira', who: null }, replyTo: null }
  expect(safeParse(lease, { id: '1', correlation: '1', action, attempt: 1, token: 'x' }).success).toBe(false)
  expect(() => ticketArgument(key)).toThrow('is not a ticket')
  const vmId = 'as-drop-1-00000001'
  const home = '0123456789abcdef'
  expect(() => vmName({ kind: 'machine', vmId, ticket: key, home })).toThrow('is not a ticket')
  expect(parseVmName(`${vmId}.${key}.${home}`)).toBe(null)
  const tags = markTags({ vmId, ticket: key, home })
  expect(parseAwsMark(tags)).toEqual({ vmId, ticket: null, home })
  const hyperv = { vmId, ticket: key, home, mac: '52:54:00:00:00:01', address: null, made: true }
  expect(parseHypervMark(`agent-swarm ${JSON.stringify(hyperv)}`)).toBe(null)
})

test('a key of an attempt is no ticket', () => {
  expect(() => checkName('ticket', 'DROP-1~1')).toThrow('is not the name of a ticket')
  const move = { kind: 'move', ticket: 'DROP-1~1', from: 'OLD-1', by: { via: 'jira', who: null }, replyTo: null }
  expect(safeParse(lease, { id: '1', correlation: '1', action: move, attempt: 1, token: 'x' }).success).toBe(false)
})
