/**
 * A whole `agent-swarm up` is killed (-9) while it takes a ticket's move and a command, works, and publishes. The next start goes
 * on: one machine, one comment for each thing that is told.
 */
import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { openStore } from '../../src/store/sqlite/index.ts'
import { compiled, openProcesses } from '../support/cli-processes.ts'
import { openContext } from '../support/context.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'
import type { Sample } from '../support/samples.ts'
import { until } from '../support/wait.ts'
import { bury } from './crash.ts'
import { problemsOf } from './invariants.ts'
import type { Point, When } from './points.ts'
import { openMatrix } from './rounds.ts'
import { remove } from './scenarios.ts'

const preload = resolve(import.meta.dirname, 'preload.ts')

const openStage = async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-crash-up-'))
  const jira = await startJira({ issues: { 'DROP-1': 'one' } })
  const { begin } = openProcesses((more = {}) => ({
    ...{ PATH: process.env.PATH, HOME: home, AGENT_SWARM_HOME: home, AGENT_SWARM_PROVIDER: 'synthetic', PORT: '0' },
    ...{ ...jira.settings, JIRA_PROJECTS: 'DROP', AGENT_SWARM_POLL_SECONDS: '1' },
    ...compiled,
    ...more,
  }))
  /** Null: it died before it was up. */
  const up = async (more: Record<string, string> = {}) => {
    const run = begin(['up'], more)
    let isOver = false
    void run.ended.then(() => {
      isOver = true
    })
    await until('up', () => isOver || run.output.stderr.includes('with a runner on this host'))
    const url = run.output.stderr.match(/listens on (http:[^\s,]+)/)?.[1]
    return { ...run, url: url ?? null, isOver: () => isOver }
  }
  return {
    ...{ home, jira, up },
    counts: async () => {
      const store = openStore(join(home, 'bot.db'), Date.now)
      try {
        return await store.counts()
      } finally {
        await store.close()
      }
    },
    close: async () => {
      await jira.stop()
      remove(home)
    },
  }
}
type Stage = Awaited<ReturnType<typeof openStage>>

/** Jira sends a delivery that nobody took again, and the bot looks for what it missed. */
const ask = async (jira: JiraStandIn, url: string | null): Promise<void> => {
  if (url === null) return
  jira.sendTo(url)
  await jira.move('DROP-1', 'In Progress').catch(() => 0)
}
const ended = (stage: Stage, isOver: () => boolean) =>
  until('the comment, or the end', () => isOver() || stage.jira.comments('DROP-1').length > 0)

const record = async (): Promise<{ points: Point[] }> => {
  const stage = await openStage()
  const log = join(stage.home, 'points')
  const lines = () => readFileSync(log, 'utf8').trim().split('\n')
  try {
    const run = await stage.up({ NODE_OPTIONS: `--import=${preload}`, CRASH_LOG: log })
    await ask(stage.jira, run.url)
    await ended(stage, run.isOver)
    await until('an empty outbox', async () => (await stage.counts()).outbox === 0)
    const points = lines().map((line): Point => {
      const [when = '', ...name] = line.split(' ')
      return { when: when as When, name: name.join(' ') }
    })
    run.kill('SIGKILL')
    await run.ended
    return { points }
  } finally {
    await stage.close()
  }
}

const playRound = async (at: number, { next }: Sample): Promise<string[]> => {
  const stage = await openStage()
  try {
    const late: Record<string, string> = next(2) === 0 ? {} : { CRASH_AFTER_US: String(next(3_000)) }
    const first = await stage.up({ NODE_OPTIONS: `--import=${preload}`, CRASH_AT: String(at), ...late })
    await ask(stage.jira, first.url)
    await ended(stage, first.isOver)
    // Its steps come in another order each time: one that was not reached is killed now.
    first.kill('SIGKILL')
    await first.ended
    bury(stage.home)
    const second = await stage.up()
    if (second.isOver()) return [`the next start: ${second.output.stderr}`]
    // Jira's own retry, of what nobody took.
    await ask(stage.jira, second.url)
    await until('the comment', () => stage.jira.comments('DROP-1').length > 0)
    await until('nothing left to do', async () => {
      const { inbox, pending, active, outbox } = await stage.counts()
      return inbox + pending + active + outbox === 0
    })
    second.kill('SIGTERM')
    const { code } = await second.ended
    const context = await openContext(stage.home, 'in-process')
    try {
      const comments = stage.jira.comments('DROP-1')
      const machines = context.registry.environments().map(({ ticket, status }) => `${ticket} ${status}`)
      return [
        ...(code === 0 ? [] : [`it ended with ${code}: ${second.output.stderr}`]),
        ...(comments.length === 1 ? [] : [`comments: ${JSON.stringify(comments)}`]),
        ...(machines.join() === 'DROP-1 running' ? [] : [`machines: ${machines}`]),
        ...(await problemsOf(context)),
      ]
    } finally {
      context.close()
    }
  } finally {
    await stage.close()
  }
}

test('up', async () => {
  const { points } = await record()
  const matrix = openMatrix('processes: up', points)
  for (const { at, sample } of matrix.rounds({ all: 5, some: 1, points: 1 }))
    matrix.played(at, await playRound(at, sample).catch(error => [`${error instanceof Error ? error.message : error}`]))
  expect(matrix.end()).toEqual([])
})
