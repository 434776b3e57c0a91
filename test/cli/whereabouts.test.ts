/** A command for a ticket whose machine is on another host says which one: the bot knows, here or elsewhere. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { tokenHash } from '../../src/bot/http/signature.ts'
import { storeFile } from '../../src/config/home.ts'
import type { Environment } from '../../src/schema/environment.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { openRunnerStage } from '../bot/runners/stage.ts'
import { environmentOf, heartbeatOf } from '../store/fixtures.ts'
import { openCli } from '../support/cli.ts'

let cli: ReturnType<typeof openCli>
beforeEach(() => {
  cli = openCli()
})
afterEach(() => cli.close())

const machine = (ticket: string): Environment => ({ ...environmentOf(ticket), provider: 'tart' })
const WHERE = /DROP-7 has its machine on tart, on the host studio\.local \(runner studio\): running, as of \d{4}-/

test('a bot on this host is asked by its store', async () => {
  const state = join(cli.home, 'state')
  mkdirSync(state, { mode: 0o700 })
  const store = openStore(storeFile(state), Date.now)
  await store.runners.heartbeat(heartbeatOf([machine('DROP-7')], { runnerId: 'one', host: 'studio.local' }))
  await store.runnerTokens.add({ name: 'studio', hash: 'x', as: 'one' })
  await store.close()
  const failed = await cli.swarm(['checkpoint', 'DROP-7'])
  expect(failed).toMatchObject({ code: 1, stderr: expect.stringMatching(WHERE) })
  expect(failed.stderr).toContain('agent-swarm ssh --via studio.local DROP-7')
  expect((await cli.swarm(['ssh', 'DROP-7'])).stderr).toMatch(WHERE)
  expect(await cli.swarm(['status', 'DROP-7'])).toMatchObject({ code: 0, stderr: expect.stringMatching(WHERE) })
  expect((await cli.swarm(['delete', 'DROP-7', '--yes'])).stdout).toMatch(
    /DROP-7 has no machine here\. .*studio\.local/,
  )
  // Of a ticket that nobody has, nothing is said.
  expect((await cli.swarm(['ssh', 'DROP-8'])).stderr).toBe(
    'agent-swarm ssh: DROP-8 has no machine\nCreate one: agent-swarm create DROP-8\n',
  )
})

test('a bot elsewhere is asked with the token of this runner', async () => {
  const { url, store } = await openRunnerStage()
  await store.runners.heartbeat(heartbeatOf([machine('DROP-7')], { runnerId: 'two', host: 'studio.local' }))
  await store.runnerTokens.add({ name: 'studio', hash: 'x', as: 'two' })
  const token = 'the-token-of-this-runner'
  await store.runnerTokens.add({ name: 'here', hash: tokenHash(token), as: null })
  const environment = { AGENT_SWARM_BOT_URL: url, AGENT_SWARM_RUNNER_TOKEN: token }
  expect((await cli.swarm(['stop', 'DROP-7'], environment)).stderr).toMatch(WHERE)
  expect((await cli.swarm(['status', 'DROP-7'], environment)).stderr).toMatch(WHERE)
})

test('a bot that cannot be asked: how to find out', async () => {
  for (const environment of [
    { AGENT_SWARM_BOT_URL: 'http://127.0.0.1:9' },
    { AGENT_SWARM_BOT_URL: 'http://127.0.0.1:9', AGENT_SWARM_RUNNER_TOKEN: 'a-token-of-a-runner' },
  ])
    expect(await cli.swarm(['ssh', 'DROP-7'], environment)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /DROP-7 has no machine\n.*\nThe bot could not be asked where it is\. .*\/swarm status/,
      ),
    })
})

// ── create ──

test('a create of a ticket that another host has is refused, and says where it is', async () => {
  const { url, store } = await openRunnerStage()
  await store.runners.heartbeat(heartbeatOf([machine('DROP-7')], { runnerId: 'two', host: 'studio.local' }))
  await store.runnerTokens.add({ name: 'studio', hash: 'x', as: 'two' })
  const token = 'the-token-of-this-runner'
  await store.runnerTokens.add({ name: 'here', hash: tokenHash(token), as: null })
  const environment = { AGENT_SWARM_BOT_URL: url, AGENT_SWARM_RUNNER_TOKEN: token }
  // What a bot left here that once ran with this home.
  mkdirSync(join(cli.home, 'state'), { recursive: true, mode: 0o700 })
  await openStore(storeFile(join(cli.home, 'state')), Date.now).close()
  for (const more of [[], ['--dry-run'], ['--detach']]) {
    const refused = await cli.swarm(['create', 'DROP-7', ...more], environment)
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(WHERE) })
    expect(refused.stderr).toContain('agent-swarm bot runner forget NAME')
  }
  expect(await cli.json(['list'])).toEqual([])
  // Of several, the others are made.
  const several = await cli.swarm(['create', 'DROP-7', 'DROP-8'], environment)
  expect(several).toMatchObject({ code: 1, stderr: expect.stringMatching(WHERE) })
  expect(await cli.json(['list'])).toMatchObject([{ ticket: 'DROP-8' }])
})

test('a create goes on where the bot knows the machine as one of this host', async () => {
  const { url, store } = await openRunnerStage()
  const token = 'the-token-of-this-runner'
  await store.runnerTokens.add({ name: 'here', hash: tokenHash(token), as: 'mine' })
  await store.runners.heartbeat(heartbeatOf([machine('DROP-7')], { runnerId: 'mine', host: 'here.local' }))
  const environment = { AGENT_SWARM_BOT_URL: url, AGENT_SWARM_RUNNER_TOKEN: token }
  expect(await cli.swarm(['create', 'DROP-7'], environment)).toMatchObject({ code: 0 })
})

test('a bot on this host is asked by a create, too', async () => {
  const state = join(cli.home, 'state')
  mkdirSync(state, { mode: 0o700 })
  const store = openStore(storeFile(state), Date.now)
  await store.runners.heartbeat(heartbeatOf([machine('DROP-7')], { runnerId: 'one', host: 'studio.local' }))
  await store.runnerTokens.add({ name: 'studio', hash: 'x', as: 'one' })
  await store.close()
  expect(await cli.swarm(['create', 'DROP-7'])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(WHERE),
  })
})

test('a create with the bot away goes on, and warns once in one line', async () => {
  const environment = {
    AGENT_SWARM_BOT_URL: 'http://127.0.0.1:9',
    AGENT_SWARM_RUNNER_TOKEN: 'a-token-of-a-runner',
  }
  const { code, stderr } = await cli.swarm(['create', 'DROP-7', 'DROP-8'], environment)
  expect(code).toBe(0)
  expect(stderr.split('\n').filter(line => line.includes('The bot could not be asked'))).toEqual([
    expect.stringContaining('The bot could not be asked whether another host has the machine of DROP-7'),
  ])
})
