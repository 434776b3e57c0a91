/** `ssh --config` as whole processes: what is printed, and that every command keeps the installed file. */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openCli } from '../support/cli.ts'
import { knownMachine } from '../support/context.ts'

let me: ReturnType<typeof openCli>
let folder: string
let kept: string
beforeEach(() => {
  me = openCli()
  folder = join(me.home, '.ssh')
  kept = join(folder, 'agent-swarm.config')
})
afterEach(() => me.close())
const swarm = (...words: string[]) => me.swarm(words)
const hosts = () => [...readFileSync(kept, 'utf8').matchAll(/^(?:Host|# DROP| {2}HostName).*$/gm)].map(String)

test('hosts are printed, of all or of one, as text or JSON', async () => {
  await swarm('create', 'DROP-1')
  me.know(registry => knownMachine(registry, 'DROP-2', '192.0.2.1', 2222))
  // Its hypervisor cannot be asked here: it is shown as it was known last.
  const asked = (...words: string[]) => me.swarm(['ssh', '--config', ...words], { environment: { PATH: '/nowhere' } })
  const [all, one, json, synthetic, none] = await Promise.all([
    asked(),
    asked('drop-2'),
    asked('--json'),
    asked('DROP-1'),
    asked('DROP-22'),
  ])
  expect(all).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(
      /^# DROP-1 runs on synthetic and has no SSH address\n\nHost DROP-2 drop-2\n {2}HostName 192\.0\.2\.1\n {2}Port 2222\n/,
    ),
  })
  expect(all.stdout).toContain(one.stdout)
  const file = join(me.home, 'printed')
  writeFileSync(file, one.stdout)
  expect((await me.run('ssh', ['-G', '-F', file, 'drop-2'])).stdout).toMatch(/^hostname 192\.0\.2\.1\nport 2222$/m)
  expect(JSON.parse(json.stdout)).toMatchObject([
    { ticket: 'DROP-1', names: [], options: null, because: 'DROP-1 runs on synthetic and has no SSH address' },
    { ticket: 'DROP-2', names: ['DROP-2', 'drop-2'], options: { HostName: '192.0.2.1', Port: '2222' }, because: null },
  ])
  expect(synthetic).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('has no SSH address') })
  expect(none).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringMatching(/has no environment\nDid you mean DROP-/),
  })
})

test('installed, every command keeps the file; uninstalled, none does', async () => {
  const planned = await swarm('ssh', '--config', '--install', '--dry-run')
  expect(planned.stdout).toMatch(
    /would\n {2}- make .*\n {2}- write .*\n {2}- put one line[^\n]*\nNothing was changed\./,
  )
  expect(existsSync(folder)).toBe(false)
  expect(await swarm('ssh', '--config', '--install')).toMatchObject({
    code: 0,
    stdout: expect.stringContaining(`is kept in ${kept}`),
    // ssh asks the system who one is, and not HOME.
    stderr: expect.stringContaining(`ssh -F ${folder}/config`),
  })
  me.know(registry => knownMachine(registry, 'DROP-2', '192.0.2.2'))
  await swarm('create', 'DROP-1')
  const two = ['Host DROP-2 drop-2', '  HostName 192.0.2.2']
  expect(hosts()).toEqual(['# DROP-1 runs on synthetic and has no SSH address', ...two])
  await swarm('stop', 'DROP-1')
  expect(hosts()).toEqual(['# DROP-1 is stopped; to start it: agent-swarm start DROP-1', ...two])
  await swarm('delete', 'DROP-1')
  expect(hosts()).toEqual(two)
  expect(await swarm('ssh', '--config', '--uninstall', '-q')).toMatchObject({ code: 0, stdout: '', stderr: '' })
  await swarm('create', 'DROP-1')
  expect(existsSync(folder)).toBe(false)
})

test('many commands at once leave the file as the registry is', async () => {
  await swarm('ssh', '--config', '--install')
  const tickets = Array.from({ length: 6 }, (_, n) => `DROP-${n + 1}`)
  await Promise.all(tickets.map(ticket => swarm('create', ticket)))
  expect(hosts()).toEqual(tickets.map(ticket => `# ${ticket} runs on synthetic and has no SSH address`))
  expect(readdirSync(folder).sort()).toEqual(['agent-swarm.config', 'config'])
})

test('a file that cannot be kept is told, in the journal too, and nothing else fails by it', async () => {
  await swarm('ssh', '--config', '--install')
  rmSync(folder, { recursive: true })
  expect(await swarm('create', 'DROP-1')).toMatchObject({
    code: 0,
    stderr: expect.stringContaining(`writing ${kept}: ENOENT`),
  })
  me.know(registry => expect(registry.operations('DROP-1', 1)[0]?.phases.at(-1)?.phase).toContain('ENOENT'))
  expect(existsSync(folder)).toBe(false)
  expect(await swarm('ssh', '--config', '--uninstall')).toMatchObject({ code: 0 })
  expect((await swarm('stop', 'DROP-1')).stderr).not.toContain('ENOENT')
})

test('wrong usage is told as such', async () => {
  const wrong: [string[], string][] = [
    [['--install'], '--install goes with --config'],
    [['DROP-1', '--json'], '--json goes with --config'],
    [['--config', '--dry-run'], '--dry-run goes with --install or --uninstall'],
    [['--config', '--install', '--uninstall'], 'either --install or --uninstall'],
    [['--config', '--install', 'DROP-1'], '--install is for all tickets at once'],
    [['--config', 'DROP-1', 'DROP-2'], '"DROP-2" is too much'],
    [['--config', '--start', 'DROP-1'], '--start does not go with --config'],
    [[], 'something is missing: agent-swarm ssh <TICKET>'],
  ]
  const ran = await Promise.all(wrong.map(([words]) => swarm('ssh', ...words)))
  for (const [at, [, said]] of wrong.entries())
    expect(ran[at]).toMatchObject({ code: 2, stderr: expect.stringContaining(said) })
})
