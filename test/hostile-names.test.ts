/** Names that every object has, given at every door: none of them finds a row of a table. */

import { safeParse } from 'valibot'
import { describe, expect, test } from 'vitest'
import { readCommand } from '../handlers/slash-commands.ts'
import { providerRow } from '../providers/index.ts'
import { parseGitHub } from '../src/bot/github/events.ts'
import { parseJira } from '../src/bot/jira/events.ts'
import { splitName } from '../src/cli/command.ts'
import { commands } from '../src/cli/command-table.ts'
import { commandNamed, parseOptions } from '../src/cli/parse.ts'
import { readConfig } from '../src/config/config.ts'
import { checkName } from '../src/errors.ts'
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
    for (const kind of ['ticket', 'machine', 'checkpoint', 'image', 'provider'] as const)
      expect(() => checkName(kind, text)).toThrow('is not the name')
  },
)
