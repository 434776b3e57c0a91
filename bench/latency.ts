/**
 * (d) The time from the 2xx to the first hypervisor process, while the APIs answer at once: beside the least that the same work
 * takes, and by phase.
 */
import { spawn } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { startJira } from '../test/support/jira.ts'
import { until } from '../test/support/wait.ts'
import type { Row } from './main.ts'
import { entry, finish, median, withHome } from './measure.ts'

const ROUNDS = 9
const TARGET_MS = 50
/** Of the floor. */
const TARGET = 1.5
/** Commits that must be on disk before the first command: the decision, the lease, the intent, and the name of the machine. */
const COMMITS = 4
const QUIET_MS = 300

/** Milliseconds of what no implementation can do without: the issue is read, what is decided is on disk, the process starts. */
const floorOf = async (home: string, { issue, virsh, log }: { issue: Request; virsh: string; log: string }) => {
  const db = new DatabaseSync(join(home, 'floor.db'))
  db.exec('pragma journal_mode = wal; pragma synchronous = full; create table thing (body text)')
  const insert = db.prepare('insert into thing values (?)')
  const times: number[] = []
  for (let round = 0; round < ROUNDS + 2; round += 1) {
    writeFileSync(log, '')
    const startedAt = performance.timeOrigin + performance.now()
    await (await fetch(issue.clone())).json()
    for (let n = 0; n < COMMITS; n += 1) insert.run('x'.repeat(500))
    await finish(virsh, ['floor'], { PATH: process.env.PATH })
    const began = Number(readFileSync(log, 'utf8').split(' ')[0]) / 1000
    if (round >= 2) times.push(began - startedAt)
  }
  db.close()
  return median(times)
}

/** What the log calls the ends of the phases, in their order. */
const PHASES = { decision: 'decided', lease: 'leased', 'journal of the runner': 'begins' } as const

type Line = { msg: string; time: string; actions?: unknown; ticket?: string; argv?: string }
const linesIn = (output: string): Line[] =>
  output
    .split('\n')
    .filter(line => line.startsWith('{') && line.endsWith('}'))
    .map(line => JSON.parse(line))

/** When the log said so, epoch ms; null when it did not. The line of the decision names its actions in place of the ticket. */
const timeIn = (output: string, message: string, ticket: string): number | null => {
  const found = linesIn(output).find(
    line => line.msg === message && (message !== 'decided' || String(line.actions).includes(ticket)),
  )
  return found === undefined ? null : Date.parse(found.time)
}

/**
 * When the first virsh of the ticket's action began, epoch ms; undefined while it has not ended. `output` says which command it was:
 * the runner also looks at all its machines from time to time. `started`: the lines of the virsh.
 */
const firstIn = (output: string, started: string, ticket: string): number | undefined => {
  const command = linesIn(output).find(line => line.msg === 'command' && line.ticket === ticket)
  if (command === undefined) return undefined
  const ended = Date.parse(command.time)
  return started
    .split('\n')
    .filter(line => line.endsWith(` ${command.argv}`))
    .map(line => Number(line.split(' ')[0]) / 1000)
    .findLast(began => began <= ended)
}

/** What follows a round's failure is over: a heartbeat, and a look at what is free now. */
const quiet = async (log: string): Promise<void> => {
  let [size, since] = [-1, performance.now()]
  await until('a quiet hypervisor', () => {
    const now = statSync(log).size
    if (now !== size) [size, since] = [now, performance.now()]
    return performance.now() - since > QUIET_MS
  })
}

/**
 * The provider is kvm, with a virsh on PATH that records its start and then fails. The measured time ends when the first
 * process of the hypervisor starts, so no hypervisor is needed.
 */
export const latency = (): Promise<Row[]> =>
  withHome(async home => {
    const bin = join(home, 'bin')
    const log = join(home, 'virsh.log')
    mkdirSync(bin)
    writeFileSync(log, '')
    // The machine does not exist, and the provider is available and has an image. All other failures are final, so that no retry overlaps the next round.
    writeFileSync(
      join(bin, 'virsh'),
      `#!/bin/bash\nn=\${EPOCHREALTIME/./}\necho "$n $*" >> ${log}\ncase "$*" in\n  *metadata*) echo "error: failed to get domain" >&2;;\n  *nodeinfo*) exit 1;;\n  *version*|*pool-list*) echo ' agent-swarm   active   yes'; exit 0;;\n  *vol-list*) printf ' %s /pool/x\\n' agent-swarm-base.qcow2 agent-swarm-base.manifest.json; exit 0;;\n  *) echo "error: No space left on device" >&2;;\nesac\nexit 1\n`,
    )
    chmodSync(join(bin, 'virsh'), 0o755)
    const tickets = Object.fromEntries(Array.from({ length: ROUNDS + 2 }, (_, n) => [`BENCH-${n + 1}`, 'a ticket']))
    const jira = await startJira({ issues: tickets })
    const child = spawn(process.execPath, [entry, 'up', '--port', '0'], {
      env: {
        PATH: `${bin}:${process.env.PATH}`,
        HOME: home,
        AGENT_SWARM_HOME: join(home, 'state'),
        AGENT_SWARM_PROVIDER: 'kvm',
        AGENT_SWARM_RUNNER_SLOTS: '32',
        LOG_LEVEL: 'debug',
        ...jira.settings,
        JIRA_PROJECTS: 'BENCH',
      },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    try {
      let output = ''
      child.stderr.on('data', chunk => {
        output += chunk
      })
      jira.sendTo(await until('the bot', () => output.match(/listens on (http:\S+?),/)?.[1]))
      const times: number[] = []
      const phases = new Map<string, number[]>()
      for (const [round, ticket] of Object.keys(tickets).entries()) {
        await quiet(log)
        writeFileSync(log, '')
        output = ''
        await jira.move(ticket, 'In Progress')
        const answered = performance.timeOrigin + performance.now()
        const first = await until('the first virsh', () => firstIn(output, readFileSync(log, 'utf8'), ticket), {
          every: 2,
        })
        // The first two rounds load what is loaded only once.
        if (round < 2) continue
        times.push(first - answered)
        let last = answered
        const add = (phase: string, at: number) => {
          phases.set(phase, [...(phases.get(phase) ?? []), at - last])
          last = at
        }
        for (const [phase, message] of Object.entries(PHASES)) add(phase, timeIn(output, message, ticket) ?? last)
        add('to the first process', first)
      }
      const milliseconds = median(times)
      const { JIRA_HOST, JIRA_EMAIL, JIRA_API_TOKEN } = jira.settings
      const authorization = `Basic ${btoa(`${JIRA_EMAIL}:${JIRA_API_TOKEN}`)}`
      const issue = new Request(`${JIRA_HOST}/rest/api/3/issue/BENCH-1`, { headers: { authorization } })
      const floor = await floorOf(home, { issue, virsh: join(bin, 'virsh'), log })
      const byPhase = [...phases].map(([phase, all]) => `${phase} ${median(all).toFixed(1)}`)
      return [
        {
          row: 'd',
          what: `from the 2xx to the first hypervisor process, median of ${ROUNDS}`,
          measured: `${milliseconds.toFixed(1)} ms`,
          target: `<= ${TARGET_MS} ms`,
          ok: milliseconds <= TARGET_MS,
        },
        {
          row: 'd',
          what: `the same / the least that reading the issue, ${COMMITS} commits and a start of a process take`,
          measured: `${(milliseconds / floor).toFixed(2)} (${floor.toFixed(1)} ms)`,
          target: `<= ${TARGET}`,
          ok: milliseconds / floor <= TARGET,
        },
        { row: 'd', what: 'its phases, medians, ms', measured: byPhase.join(', '), target: '', ok: null },
      ]
    } finally {
      child.kill('SIGKILL')
      await jira.stop()
    }
  })
