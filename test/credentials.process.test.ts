/** Programs that we start see what they need, and no credential of the person who started us. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Setting, settings } from '../src/config/settings.ts'
import { attachProgram, detachProgram, openRun, watchProgram } from '../src/exec.ts'
import { openCli } from './support/cli.ts'
import { until } from './support/wait.ts'

/** Every secret setting, and what other programs keep in the environment. */
const secret = Object.fromEntries(
  [
    ...Object.values<Setting>(settings).flatMap(({ env, secret: isSecret }) => (isSecret ? [env] : [])),
    ...['GH_TOKEN', 'NPM_TOKEN', 'AWS_SECRET_ACCESS_KEY', 'ANTHROPIC_API_KEY', 'SSH_AUTH_SOCK', 'NODE_OPTIONS'],
  ].map(name => [name, name === 'NODE_OPTIONS' ? '--no-warnings' : `leaked-${name}`]),
)
const environment = { PATH: process.env.PATH, HOME: '/nowhere', TERM: 'xterm', LANG: 'de_DE.UTF-8', ...secret }
const namesIn = (text: string) => text.split('\n').map(line => line.split('=')[0] ?? '')
const leaks = (text: string) => namesIn(text).filter(name => Object.hasOwn(secret, name))

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agent-swarm-doors-'))
})
afterEach(() => rmSync(folder, { recursive: true }))
const dump = () => ['-c', `env > ${folder}/new && mv ${folder}/new ${folder}/env`]
const dumped = () => readFileSync(join(folder, 'env'), 'utf8')

test.for([
  ['a command', () => openRun(environment)('sh', dump()), ['LC_ALL']],
  [
    'a command under limits',
    () =>
      openRun(environment)('sh', dump(), { limits: { memoryBytes: 1024 ** 3, cpuSeconds: 60, fileBytes: 1024 ** 2 } }),
    ['LC_ALL'],
  ],
  ["a person's program", () => attachProgram(environment, 'sh', dump()), ['TERM', 'LANG']],
  [
    'a program that is watched',
    () =>
      watchProgram(environment, 'sh', dump(), {
        signal: new AbortController().signal,
        onLine: () => {},
        onError: () => {},
      }),
    ['LC_ALL'],
  ],
  [
    'a program that outlives us',
    async () => (await detachProgram(environment, 'sh', dump(), { output: join(folder, 'log'), passOn: [] })).ended,
    [],
  ],
] as const)('%s', async ([, start, more]) => {
  await start()
  expect(leaks(dumped())).toEqual([])
  expect(namesIn(dumped())).toEqual(expect.arrayContaining(['PATH', 'HOME', ...more]))
})

test('a shell in a synthetic machine, on a terminal and in a pipe', async () => {
  const cli = openCli()
  try {
    await cli.swarm(['create', 'DROP-1'])
    const ran = await cli.processes.swarm(['ssh', 'DROP-1', '--', 'env'], {
      environment: { ...secret, LANG: 'C.UTF-8' },
    })
    expect(ran.stdout).toContain('\nLANG=C.UTF-8\n')
    expect(leaks(ran.stdout)).toEqual([])
    const { screen } = await cli.processes.terminal(['ssh', 'DROP-1'], {
      environment: secret,
      type: { prompt: '', text: 'env; exit\n' },
    })
    expect(screen).toContain('TERM=xterm-256color')
    expect(leaks(screen)).toEqual([])
    expect(await cli.inside('DROP-1', 'env').then(leaks)).toEqual([])
  } finally {
    cli.close()
  }
})

test('the command in the background, and what it starts', async () => {
  const cli = openCli()
  try {
    const bin = join(cli.home, 'bin')
    mkdirSync(bin)
    const seen = join(cli.home, 'seen')
    // Stands in for ssh-keygen, and writes down what it and its parent see.
    writeFileSync(
      join(bin, 'ssh-keygen'),
      `#!/bin/sh\n{ env; tr '\\0' '\\n' < /proc/$PPID/environ; } > ${seen}\nPATH=\${PATH#*:} exec ssh-keygen "$@"\n`,
    )
    chmodSync(join(bin, 'ssh-keygen'), 0o755)
    const more = { ...secret, PATH: `${bin}:${process.env.PATH}`, AGENT_SWARM_CPUS: '3' }
    await cli.processes.swarm(['create', 'DROP-1', '--detach'], { environment: more })
    await until('it to end', async () => existsSync(seen) && (await cli.json(['list']))[0]?.status === 'running')
    const text = readFileSync(seen, 'utf8')
    expect(text).toContain('\nAGENT_SWARM_CPUS=3')
    expect(leaks(text)).toEqual([])
  } finally {
    cli.close()
  }
})
