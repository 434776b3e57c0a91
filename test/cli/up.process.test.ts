/** What `up` writes: lines for people on a terminal, JSON everywhere else. */
import { createServer } from 'node:net'
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
