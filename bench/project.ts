/**
 * (m) From a Jira ticket's move to a machine with its project, by phase: on real libvirt, with stand-ins for GitHub, Jira and the
 * git server on loopback. In the private libvirt of the tests: test/kvm/run.sh --run npm run bench -- m
 */
import { until } from '../test/support/wait.ts'
import type { Row } from './main.ts'
import { hasLibvirt, median } from './measure.ts'

const ROUNDS = 3
const WORKSPACE = 'workspace:\n  setup: echo set up\n  start: echo started\n'
const PATIENCE = { within: 10 * 60_000 }

type Times = Map<string, number[]>
const add = (times: Times, name: string, milliseconds: number): void => {
  times.set(name, [...(times.get(name) ?? []), milliseconds])
}

const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(2)} s`

export const project = async (): Promise<Row[]> => {
  if (!hasLibvirt() || process.env.AGENT_SWARM_TEST_HOME === undefined) {
    const measured = 'left out: it needs the private libvirt of the tests, with a base image'
    return [{ row: 'm', what: 'create with project, by phase', measured, target: '', ok: null }]
  }
  // It refuses to load without that libvirt.
  const { openTicketStage } = await import('../test/kvm/ticket.ts')
  const tickets = Array.from({ length: ROUNDS }, (_, n) => `DROP-${n + 1}`)
  const issues = Object.fromEntries(tickets.map(ticket => [ticket, 'Say hello']))
  const stage = await openTicketStage({ issues, config: () => '', repositoryFile: WORKSPACE })
  const times: Times = new Map()
  try {
    for (const ticket of tickets) {
      const movedAt = Date.now()
      await stage.jira.move(ticket, 'In Progress')
      await until(`the comment on ${ticket}`, () => stage.jira.comments(ticket)[0], PATIENCE)
      const toldAt = Date.now()
      const create = stage.registry.operations(ticket, 10).find(({ kind }) => kind === 'create')
      if (create?.endedAt == null) throw new Error(`${ticket}: ${JSON.stringify(create)}`)
      const startedAt = Date.parse(create.startedAt)
      const endedAt = Date.parse(create.endedAt)
      add(times, 'until the runner begins', startedAt - movedAt)
      const { phases } = create
      for (const [at, phase] of phases.entries())
        add(times, phase.phase, Date.parse(phases[at + 1]?.at ?? create.endedAt) - Date.parse(phase.at))
      add(times, 'until it is told', toldAt - endedAt)
      add(times, 'in all', toldAt - movedAt)
      await stage.must('delete', ticket, '--force', '--yes')
    }
  } finally {
    await stage.close()
  }
  const counted = [...times].filter(([, values]) => values.length === ROUNDS)
  return counted.map(([name, values]) => ({
    row: 'm',
    what: `create with project: ${name}, median of ${ROUNDS}`,
    measured: seconds(median(values)),
    target: '',
    ok: null,
  }))
}
