import { expect, test } from 'vitest'
import { type CommandName, commandsFor, readCommand, slashCommands } from '../../handlers/slash-commands.ts'

const base = {
  ticket: 'DROP-1',
  by: { via: 'github', who: 'dev' },
  replyTo: { repo: 'acme/shop', number: 1, commentId: 9, line: 0 },
} as const

const readExample = ({ example }: { example: string }) => {
  const command = readCommand(example.split(' ').slice(1), 'github')
  return 'name' in command ? [command.name, command.meaning(base)] : [command.answer]
}

test('the example of each command is a line of that command', () => {
  expect(Object.values(slashCommands).map(row => readExample(row)[0])).toEqual(Object.keys(slashCommands))
})

const action = (kind: string, more: object = {}) => ({ action: { kind, ...base, ...more } })
test.for<[CommandName, object]>([
  ['create', { ...action('create'), repo: 'acme/shop' }],
  ['status', action('status')],
  ['ssh', action('status', { about: 'ssh' })],
  ['checkpoint', action('checkpoint', { name: 'before-refactor', why: 'command', commit: null })],
  ['checkpoints', action('status', { about: 'checkpoints' })],
  ['logs', action('status', { about: 'logs' })],
  ['tell', action('tell', { text: 'Use the existing table, and add a test.' })],
  ['agent', action('agent', { what: 'stop' })],
  ['restore', action('restore', { name: 'before-refactor' })],
  ['start', action('start')],
  ['stop', action('stop')],
  ['delete', action('delete', { force: false })],
  ['allow', { allow: '1b7a3f0c52d94e8867a0c1d2e3f405162738495a' }],
  ['help', { help: true }],
])('the meaning of the example of %s', ([name, meaning]) =>
  expect(readExample(slashCommands[name])[1]).toEqual(meaning),
)

test('restore takes --cold, before or after the name', () => {
  const meaningOf = (...words: string[]) => {
    const read = readCommand(words, 'github')
    return 'meaning' in read ? read.meaning(base) : read
  }
  expect(meaningOf('restore', 'one', '--cold')).toMatchObject({ action: { kind: 'restore', name: 'one', cold: true } })
  expect(meaningOf('restore', '--cold')).toMatchObject({ action: { kind: 'restore', name: null, cold: true } })
  expect(meaningOf('restore', 'one')).not.toMatchObject({ action: { cold: true } })
  expect(meaningOf('restore', 'one', '--warm')).toMatchObject({
    answer: expect.stringContaining('restore [name] [--cold]'),
  })
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
  ['stop --force', 'Usage: `/swarm stop [--save]`, for example `/swarm stop`.'],
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

test.for<[string, object | string]>([
  ['tell', 'Usage: `/swarm tell <text>`'],
  ['tell --force -x "quoted" /swarm stop', { kind: 'tell', text: '--force -x "quoted" /swarm stop' }],
  ['agent', 'Usage: `/swarm agent stop` or `/swarm agent start`.'],
  ['agent kill', 'Usage: `/swarm agent stop` or `/swarm agent start`.'],
  ['agent START', { kind: 'agent', what: 'start' }],
  ['agent stop now', 'Usage: `/swarm agent stop|start`'],
  ['stop --save', { kind: 'stop', save: true }],
  ['logs setup', 'Usage: `/swarm logs`'],
])('/swarm %s', ([text, expected]) => {
  for (const via of ['github', 'jira'] as const) {
    const command = readCommand(text.split(' '), via)
    const meaning = 'name' in command ? command.meaning(base) : command
    if (typeof expected === 'string') expect('answer' in meaning ? meaning.answer : '').toContain(expected)
    else expect(meaning).toMatchObject({ action: expected })
  }
})
