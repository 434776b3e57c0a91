/** The candidates that `agent-swarm completion` prints for the scripts of the shells. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { PassThrough } from 'node:stream'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { providerNames } from '../../providers/index.ts'
import { commands, commonOptions } from '../../src/cli/command-table.ts'
import { answer } from '../../src/cli/complete.ts'
import { main } from '../../src/cli/main.ts'
import { hostileTexts, openCompletionHome } from '../support/completion.ts'

let home: ReturnType<typeof openCompletionHome>

const openHome = () => {
  home = openCompletionHome()
}

/** What the script of `shell` gets. */
const printed = async (shell: string, ...words: string[]) => {
  const output = { stdout: '', stderr: '' }
  const stream = (name: keyof typeof output) => ({ write: (text: string) => (output[name] += text) })
  const code = await main(['completion', shell, ...words], {
    ...{ stdin: Object.assign(new PassThrough(), { isTTY: false }) as never, env: home.environment },
    ...{ stdout: stream('stdout'), stderr: stream('stderr'), on: () => {}, off: () => {} },
  })
  return { ...output, code }
}
const candidates = async (...words: string[]) =>
  (await answer({ commands, commonOptions }, 'bash', words, home.environment)).split('\n').filter(Boolean)

describe('candidates', () => {
  beforeAll(() => {
    home = openCompletionHome()
    home.addEnvironments()
  })
  afterAll(() => home.close())

  test.for([
    ['a started command', ['crea'], ['create']],
    ['a complete command', ['checkpoint'], ['checkpoint', 'checkpoints']],
    ['nothing yet', [''], [...new Set(Object.keys(commands).map(name => name.split(' ')[0])), 'help']],
    ['options of the program', ['--'], ['--help', '--version']],
    ['a command to show help for', ['help', 'ini'], ['init', 'init-base']],
    ['a command of two words', ['bot', ''], ['inbox', 'audit', 'held', 'replay', 'runner']],
    ['a command of three words', ['bot', 'runner', ''], ['add', 'list', 'revoke', 'forget']],
    ['the last of them to show help for', ['help', 'bot', 'runner', 'r'], ['revoke']],
    ['an option of a command of three words', ['bot', 'runner', 'add', 'x', '--a'], ['--as']],
    ['one of them to show help for', ['help', 'bot', 'i'], ['inbox']],
    ['an option of one of them', ['bot', 'inbox', '--li'], ['--limit']],
    ['an option beside them', ['bot', '--po'], ['--port']],
    ['a ticket', ['stop', ''], ['DROP-2100', 'DROP-2101', 'WEB-7']],
    ['a ticket in lower case', ['stop', 'drop-2100'], ['DROP-2100']],
    ['a machine that can be entered', ['ssh', ''], ['DROP-2100', 'DROP-2101']],
    ['a command in the machine', ['ssh', 'DROP-2100', '--', ''], []],
    ['a checkpoint of this ticket', ['restore', 'drop-2100', ''], ['push-1234567', 'before-refactor']],
    ['a checkpoint after an option', ['restore', '--json', 'DROP-2100', 'b'], ['before-refactor']],
    ['a checkpoint of an unknown ticket', ['restore', 'DROP-1', ''], []],
    ['an extra word', ['checkpoints', 'DROP-2100', ''], []],
    ['another ticket', ['stop', 'DROP-2100', ''], ['DROP-2101', 'WEB-7']],
    ['an image', ['init-base', ''], ['debian-12']],
    ['the source of an image', ['init-base', '--from', ''], ['debian-packages', ':files']],
    ['an option', ['delete', '--f'], ['--force']],
    ['an option that is given already', ['delete', '--force', '--f'], []],
    ['an option after --', ['delete', '--', '--f'], []],
    ['a value', ['list', '--status', ''], ['creating', 'running', 'stopped', 'deleting', 'failed', 'lost']],
    ['a value after a ticket', ['create', 'DROP-1', '--provider', 'k'], ['kvm']],
    ['a value after =', ['create', '--provider=s'], ['--provider=synthetic']],
    ['a value after =, as bash splits it', ['create', '--provider', '=', 's'], ['synthetic']],
    ['a value right after =', ['create', '--provider', '='], providerNames],
    ['a value that only the person knows', ['up', '--port', ''], []],
    ['a ticket after a value', ['create', '--provider', 'kvm', 'WEB'], ['WEB-7']],
    ['a shell', ['completion', 'p'], ['powershell']],
    ['a service', ['service', 'install', ''], ['up', 'bot', 'runner']],
    ['an unknown command', ['explode', ''], []],
    ['a property of every object', ['toString', ''], []],
    ['an option named like a property of every object', ['create', '--constructor='], []],
  ] as const)('%s', async ([, words, expected]) => expect(await candidates(...words)).toEqual(expected))

  test('each shell gets them in its own form', async () => {
    expect((await printed('zsh', '--', 'ssh', 'DROP-2100')).stdout).toBe('DROP-2100:running, kvm\n')
    expect((await printed('fish', '--', 'ssh', 'DROP-2100')).stdout).toBe('DROP-2100\trunning, kvm\n')
    const words = Buffer.from('agent-swarm\nssh\n', 'utf8').toString('base64')
    expect((await printed('powershell', words)).stdout).toBe('DROP-2100\trunning, kvm\nDROP-2101\tstopped, kvm\n')
  })

  test('no hypervisor is asked', async () => {
    for (const name of ['virsh', 'qemu-img', 'ssh']) home.program(name, `touch '${home.folder}/asked'`)
    for (const words of [
      ['ssh', ''],
      ['restore', 'DROP-2100', ''],
      ['init-base', ''],
      ['create', '--provider', ''],
    ])
      expect(await candidates(...words)).not.toEqual([])
    expect(existsSync(join(home.folder, 'asked'))).toBe(false)
  })
})

describe('when something is wrong, nothing is printed', () => {
  beforeEach(openHome)
  afterEach(() => home.close())
  const nothing = { stdout: '', stderr: '', code: 0 }

  test('the registry is not a database', async () => {
    mkdirSync(home.home)
    writeFileSync(join(home.home, 'registry.db'), 'x'.repeat(5_000))
    expect(await printed('zsh', '--', 'ssh', '')).toEqual(nothing)
  })
  test('the home is a file', async () => {
    writeFileSync(home.home, '')
    expect(await printed('fish', '--', 'restore', 'DROP-1', '')).toEqual(nothing)
  })
  test('another process holds the registry', async () => {
    home.addEnvironments()
    const other = new DatabaseSync(join(home.home, 'registry.db'))
    other.exec('pragma locking_mode = exclusive; begin exclusive;')
    expect(await printed('bash', '--', 'ssh', '')).toEqual(nothing)
    other.close()
  })
})

describe('without environments', () => {
  beforeEach(openHome)
  afterEach(() => home.close())

  test('an unknown shell is wrong usage', async () => {
    expect(await printed('tcsh')).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining('bash, zsh, fish, powershell'),
    })
  })

  test('only what has the form of a name leaves the registry', async () => {
    mkdirSync(home.home)
    const db = new DatabaseSync(join(home.home, 'registry.db'))
    db.exec(
      'create table environment (ticket, status, provider, base_image); create table checkpoint (ticket, name, created_at)',
    )
    for (const text of hostileTexts) {
      db.prepare('insert into environment values (?, ?, ?, ?)').run(text, 'running', 'kvm', text)
      db.prepare('insert into environment values (?, ?, ?, ?)').run('DROP-1', text, text, text)
      db.prepare('insert into checkpoint values (?, ?, ?)').run('DROP-1', text, '')
    }
    db.close()
    for (const words of [
      ['ssh', ''],
      ['stop', ''],
      ['restore', 'DROP-1', ''],
      ['init-base', ''],
    ])
      expect(await candidates(...words)).toEqual([])
  })

  test('the script of PowerShell is ASCII, balanced, and evaluates nothing', async () => {
    // The machines that run the tests have no PowerShell.
    const { stdout: script } = await printed('powershell')
    expect(script).toMatch(/^[\n\x20-\x7e]+$/)
    for (const [open, close] of ['()', '{}', '[]'])
      expect(script.split(open ?? '').length).toBe(script.split(close ?? '').length)
    const code = script.replaceAll(/^ *#.*$/gm, '')
    expect(code).not.toMatch(/Invoke-Expression|iex|ScriptBlock\]::Create|\.Invoke\(/i)
    expect(code).toContain('Register-ArgumentCompleter -Native -CommandName agent-swarm')
  })
})
