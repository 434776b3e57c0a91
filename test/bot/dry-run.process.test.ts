/** `up --dry-run` as a whole process: what it prints, and that its runner does nothing. */
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { openStore } from '../../src/store/sqlite/index.ts'
import { compiled } from '../support/cli.ts'
import { startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'

const entry = resolve(import.meta.dirname, '../../bin/agent-swarm.js')

test('up --dry-run prints what it would do, and does nothing', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-dry-'))
  const jira = await startJira({ issues: { 'DROP-1': 'one' } })
  const child = spawn(process.execPath, [entry, 'up', '--dry-run'], {
    env: {
      ...{
        PATH: process.env.PATH,
        HOME: home,
        AGENT_SWARM_HOME: join(home, 'state'),
        AGENT_SWARM_PROVIDER: 'synthetic',
      },
      ...compiled,
      ...jira.settings,
      ...{ JIRA_PROJECTS: 'DROP', AGENT_SWARM_RUNNER_TOKEN: 'the-token-of-the-runners', PORT: '0' },
    },
  })
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await jira.stop()
    rmSync(home, { recursive: true, force: true })
  })
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', chunk => (output.stdout += chunk))
  child.stderr.on('data', chunk => (output.stderr += chunk))

  jira.sendTo(await until('up', () => output.stderr.match(/listens on (http:[^\s,]+)/)?.[1]))
  // What is in progress at the first look is reported.
  await until('the first look', () => output.stderr.includes('watching DROP in Jira'))
  expect(await jira.move('DROP-1', 'In Progress')).toBe(202)
  await until('the action', () => /would queue: \{"kind":"create","ticket":"DROP-1"/.test(output.stdout))
  expect(output.stdout).toMatch(/^jira jira:issue_updated \S+: actions\n/)
  expect(output.stderr).toMatch(/dry run/i)
  // For people, not in Jira's document format.
  const comment = await jira.write('DROP-1', '/swarm fly')
  await until('the reply', () => /would send.* POST \/rest\/api\/3\/issue\/DROP-1\/comment\n/.test(output.stdout))
  expect(output.stdout).toMatch(
    new RegExp(`\n {4}Answer to comment ${comment}:\n {4}.* on DROP-1: /swarm fly\n {4}Unknown command fly\\.`),
  )
  expect(output.stdout).toMatch(/\n {4}\| \/swarm restart \| .* \| \/swarm restart \|\n/)
  await until('its line in the log', () => output.stderr.includes('shown, not published'))
  expect(output.stderr).not.toContain('"published"')
  const code = new Promise(resolve => child.once('exit', resolve))
  child.kill('SIGTERM')
  expect(await code).toBe(0)

  for (const name of ['synthetic', 'registry.db']) expect(existsSync(join(home, 'state', name))).toBe(false)
  expect(jira.comments('DROP-1')).toEqual(['/swarm fly'])
  const store = openStore(join(home, 'state', 'bot.db'), Date.now)
  const deliveries = await store.inbox.list([], 10)
  await store.close()
  // The move, the comment, and the move again where the first look found it too.
  expect(deliveries.length).toBeGreaterThanOrEqual(2)
  for (const { verdict, attempt } of deliveries) expect([verdict, attempt]).toEqual(['waiting', 0])
})
