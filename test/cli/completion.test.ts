/** Completion as the shells have it: what the program answers, and the scripts in real shells, at a terminal. */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { commands } from '../../src/cli/command-table.ts'
import { answer } from '../../src/cli/complete.ts'
import { openRegistry } from '../../src/registry/registry.ts'

const entry = resolve(import.meta.dirname, '../../bin/agent-swarm.js')
let folder: string
let home: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agent-swarm-completion-'))
  home = join(folder, 'state')
  mkdirSync(join(folder, 'bin'))
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(folder, { recursive: true, force: true })
})

/** An executable on PATH. */
const program = (name: string, text: string) => {
  const path = join(folder, 'bin', name)
  writeFileSync(path, `#!/bin/sh\n${text}\n`)
  chmodSync(path, 0o755)
}
const environment = () => ({
  PATH: [join(folder, 'bin'), '/usr/bin', '/bin'].join(delimiter),
  HOME: folder,
  AGENT_SWARM_HOME: home,
  TERM: 'xterm',
  LC_ALL: 'C.UTF-8',
})
/** What a script of `shell` is told, all of it. */
const told = (shell: string, ...words: string[]) => {
  const { stdout, stderr, status } = spawnSync(process.execPath, [entry, 'completion', shell, ...words], {
    env: environment(),
    encoding: 'utf8',
  })
  return { stdout, stderr, status }
}
const answers = async (...words: string[]) => {
  vi.stubEnv('AGENT_SWARM_HOME', home)
  return (await answer('bash', words)).split('\n').filter(Boolean)
}

/** Three environments, as they are after some work. */
const someEnvironments = () => {
  const registry = openRegistry(join(home, 'registry.db'))
  const by = { via: 'cli', who: null } as const
  const states = { 'DROP-2100': 'running', 'DROP-2101': 'stopped', 'WEB-7': 'lost' } as const
  for (const [ticket, status] of Object.entries(states)) {
    const operation = registry.startOperation({ actionId: null, correlation: null, ticket, kind: 'create', by, at: '' })
    const vmId = `as-${ticket.toLowerCase()}-00000000`
    registry.begin({ ticket, provider: 'kvm', vmId, baseImage: 'debian-12', by, hostKey: null, operation })
    registry.setStatus(ticket, status)
  }
  registry.close()
  const db = new DatabaseSync(join(home, 'registry.db'))
  const insert = db.prepare(
    'insert into checkpoint (ticket, name, why, created_at, with_memory) values (?, ?, ?, ?, 1)',
  )
  insert.run('DROP-2100', 'before-refactor', 'command', '2026-11-23T10:00:00Z')
  insert.run('DROP-2100', 'push-1234567', 'push', '2026-11-23T11:00:00Z')
  insert.run('WEB-7', 'other', 'command', '2026-11-23T11:00:00Z')
  db.close()
}

describe('what is answered', () => {
  beforeEach(someEnvironments)

  test.for([
    ['a command begun', ['crea'], ['create']],
    ['a command whole', ['checkpoint'], ['checkpoint', 'checkpoints']],
    ['nothing yet', [''], [...Object.keys(commands).filter(name => !name.includes(' ')), 'help']],
    ['options of the program', ['--'], ['--help', '--version']],
    ['a command to help with', ['help', 'ini'], ['init', 'init-base']],
    ['a command of two words', ['bot', ''], ['inbox', 'audit', 'replay']],
    ['one of them to help with', ['help', 'bot', 'i'], ['inbox']],
    ['an option of one of them', ['bot', 'inbox', '--li'], ['--limit']],
    ['an option beside them', ['bot', '--po'], ['--port']],
    ['a ticket', ['stop', ''], ['DROP-2100', 'DROP-2101', 'WEB-7']],
    ['a ticket in small letters', ['stop', 'drop-2100'], ['DROP-2100']],
    ['a machine that is there', ['ssh', ''], ['DROP-2100', 'DROP-2101']],
    ['a command in the machine', ['ssh', 'DROP-2100', '--', ''], []],
    ['a checkpoint of this ticket', ['restore', 'drop-2100', ''], ['push-1234567', 'before-refactor']],
    ['a checkpoint after an option', ['restore', '--json', 'DROP-2100', 'b'], ['before-refactor']],
    ['a checkpoint of no ticket', ['restore', 'DROP-1', ''], []],
    ['a word too many', ['stop', 'DROP-2100', ''], []],
    ['an image', ['init-base', ''], ['debian-12']],
    ['what an image is made of', ['init-base', '--from', ''], ['debian-packages', ':files']],
    ['an option', ['delete', '--f'], ['--force']],
    ['an option once', ['delete', '--force', '--f'], []],
    ['no option after --', ['delete', '--', '--f'], []],
    ['a value', ['list', '--status', ''], ['creating', 'running', 'stopped', 'deleting', 'failed', 'lost']],
    ['a value after a ticket', ['create', 'DROP-1', '--provider', 'k'], ['kvm']],
    ['a value after =', ['create', '--provider=s'], ['--provider=synthetic']],
    ['a value after = as bash splits it', ['create', '--provider', '=', 's'], ['synthetic']],
    ['a value after = at its beginning', ['create', '--provider', '='], ['kvm', 'tart', 'hyperv', 'aws', 'synthetic']],
    ['a value that only the person knows', ['up', '--port', ''], []],
    ['a ticket after a value', ['create', '--provider', 'kvm', 'WEB'], ['WEB-7']],
    ['a shell', ['completion', 'p'], ['powershell']],
    ['a command that is none', ['explode', ''], []],
    ['a property of every object', ['toString', ''], []],
    ['an option that is a property of every object', ['create', '--constructor='], []],
  ] as const)('%s', async ([, typed, expected]) => expect(await answers(...typed)).toEqual(expected))

  test('each shell is told in its own way', () => {
    expect(told('zsh', '--', 'ssh', 'DROP-2100').stdout).toBe('DROP-2100:running, kvm\n')
    expect(told('fish', '--', 'ssh', 'DROP-2100').stdout).toBe('DROP-2100\trunning, kvm\n')
    const typed = Buffer.from('agent-swarm\nssh\n', 'utf8').toString('base64')
    expect(told('powershell', typed).stdout).toBe('DROP-2100\trunning, kvm\nDROP-2101\tstopped, kvm\n')
  })

  test('no hypervisor is asked', () => {
    for (const name of ['virsh', 'qemu-img', 'ssh']) program(name, `touch '${folder}/asked'`)
    for (const typed of [
      ['ssh', ''],
      ['restore', 'DROP-2100', ''],
      ['init-base', ''],
      ['create', '--provider', ''],
    ])
      expect(answers(...typed)).not.toEqual([])
    expect(existsSync(join(folder, 'asked'))).toBe(false)
  })
})

describe('whatever is wrong, nothing is said and nothing is made', () => {
  const nothing = { stdout: '', stderr: '', status: 0 }

  test('there is no home', () => {
    expect(told('bash', '--', 'ssh', '')).toEqual(nothing)
    expect(existsSync(home)).toBe(false)
  })
  test('the registry is no database', () => {
    mkdirSync(home)
    writeFileSync(join(home, 'registry.db'), 'x'.repeat(5_000))
    expect(told('zsh', '--', 'ssh', '')).toEqual(nothing)
  })
  test('the home is a file', () => {
    writeFileSync(home, '')
    expect(told('fish', '--', 'restore', 'DROP-1', '')).toEqual(nothing)
  })
  test('the registry is held by another', () => {
    someEnvironments()
    const other = new DatabaseSync(join(home, 'registry.db'))
    other.exec('pragma locking_mode = exclusive; begin exclusive;')
    expect(told('bash', '--', 'ssh', '')).toEqual(nothing)
    other.close()
  })
})

test('a shell that is not known is wrong usage', () => {
  expect(told('tcsh')).toMatchObject({
    status: 2,
    stdout: '',
    stderr: expect.stringContaining('bash, zsh, fish, powershell'),
  })
})

/** A registry whose every text is a program. */
const hostile = [
  '$(touch pwned)',
  '`touch pwned`',
  ';touch pwned;',
  "'; touch pwned; '",
  'a\ntouch pwned',
  '\u001b]0;x\u0007',
]
test('of what a registry holds only what has the form of a name is told', async () => {
  mkdirSync(home)
  const db = new DatabaseSync(join(home, 'registry.db'))
  db.exec(
    'create table environment (ticket, status, provider, base_image); create table checkpoint (ticket, name, created_at)',
  )
  for (const text of hostile) {
    db.prepare('insert into environment values (?, ?, ?, ?)').run(text, 'running', 'kvm', text)
    db.prepare('insert into environment values (?, ?, ?, ?)').run('DROP-1', text, text, text)
    db.prepare('insert into checkpoint values (?, ?, ?)').run('DROP-1', text, '')
  }
  db.close()
  for (const typed of [
    ['ssh', ''],
    ['stop', ''],
    ['restore', 'DROP-1', ''],
    ['init-base', ''],
  ])
    expect(await answers(...typed)).toEqual([])
})

const has = (shell: string) => spawnSync(shell, ['--version']).status === 0
const terminal = process.platform === 'linux' && has('script')

/** Starts a shell at a terminal, types `keys` into it once it has its prompt, and returns what stood there. The keys end it. */
const atTerminal = (start: string, setUp: string, keys: string): Promise<string> =>
  new Promise((done, failed) => {
    const child = spawn('script', ['-qfec', start, '/dev/null'], { cwd: folder, env: environment() })
    let shown = ''
    let ready = false
    child.stdout.on('data', chunk => {
      shown += chunk
      if (ready || !shown.includes('ready> ')) return
      ready = true
      child.stdin.write(keys)
    })
    child.on('error', failed)
    child.on('close', () => done(shown))
    // In two pieces: what is typed here is shown as well.
    child.stdin.write(`${setUp}; PS1='rea''dy> '\n`)
  })
const TAB = '\t'
/** To the beginning of the line, and what is there becomes an argument of echo. */
const SHOW = '\u0001echo \n'
const CLEAR = '\u0015'
const interactive = {
  bash: { start: 'bash --norc --noprofile -i', setUp: "bind 'set enable-bracketed-paste off'" },
  zsh: { start: 'zsh -f -i', setUp: 'bindkey -e; unset zle_bracketed_paste; autoload -U compinit; compinit -u -D' },
}

describe.for(['bash', 'zsh'] as const)('%s', shell => {
  const { start, setUp } = interactive[shell]

  test.skipIf(!terminal || !has(shell))('completes what is typed at a terminal', async () => {
    program('agent-swarm', `exec '${process.execPath}' '${entry}' "$@"`)
    someEnvironments()
    writeFileSync(join(folder, 'a disk.qcow2'), '')
    const typed = [
      'agent-swarm crea',
      'agent-swarm ssh drop-2100',
      'agent-swarm restore DROP-2100 bef',
      'agent-swarm create --provider=s',
      'agent-swarm delete --fo',
      'agent-swarm init-base --from debian-p',
      'agent-swarm init-base --from a',
      'agent-swarm explode ',
    ]
    const keys = typed.map(line => `${line}${TAB}${SHOW}`).join('')
    const load = `eval "$(agent-swarm completion ${shell})"`
    const shown = await atTerminal(start, `${setUp}; ${load}`, `${keys}exit\n`)
    const said = shown.split(/[\r\n]+/).filter(line => line.startsWith('agent-swarm'))
    expect(said.map(line => line.trim())).toEqual([
      'agent-swarm create',
      'agent-swarm ssh DROP-2100',
      'agent-swarm restore DROP-2100 before-refactor',
      'agent-swarm create --provider=synthetic',
      'agent-swarm delete --force',
      'agent-swarm init-base --from debian-packages',
      'agent-swarm init-base --from a disk.qcow2',
      'agent-swarm explode',
    ])
  })

  test.skipIf(!terminal || !has(shell))('runs nothing of what it is told, nor of what is typed', async () => {
    const script = readFileSync(resolve(import.meta.dirname, `../../completions/agent-swarm.${shell}`), 'utf8')
    writeFileSync(join(folder, 'script'), script)
    writeFileSync(join(folder, 'answers'), hostile.join('\n'))
    // One answer is put into the line, several are listed.
    program(
      'agent-swarm',
      `echo asked >> '${folder}/asked'; case "$4" in one*) head -1 answers ;; *) cat answers ;; esac`,
    )
    const typed = ['one', 'two', '"$(touch pwned)" two', '`touch pwned` two']
    const keys = typed.map(word => `agent-swarm ${word}${TAB}${TAB}${CLEAR}`).join('')
    await atTerminal(start, `${setUp}; . ./script`, `${keys}exit\n`)
    expect(readFileSync(join(folder, 'asked'), 'utf8')).toContain('asked')
    expect(readdirSync(folder)).not.toContain('pwned')
  })
})

describe('fish', () => {
  const fish = (script: string) =>
    execFileSync('fish', ['--no-config', '-c', script], { cwd: folder, env: environment(), encoding: 'utf8' })

  test.skipIf(!has('fish'))('completes what is typed', () => {
    program('agent-swarm', `exec '${process.execPath}' '${entry}' "$@"`)
    someEnvironments()
    writeFileSync(join(folder, 'disk.qcow2'), '')
    const load = 'agent-swarm completion fish | source'
    const completed = (line: string) => fish(`${load}; complete -C '${line}'`).split('\n').filter(Boolean)
    expect(completed('agent-swarm crea')).toEqual([`create\t${commands.create?.says}`])
    expect(completed('agent-swarm ssh drop')).toEqual(['DROP-2100\trunning, kvm', 'DROP-2101\tstopped, kvm'])
    expect(completed('agent-swarm restore DROP-2100 ')).toEqual(
      expect.arrayContaining(['before-refactor', 'push-1234567']),
    )
    expect(completed('agent-swarm create --provider=s')).toEqual(['--provider=synthetic'])
    expect(completed('agent-swarm init-base --from d')).toEqual(
      expect.arrayContaining(['debian-packages', 'disk.qcow2']),
    )
    expect(completed('agent-swarm explode ')).toEqual([])
  })

  test.skipIf(!has('fish'))('runs nothing of what it is told, nor of what is typed', () => {
    writeFileSync(join(folder, 'answers'), [...hostile, '(touch pwned)', 'a\t(touch pwned)'].join('\n'))
    program('agent-swarm', `echo asked >> '${folder}/asked'; cat answers`)
    const script = resolve(import.meta.dirname, '../../completions/agent-swarm.fish')
    for (const line of ['agent-swarm ', 'agent-swarm "$(touch pwned)" ', 'agent-swarm \\(touch pwned\\) '])
      fish(`source '${script}'; complete -C ${JSON.stringify(line).replaceAll('$', '\\$')}`)
    expect(readFileSync(join(folder, 'asked'), 'utf8')).toContain('asked')
    expect(readdirSync(folder)).not.toContain('pwned')
  })
})

test('powershell’s script is of ASCII, balanced, and evaluates nothing', () => {
  // PowerShell itself is not on the machines that this is tested on.
  const script = told('powershell').stdout
  expect(script).toMatch(/^[\n\x20-\x7e]+$/)
  for (const [open, close] of ['()', '{}', '[]'])
    expect(script.split(open ?? '').length).toBe(script.split(close ?? '').length)
  const code = script.replaceAll(/^ *#.*$/gm, '')
  expect(code).not.toMatch(/Invoke-Expression|iex|ScriptBlock\]::Create|\.Invoke\(/i)
  expect(code).toContain('Register-ArgumentCompleter -Native -CommandName agent-swarm')
})
