/** `doctor`, as a person sees it: what it says of a host, and how a registry is made again. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { tryRunnerLock } from '../../src/registry/lock.ts'
import { openCli } from '../support/cli.ts'

let cli: ReturnType<typeof openCli>
/** On a host without another hypervisor. */
const swarm = (...words: string[]) => cli.swarm(words, { PATH: '/nowhere', COLUMNS: '300' })
const path = (name = 'registry.db') => join(cli.home, 'state', name)
beforeEach(async () => {
  cli = openCli()
  expect(await cli.swarm(['create', 'DROP-1'])).toMatchObject({ code: 0 })
})
afterEach(() => cli.close())

test('a damaged registry: doctor names the command, which shows what it would do, and does it with --yes', async () => {
  const id = JSON.parse((await cli.swarm(['list', '--json'])).stdout)[0].vmId
  for (const suffix of ['-wal', '-shm']) rmSync(path(`registry.db${suffix}`), { force: true })
  writeFileSync(path(), 'no database')
  expect(await swarm('list')).toMatchObject({ code: 1, stderr: expect.stringContaining('--rebuild-registry') })
  const { code, stdout } = await swarm('doctor')
  expect({ code, stdout }).toEqual({
    code: 1,
    stdout: expect.stringMatching(
      /✗ Home: reading .*registry\.db: it is damaged: .*\n .*agent-swarm doctor --rebuild-registry\n/,
    ),
  })
  const planned = await swarm('doctor', '--rebuild-registry')
  expect(planned).toMatchObject({ code: 0, stdout: expect.stringMatching(`DROP-1 +${id} +synthetic +running +yes`) })
  expect(planned.stderr).toMatch(
    /This would move the damaged registry\.db away, and record 1 machine of the home [0-9a-f]{16}\.\nNothing was changed\./,
  )
  expect(readFileSync(path(), 'utf8')).toBe('no database')
  expect(await swarm('doctor', '--rebuild-registry', '--yes')).toMatchObject({
    code: 0,
    stderr: expect.stringMatching(/^Done: /),
  })
  expect((await swarm('list')).stdout).toMatch(/DROP-1 .*running/)
  expect((await swarm('doctor', '--rebuild-registry')).stderr).toBe(
    'The registry is whole, and has all machines of this home.\n',
  )
})

test('while a runner has the registry open, it is not replaced', async () => {
  for (const suffix of ['-wal', '-shm']) rmSync(path(`registry.db${suffix}`), { force: true })
  writeFileSync(path(), 'no database')
  const release = tryRunnerLock(path(''))
  for (const words of [
    ['doctor', '--rebuild-registry', '--yes'],
    ['runner', '--from-backup'],
  ])
    expect(
      await cli.swarm(words, { AGENT_SWARM_BOT_URL: 'http://127.0.0.1:9', AGENT_SWARM_RUNNER_TOKEN: 'x'.repeat(20) }),
    ).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/a runner of AGENT_SWARM_HOME .* has it open[\s\S]*Stop agent-swarm up/),
    })
  expect(readFileSync(path(), 'utf8')).toBe('no database')
  release?.()
  expect(await swarm('doctor', '--rebuild-registry', '--yes')).toMatchObject({ code: 0 })
})

test('a lost home: doctor lists its machines with its id, and another home takes them over', async () => {
  const id = readFileSync(path('id'), 'utf8').trim()
  writeFileSync(path('id'), '0123456789abcdef\n')
  rmSync(path('ssh'), { recursive: true })
  for (const suffix of ['', '-wal', '-shm']) rmSync(path(`registry.db${suffix}`), { force: true })
  const { stdout } = await swarm('doctor')
  expect(stdout).toContain(`1 machine on this host belongs to the home ${id}: DROP-1 (`)
  const words = ['doctor', '--rebuild-registry', '--home-id', id]
  expect(stdout).toContain(`agent-swarm ${words.join(' ')}\n`)
  expect((await swarm(...words)).stderr).toContain(`make ${path('')} the home ${id}`.replace('/ the', ' the'))
  expect(readFileSync(path('id'), 'utf8')).toBe('0123456789abcdef\n')
  expect(await swarm(...words, '--yes')).toMatchObject({ code: 0 })
  expect((await swarm('list')).stdout).toContain('DROP-1')
})

test.for([
  [['doctor', '--yes'], '--yes needs --rebuild-registry'],
  [['doctor', '--home-id', 'mine'], '"mine" is not the id of a home'],
] as const)('%j is refused', async ([words, text]) => {
  expect(await swarm(...words)).toMatchObject({ code: 2, stderr: expect.stringContaining(text) })
})

test('what others could read is named, with the command that closes it', async () => {
  mkdirSync(path('files'), { recursive: true })
  chmodSync(path('files'), 0o755)
  expect((await swarm('doctor')).stdout).toContain(`chmod go= ${path('files')}`)
  const open = ['links', 'logs', 'mirrors', 'proven', 'support-a1B2c3', 'transcripts'].map(path)
  for (const folder of open) mkdirSync(folder, { recursive: true })
  for (const folder of open) chmodSync(folder, 0o755)
  const { stdout } = await swarm('doctor')
  expect(open.filter(folder => !stdout.includes(folder))).toEqual([])
  expect(readdirSync(path('')).filter(name => name.startsWith('rebuild-'))).toEqual([])
})

test('a file of keys of people that cannot go into machines is a problem, with its line', async () => {
  const file = join(cli.home, 'team.keys')
  const doctor = () => cli.swarm(['doctor'], { PATH: '/nowhere', COLUMNS: '300', AGENT_SWARM_AUTHORIZED_KEYS: file })
  writeFileSync(file, `ssh-ed25519 ${'A'.repeat(68)} alice\n`)
  expect((await doctor()).stdout).toContain('✓ Home: 1 key of people for machines (authorizedKeys)')
  writeFileSync(file, 'command="x" ssh-ed25519 AAAA\n')
  expect(await doctor()).toMatchObject({
    code: 1,
    stdout: expect.stringContaining(`✗ Home: reading the keys of people in ${file}: line 1 is not a public key`),
  })
})
