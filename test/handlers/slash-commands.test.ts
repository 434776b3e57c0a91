import { describe, expect, test } from 'vitest'
import { commandsFor, readCommand, slashCommands } from '../../handlers/slash-commands.ts'
import { words } from '../../src/bot/publish/render.ts'

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
    expect(commandsFor('jira').map(one => one.usage)).not.toContain('allow <commit>')
  })
})
