/** The completion scripts in real shells, at a terminal. */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { commands } from '../../src/cli/command-table.ts'
import { compiled, entry } from '../support/cli-processes.ts'
import { hostileTexts, openCompletionHome } from '../support/completion.ts'

let home: ReturnType<typeof openCompletionHome>
beforeEach(() => {
  home = openCompletionHome()
})
afterEach(() => home.close())

const scripts = resolve(import.meta.dirname, '../../completions')
const has = (shell: string) => spawnSync(shell, ['--version']).status === 0
const terminal = process.platform === 'linux' && has('script')
/** Puts the real program on PATH. */
const installProgram = () => home.program('agent-swarm', `exec '${process.execPath}' '${entry}' "$@"`)
const environment = () => ({ ...home.environment, ...compiled })

test('without a home nothing is printed, and no folder is made', () => {
  const { stdout, stderr, status } = spawnSync(process.execPath, [entry, 'completion', 'bash', '--', 'ssh', ''], {
    env: home.environment,
    encoding: 'utf8',
  })
  expect({ stdout, stderr, status }).toEqual({ stdout: '', stderr: '', status: 0 })
  expect(existsSync(home.home)).toBe(false)
})

test('a home with a relative path is refused, and no folder is made', () => {
  const { stderr, status } = spawnSync(process.execPath, [entry, 'list'], {
    cwd: home.folder,
    env: { ...home.environment, AGENT_SWARM_HOME: 'relative' },
    encoding: 'utf8',
  })
  expect({ stderr, status }).toEqual({
    stderr: expect.stringContaining('AGENT_SWARM_HOME must be an absolute path, not "relative".'),
    status: 1,
  })
  expect(existsSync(join(home.folder, 'relative'))).toBe(false)
})

/** Starts a shell at a terminal, types `keys` once it shows its prompt, and returns the screen. The keys end the shell. */
const atTerminal = (start: string, setUp: string, keys: string): Promise<string> =>
  new Promise((done, failed) => {
    const child = spawn('script', ['-qfec', start, '/dev/null'], { cwd: home.folder, env: environment() })
    let screen = ''
    let ready = false
    child.stdout.on('data', chunk => {
      screen += chunk
      if (ready || !screen.includes('ready> ')) return
      ready = true
      child.stdin.write(keys)
    })
    child.on('error', failed)
    child.on('close', () => done(screen))
    // In two pieces, because the terminal echoes what is typed.
    child.stdin.write(`${setUp}; PS1='rea''dy> '\n`)
  })
const TAB = '\t'
/** Moves to the beginning of the line and makes it the argument of echo. */
const ECHO_LINE = '\u0001echo \n'
const CLEAR_LINE = '\u0015'
const interactive = {
  bash: { start: 'bash --norc --noprofile -i', setUp: "bind 'set enable-bracketed-paste off'" },
  zsh: { start: 'zsh -f -i', setUp: 'bindkey -e; unset zle_bracketed_paste; autoload -U compinit; compinit -u -D' },
}

describe.for(['bash', 'zsh'] as const)('%s', shell => {
  const { start, setUp } = interactive[shell]

  test.skipIf(!terminal || !has(shell))('completes what is typed at a terminal', async () => {
    installProgram()
    home.addEnvironments()
    writeFileSync(join(home.folder, 'a disk.qcow2'), '')
    const typed = [
      'agent-swarm crea',
      'agent-swarm ssh drop-2100',
      'agent-swarm restore DROP-2100 bef',
      'agent-swarm create --provider=s',
      'agent-swarm init-base --from debian-p',
      'agent-swarm init-base --from a',
      'agent-swarm explode ',
    ]
    const keys = typed.map(line => `${line}${TAB}${ECHO_LINE}`).join('')
    const load = `eval "$(agent-swarm completion ${shell})"`
    const screen = await atTerminal(start, `${setUp}; ${load}`, `${keys}exit\n`)
    const lines = screen.split(/[\r\n]+/).filter(line => line.startsWith('agent-swarm'))
    expect(lines.map(line => line.trim())).toEqual([
      'agent-swarm create',
      'agent-swarm ssh DROP-2100',
      'agent-swarm restore DROP-2100 before-refactor',
      'agent-swarm create --provider=synthetic',
      'agent-swarm init-base --from debian-packages',
      'agent-swarm init-base --from a disk.qcow2',
      'agent-swarm explode',
    ])
  })

  test.skipIf(!terminal || !has(shell))('runs neither the candidates nor what is typed', async () => {
    writeFileSync(join(home.folder, 'script'), readFileSync(join(scripts, `agent-swarm.${shell}`), 'utf8'))
    writeFileSync(join(home.folder, 'candidates'), hostileTexts.join('\n'))
    // One candidate is put into the line, several are listed.
    home.program(
      'agent-swarm',
      `echo asked >> '${home.folder}/asked'; case "$4" in one*) head -1 candidates ;; *) cat candidates ;; esac`,
    )
    const typed = ['one', 'two', '"$(touch pwned)" two', '`touch pwned` two']
    const keys = typed.map(word => `agent-swarm ${word}${TAB}${TAB}${CLEAR_LINE}`).join('')
    await atTerminal(start, `${setUp}; . ./script`, `${keys}exit\n`)
    expect(readFileSync(join(home.folder, 'asked'), 'utf8')).toContain('asked')
    expect(readdirSync(home.folder)).not.toContain('pwned')
  })
})

describe('fish', () => {
  const fish = (script: string) =>
    execFileSync('fish', ['--no-config', '-c', script], { cwd: home.folder, env: environment(), encoding: 'utf8' })

  test.skipIf(!has('fish'))('completes what is typed', () => {
    installProgram()
    home.addEnvironments()
    writeFileSync(join(home.folder, 'disk.qcow2'), '')
    const lines = [
      'agent-swarm crea',
      'agent-swarm ssh drop',
      'agent-swarm restore DROP-2100 bef',
      'agent-swarm create --provider=s',
      'agent-swarm init-base --from d',
      'agent-swarm explode ',
    ]
    const script = lines.map(line => `echo "> ${line}"; complete -C '${line}'`).join('; ')
    const output = fish(`agent-swarm completion fish | source; ${script}`)
    const [, ...answers] = output.split(/^> .*\n/m)
    expect(answers).toEqual([
      `create\t${commands.create?.summary}\n`,
      'DROP-2100\trunning, kvm\nDROP-2101\tstopped, kvm\n',
      'before-refactor\n',
      '--provider=synthetic\n',
      expect.stringMatching(/^debian-packages\ndisk\.qcow2\n$/),
      '',
    ])
  })

  test.skipIf(!has('fish'))('runs neither the candidates nor what is typed', () => {
    writeFileSync(join(home.folder, 'candidates'), [...hostileTexts, '(touch pwned)', 'a\t(touch pwned)'].join('\n'))
    home.program('agent-swarm', `echo asked >> '${home.folder}/asked'; cat candidates`)
    const script = join(scripts, 'agent-swarm.fish')
    for (const line of ['agent-swarm ', 'agent-swarm "$(touch pwned)" ', 'agent-swarm \\(touch pwned\\) '])
      fish(`source '${script}'; complete -C ${JSON.stringify(line).replaceAll('$', '\\$')}`)
    expect(readFileSync(join(home.folder, 'asked'), 'utf8')).toContain('asked')
    expect(readdirSync(home.folder)).not.toContain('pwned')
  })
})

/** PowerShell 7, where it is installed. */
const pwsh = process.env.AGENT_SWARM_TEST_PWSH ?? (has('pwsh') ? 'pwsh' : null)
test.skipIf(pwsh === null)(
  'PowerShell completes commands, arguments and values of options, with and without a help',
  () => {
    installProgram()
    const lines = [
      'agent-swarm comp',
      'agent-swarm completion p',
      'agent-swarm list --status r',
      'agent-swarm create --provider=k',
    ]
    const file = join(home.folder, 'complete.ps1')
    writeFileSync(
      file,
      `. '${join(scripts, 'agent-swarm.ps1')}'
foreach ($line in ${lines.map(line => `'${line}'`).join(', ')}) {
  $found = TabExpansion2 -inputScript $line -cursorColumn $line.Length
  ($found.CompletionMatches | ForEach-Object { $_.CompletionText }) -join ' '
}
`,
    )
    const output = execFileSync(pwsh ?? '', ['-NoLogo', '-NoProfile', '-NonInteractive', '-File', file], {
      encoding: 'utf8',
      // It may lack the libraries of languages.
      env: { ...environment(), DOTNET_SYSTEM_GLOBALIZATION_INVARIANT: '1' },
    })
    expect(output.trim().split('\n')).toEqual(['completion', 'powershell', 'running', '--provider=kvm'])
  },
)
