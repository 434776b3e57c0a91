/** `ssh --config`: what is printed, and that every command keeps the installed file up to date. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openCli } from '../support/cli.ts'
import { knownMachine } from '../support/context.ts'

let cli: ReturnType<typeof openCli>
let folder: string
let file: string
beforeEach(() => {
  cli = openCli()
  folder = join(cli.home, '.ssh')
  file = join(folder, 'agent-swarm.config')
})
afterEach(() => cli.close())
const swarm = (...words: string[]) => cli.swarm(words)
/** The hosts in the file, and the tickets that are none, as comments. */
const hosts = () => [...readFileSync(file, 'utf8').matchAll(/^(?:Host.*|# DROP-\d+| {2}HostName.*)/gm)].map(String)

test('hosts are printed, all or one, as text or JSON', async () => {
  await swarm('create', 'DROP-1')
  cli.know(registry => knownMachine(registry, 'DROP-2', '192.0.2.1', 2222))
  // Without virsh on PATH the machine is shown as last known.
  const config = (...words: string[]) => cli.swarm(['ssh', '--config', ...words], { PATH: '/nowhere' })
  const all = await config()
  expect(all).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^# DROP-1 .*\n\nHost DROP-2 drop-2\n {2}HostName 192\.0\.2\.1\n {2}Port 2222\n/),
  })
  const one = await config('drop-2')
  expect(all.stdout).toContain(one.stdout)
  const printed = join(cli.home, 'printed')
  writeFileSync(printed, one.stdout)
  expect((await cli.processes.run('ssh', ['-G', '-F', printed, 'drop-2'])).stdout).toMatch(
    /^hostname 192\.0\.2\.1\nport 2222$/m,
  )
  expect(JSON.parse((await config('--json')).stdout)).toMatchObject([
    { ticket: 'DROP-1', names: [], options: null, reason: expect.stringMatching(/^DROP-1 /) },
    { ticket: 'DROP-2', names: ['DROP-2', 'drop-2'], options: { HostName: '192.0.2.1', Port: '2222' }, reason: null },
  ])
  expect(await config('DROP-1')).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('DROP-1') })
  expect(await config('DROP-22')).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('Did you mean DROP-2?'),
  })
})

test('installed, every command keeps the file up to date; uninstalled, none does', async () => {
  const planned = await swarm('ssh', '--config', '--install', '--dry-run')
  expect(planned.stdout).toMatch(
    /^Dry run: `ssh --config --install` would:\n {2}- .*\n {2}- .*\n {2}- [^\n]*\n\nThe file:\n/,
  )
  expect(existsSync(folder)).toBe(false)
  expect(await swarm('ssh', '--config', '--install')).toMatchObject({
    code: 0,
    stdout: expect.stringContaining(`are kept in ${file}`),
    // ssh asks the system for the home folder, and ignores HOME.
    stderr: expect.stringContaining(`ssh -F ${folder}/config`),
  })
  cli.know(registry => knownMachine(registry, 'DROP-2', '192.0.2.2'))
  await swarm('create', 'DROP-1')
  const other = ['Host DROP-2 drop-2', '  HostName 192.0.2.2']
  expect(hosts()).toEqual(['# DROP-1', ...other])
  await swarm('stop', 'DROP-1')
  expect(readFileSync(file, 'utf8')).toMatch(/^# DROP-1 .*agent-swarm start DROP-1$/m)
  await swarm('delete', 'DROP-1')
  expect(hosts()).toEqual(other)
  expect(await swarm('ssh', '--config', '--uninstall', '-q')).toMatchObject({ code: 0, stdout: '', stderr: '' })
  await swarm('create', 'DROP-1')
  expect(existsSync(folder)).toBe(false)
})

test('a file that cannot be written is reported, also in the journal, and nothing else fails', async () => {
  await swarm('ssh', '--config', '--install')
  rmSync(folder, { recursive: true })
  expect(await swarm('create', 'DROP-1')).toMatchObject({
    code: 0,
    stderr: expect.stringContaining(`writing ${file}: ENOENT`),
  })
  cli.know(registry => expect(registry.operations('DROP-1', 1)[0]?.phases.at(-1)?.phase).toContain('ENOENT'))
  expect(existsSync(folder)).toBe(false)
  expect(await swarm('ssh', '--config', '--uninstall')).toMatchObject({ code: 0 })
  expect((await swarm('stop', 'DROP-1')).stderr).not.toContain('ENOENT')
})

test.for([
  [['--install'], '--install needs --config'],
  [['DROP-1', '--json'], '--json needs --config'],
  [['--config', '--dry-run'], '--dry-run needs --install or --uninstall'],
  [['--config', '--install', '--uninstall'], 'either --install or --uninstall'],
  [['--config', '--install', 'DROP-1'], '--install is for all tickets'],
  [['--config', 'DROP-1', 'DROP-2'], 'Unexpected argument "DROP-2".'],
  [['--config', '--start', 'DROP-1'], '--start cannot be used with --config'],
  [[], 'Missing argument <TICKET>.'],
] as const)('wrong usage: ssh %j', async ([words, text]) => {
  expect(await swarm('ssh', ...words)).toMatchObject({ code: 2, stderr: expect.stringContaining(text) })
})
