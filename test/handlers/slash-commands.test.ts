import { expect, test } from 'vitest'
import { commandsFor, readCommand, slashCommands } from '../../handlers/slash-commands.ts'

const base = {
  ticket: 'DROP-1',
  by: { via: 'github', who: 'dev' },
  replyTo: { repo: 'acme/shop', number: 1, commentId: 9, line: 0 },
} as const

test('the example of each command has the meaning of that command', () => {
  const meanings = Object.values(slashCommands).map(({ example }) => {
    const command = readCommand(example.split(' ').slice(1), 'github')
    return 'name' in command ? [command.name, command.meaning(base)] : [command.answer]
  })
  const action = (kind: string, more: object = {}) => ({ action: { kind, ...base, ...more } })
  expect(meanings).toEqual([
    ['create', action('create')],
    ['status', action('status')],
    ['ssh', action('status', { about: 'ssh' })],
    ['checkpoint', action('checkpoint', { name: 'before-refactor', why: 'command', commit: null })],
    ['checkpoints', action('status', { about: 'checkpoints' })],
    ['restore', action('restore', { name: 'before-refactor' })],
    ['start', action('start')],
    ['stop', action('stop')],
    ['delete', action('delete', { force: false })],
    ['allow', { allow: '1b7a3f0c52d94e8867a0c1d2e3f405162738495a' }],
    ['help', { help: true }],
  ])
  expect(meanings.map(([name]) => name)).toEqual(Object.keys(slashCommands))
})

test.for<[string, string]>([
  ['chekpoint', 'Did you mean `/swarm checkpoint`?'],
  ['sttaus', 'Did you mean `/swarm status`?'],
  ['Delte', 'Did you mean `/swarm delete`?'],
  ['reboot', 'Unknown command `reboot`.'],
  ['__proto__', 'Unknown command `__proto__`.'],
  ['constructor', 'Unknown command `constructor`.'],
  ['@everyone', 'Unknown command `?everyone`.'],
])('the answer to /swarm %s: %s', ([typed, expected]) =>
  // All commands are listed when none is near.
  expect(readCommand([typed], 'github')).toEqual({
    answer: expect.stringContaining(expected),
    help: expected.startsWith('Unknown'),
  }),
)

test.for<[string, string]>([
  ['status please', 'Usage: `/swarm status`, without arguments.'],
  ['stop --force', 'Usage: `/swarm stop`, without arguments.'],
  ['checkpoint a b', 'Usage: `/swarm checkpoint [name]`, for example `/swarm checkpoint before-refactor`.'],
  ['delete now', 'Usage: `/swarm delete [--force]`, for example `/swarm delete`.'],
])('the answer to /swarm %s: %s', ([typed, answer]) =>
  expect(readCommand(typed.split(' '), 'github')).toEqual({ answer, help: false }),
)

test('a command of pull requests does not exist in Jira', () => {
  expect(readCommand(['allow', 'a'.repeat(40)], 'jira')).toEqual({
    answer: '`/swarm allow` works only on pull requests.',
    help: false,
  })
  expect(readCommand(['alow', 'a'.repeat(40)], 'jira')).toMatchObject({ help: true })
  expect(commandsFor('jira').map(({ usage }) => usage)).not.toContain('allow <commit>')
})
