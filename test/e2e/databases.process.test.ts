/** Whole processes whose databases are damaged, or whose disk is full. */
import { execFileSync, spawn } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { writeBackup } from '../../src/backups.ts'
import { openRegistry } from '../../src/registry/registry.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { delivery } from '../store/fixtures.ts'
import { compiled } from '../support/cli.ts'
import { openProcesses } from '../support/cli-processes.ts'
import { harms } from '../support/harm.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'

vi.setConfig({ testTimeout: 300_000 })
const entry = resolve(import.meta.dirname, '../../bin/agent-swarm.js')
let home: string
let jira: JiraStandIn
let started: { kill: (signal: NodeJS.Signals) => void }[]
beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-databases-'))
  mkdirSync(join(home, 'state'), { mode: 0o700 })
  jira = await startJira({ issues: { 'DROP-1': 'one' } })
  started = []
})
afterEach(async () => {
  for (const child of started) child.kill('SIGKILL')
  await jira.stop()
  rmSync(home, { recursive: true, force: true })
})
const environment = () => ({
  PATH: process.env.PATH,
  HOME: home,
  AGENT_SWARM_HOME: join(home, 'state'),
  AGENT_SWARM_PROVIDER: 'synthetic',
  ...compiled,
  AGENT_SWARM_RUNNER_TOKEN: 'a-token-for-tests',
  PORT: '0',
  ...jira.settings,
  JIRA_PROJECTS: 'DROP',
})
const processes = openProcesses(environment)
const begin = (words: string[]) => {
  const child = processes.begin(words)
  started.push(child)
  return child
}
const file = (name: string) => join(home, 'state', name)
const urlIn = (stderr: string) => stderr.match(/listens on (http:[^\s,"]+)/)?.[1]
const answer = async (url: string, path: string) => (await fetch(new URL(path, url))).status

const fillRegistry = () => {
  const registry = openRegistry(file('registry.db'))
  const by = { via: 'cli', who: 'ada'.repeat(300) } as const
  for (let n = 1; n <= 300; n++) {
    const ticket = `DROP-${n}`
    registry.startOperation({
      actionId: `${n}`,
      correlation: null,
      ticket,
      kind: 'stop',
      by,
      at: '2026-11-24T10:00:00Z',
    })
    registry.endOperation(n, '2026-11-24T10:00:01Z', 'done', null)
  }
  registry.close()
}
const fillStore = async () => {
  const store = openStore(file('bot.db'), Date.now)
  await store.inbox.accept(
    Array.from({ length: 1_500 }, (_, n) =>
      delivery(`${n}`, `a${n}`, { source: 'clock', body: `"${'x'.repeat(3_000)}"` }),
    ),
  )
  const taken = await store.inbox.due(1_500)
  await store.inbox.settle(
    taken.map(({ seq }) => ({
      ...{ seq, verdict: 'ignored', reason: 'old' },
      ...{ actions: [], messages: [], requests: [], effects: [] },
    })),
  )
  await store.close()
}

describe('up with a damaged registry', () => {
  test.for(Object.keys(harms))('says which file and what to do, takes nothing, and ends: %s', async harm => {
    fillRegistry()
    writeBackup(file('registry.db'), Date.now())
    harms[harm]?.(file('registry.db'))
    const { code, stderr } = await begin(['up']).ended
    expect(code).toBe(1)
    expect(stderr).toContain(`${file('registry.db')}: it is damaged`)
    expect(stderr).toContain('--from-backup')
    expect(urlIn(stderr)).toBeUndefined()
  })

  test('goes on from the newest backup when it is told to', async () => {
    fillRegistry()
    writeBackup(file('registry.db'), Date.now())
    harms['its middle']?.(file('registry.db'))
    const up = begin(['up', '--from-backup'])
    const url = await until('up', () => urlIn(up.output.stderr))
    await until('being ready', async () => (await answer(url, '/readyz')) === 200)
    expect(up.output.stderr).toContain('registry.db was damaged')
    expect(
      readdirSync(join(home, 'state')).filter(name => /^registry\.db\.damaged-\d{8}-\d{6}$/.test(name)),
    ).toHaveLength(1)
    up.kill('SIGTERM')
    expect((await up.ended).code).toBe(0)
  })
})

test('a bot whose store turns out to be damaged in the middle of work ends, and says which file', async () => {
  await fillStore()
  const bot = begin(['bot'])
  const url = await until('the bot', () => urlIn(bot.output.stderr))
  await until('being ready', async () => (await answer(url, '/readyz')) === 200)
  harms['its middle']?.(file('bot.db'))
  // Reads what is damaged.
  await processes.swarm(['bot', 'inbox', '--limit', '10000'])
  const { code, stderr } = await bot.ended
  expect(code).toBe(1)
  expect(stderr).toContain(`${file('bot.db')}: it is damaged`)
})

test('a backup that an operator copies into place is noticed: bot held lists what it had queued', async () => {
  const store = openStore(file('bot.db'), Date.now)
  await store.outbox.put([{ key: 'status:DROP-1', body: { kind: 'status', ticket: 'DROP-1' } }])
  const backup = writeBackup(file('bot.db'), Date.now())
  await store.close()
  copyFileSync(backup.file, file('bot.db'))
  const bot = begin(['bot'])
  await bot.says('agent-swarm bot held lists it')
  const { stdout } = await processes.swarm(['bot', 'held', '--json'])
  expect(JSON.parse(stdout)).toMatchObject([{ id: 'held:1', kind: 'message', about: 'DROP-1', what: 'status' }])
  expect((await processes.swarm(['bot', 'replay', 'held:1'])).stdout).toBe('held:1 is queued again.\n')
  expect((await processes.swarm(['bot', 'held'])).stderr).toBe('Nothing is held.\n')
})

const canMount = (() => {
  try {
    execFileSync('unshare', ['-rm', 'mount', '-t', 'tmpfs', 'none', '/mnt'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()
test.skipIf(!canMount)('a bot on a full disk is alive and not ready, and ready again when there is room', async () => {
  const state = join(home, 'state')
  const script = 'mount -t tmpfs -o size=16m,mode=700 none "$0" && exec "$@"'
  const child = spawn('unshare', ['-rm', 'sh', '-c', script, state, process.execPath, entry, 'bot'], {
    env: environment(),
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  started.push({ kill: signal => child.kill(signal) })
  let stderr = ''
  child.stderr.on('data', chunk => {
    stderr += chunk
  })
  const url = await until('the bot', () => urlIn(stderr))
  await until('being ready', async () => (await answer(url, '/readyz')) === 200)
  // The bot's own view of its home.
  const filler = join('/proc', String(child.pid), 'root', state, 'filler')
  const full = () => {
    try {
      writeFileSync(filler, Buffer.alloc(64 * 1024), { flag: 'a' })
      return false
    } catch {
      return true
    }
  }
  await until('a full disk', full, { every: 1 })
  await until('not being ready', async () => (await answer(url, '/readyz')) === 503)
  expect(await answer(url, '/healthz')).toBe(200)
  rmSync(filler)
  await until('being ready again', async () => (await answer(url, '/readyz')) === 200)
})
