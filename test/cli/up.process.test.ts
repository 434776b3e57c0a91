/** What `up` writes: lines for people on a terminal, JSON everywhere else. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openCli } from '../support/cli.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'
import { CTRL_C } from '../support/terminal.ts'
import { until } from '../support/wait.ts'

let cli: ReturnType<typeof openCli>
let jira: JiraStandIn
beforeEach(async () => {
  cli = openCli()
  jira = await startJira({ issues: { 'DROP-1': 'one' } })
})
afterEach(async () => {
  cli.close()
  await jira.stop()
})
const freePort = (): Promise<number> =>
  new Promise(resolve => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
const settings = (port: number) => ({
  ...jira.settings,
  ...{ JIRA_PROJECTS: 'DROP', PORT: String(port), AGENT_SWARM_PROVIDER: 'synthetic' },
})

test('on a terminal: a first hint, one line for what happened, and a last line', async () => {
  const port = await freePort()
  const move = () => {
    jira.sendTo(`http://127.0.0.1:${port}`)
    void jira.move('DROP-1', 'In Progress')
  }
  const { screen, code } = await cli.processes.terminal(['up'], {
    environment: settings(port),
    type: [
      // What is in progress at the first look is reported.
      { prompt: 'watching DROP in Jira', does: move },
      { prompt: '(ticket moved to In Progress', text: CTRL_C },
    ],
  })
  expect(code).toBe(0)
  const lines = stripVTControlCharacters(screen).trim().split('\n')
  const hint = lines.findIndex(line => line.startsWith('Move a ticket to In Progress to create its machine'))
  expect(hint).toBeGreaterThan(0)
  expect(lines.slice(hint + 1).filter(line => /DROP-1/.test(line))).toEqual([
    expect.stringMatching(
      /^\d\d:\d\d:\d\d {2}DROP-1 {2}created in (?:less than )?\d+(\.\d)? s \(ticket moved to In Progress.*\)$/,
    ),
  ])
  expect(lines.at(-1)).toBe('Ended. Machines keep their state: agent-swarm list shows them.')
  expect(screen).not.toMatch(/\bdecided\b|\bpublished\b|correlation|"level"/)
})

test('in a pipe: JSON lines alone', async () => {
  const port = await freePort()
  const up = cli.processes.begin(['up'], settings(port))
  await up.says('listens on')
  jira.sendTo(`http://127.0.0.1:${port}`)
  await jira.move('DROP-1', 'In Progress')
  await until('the outcome', () => up.output.stderr.includes('"happened":"outcome"'))
  up.kill('SIGTERM')
  const { code, stdout, stderr } = await up.ended
  expect(code).toBe(0)
  expect(stdout).toBe('')
  for (const line of stderr.trim().split('\n')) expect(JSON.parse(line)).toMatchObject({ msg: expect.any(String) })
})

test('--home and --log, as a service starts it that has neither variables nor standard error', async () => {
  const home = join(cli.home, 'another home')
  const log = join(home, 'service', 'up.log')
  mkdirSync(home, { mode: 0o700 })
  const port = await freePort()
  const { JIRA_HOST, JIRA_EMAIL, JIRA_API_TOKEN } = jira.settings as Record<string, string>
  const values = { jiraHost: JIRA_HOST, jiraEmail: JIRA_EMAIL, jiraApiToken: JIRA_API_TOKEN, jiraProjects: ['DROP'] }
  writeFileSync(join(home, 'config.yaml'), JSON.stringify({ ...values, port, provider: 'synthetic' }), { mode: 0o600 })
  const unset = { AGENT_SWARM_HOME: undefined, AGENT_SWARM_PROVIDER: undefined }
  const words = ['up', '--home', home, '--log', log]
  const up = cli.processes.begin(words, unset)
  await until('the log', () => existsSync(log) && readFileSync(log, 'utf8').includes('listens on'))
  up.kill('SIGTERM')
  expect(await up.ended).toEqual({ code: 0, stdout: '', stderr: '' })
  expect(existsSync(join(home, 'registry.db'))).toBe(true)
  // Why it does not start is in the log, too.
  writeFileSync(join(home, 'config.yaml'), 'prot: 3000\n')
  expect(await cli.processes.swarm(words, { environment: unset })).toEqual({ code: 1, stdout: '', stderr: '' })
  expect(readFileSync(log, 'utf8')).toContain('prot is not a setting')
})
