/** The crash matrix with whole processes: a command of agent-swarm is killed (-9) at each of its commits and outside commands. */
import { existsSync, mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { compiled, openProcesses } from '../support/cli-processes.ts'
import { openContext } from '../support/context.ts'
import { isLong, type Sample } from '../support/samples.ts'
import { bury } from './crash.ts'
import { problemsOf } from './invariants.ts'
import type { Point, When } from './points.ts'
import { openMatrix } from './rounds.ts'
import { copyOf, deleteWithWork, prepare, remove, type Scenario, scenarios, TICKET, view } from './scenarios.ts'

const preload = resolve(import.meta.dirname, 'preload.ts')
/** Each scenario as its command. What only the queue asks for has none. */
const COMMANDS: Readonly<Record<string, string[]>> = {
  create: ['create', TICKET],
  'create that takes a ready machine': ['create', TICKET],
  checkpoint: ['checkpoint', TICKET, 'two'],
  restore: ['restore', TICKET, 'one'],
  'restore of a stopped machine': ['restore', TICKET, 'one'],
  stop: ['stop', TICKET],
  start: ['start', TICKET],
  restart: ['restart', TICKET],
  delete: ['delete', TICKET],
  [deleteWithWork.name]: ['delete', TICKET],
  'reconcile after the host went down': ['reconcile'],
}

const processesOf = (home: string) =>
  openProcesses((more = {}) => ({
    ...{ PATH: process.env.PATH, HOME: home, AGENT_SWARM_HOME: home, AGENT_SWARM_PROVIDER: 'synthetic' },
    ...compiled,
    ...more,
  }))
const watched = (more: Record<string, string>) => ({ environment: { NODE_OPTIONS: `--import=${preload}`, ...more } })

const look = async <T>(home: string, work: (context: Awaited<ReturnType<typeof openContext>>) => T | Promise<T>) => {
  const context = await openContext(home, 'in-process')
  try {
    return await work(context)
  } finally {
    context.close()
  }
}

const record = async (template: string, words: string[]) => {
  const home = copyOf(template)
  const log = join(mkdtempSync(join(tmpdir(), 'agent-swarm-crash-log-')), 'points')
  const ran = await processesOf(home).swarm(words, watched({ CRASH_LOG: log }))
  expect([ran.code, ran.code === 0 ? '' : ran.stderr]).toEqual([0, ''])
  const points = readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map((line): Point => {
      const [when = '', ...name] = line.split(' ')
      return { when: when as When, name: name.join(' ') }
    })
  const after = await look(home, view)
  remove(home)
  remove(resolve(log, '..'))
  return { points, after }
}

/** Whether the unsaved work is there in the end, whole. */
const lostWork = async (home: string): Promise<string[]> => {
  const { swarm } = processesOf(home)
  const [newest]: { name: string }[] = JSON.parse((await swarm(['rescued', 'list', '--json'])).stdout)
  if (newest === undefined) return ['its work was not rescued']
  const back = join(home, 'back')
  const { code, stderr } = await swarm(['rescued', 'restore', newest.name, back])
  if (code !== 0) return [`rescued restore: ${stderr}`]
  const file = join(back, 'shop', 'work')
  return existsSync(file) && readFileSync(file, 'utf8') === 'unsaved' ? [] : ['its work came back changed']
}

/** What a command says that finds its work done. */
const DONE_ALREADY = /already has|has no machine/
/** Kept beyond what is asked for: work that was there. */
const withoutKept = (seen: ReturnType<typeof view>) => (seen === null ? null : { ...seen, kept: [] })

type Played = { scenario: Scenario; template: string; words: string[]; after: ReturnType<typeof view> }
const playRound = async (
  { scenario, template, words, after }: Played,
  at: number,
  { next }: Sample,
): Promise<string[]> => {
  const home = copyOf(template)
  try {
    const { swarm } = processesOf(home)
    const late: Record<string, string> = next(2) === 0 ? {} : { CRASH_AFTER_US: String(next(3_000)) }
    const killed = await swarm(words, watched({ CRASH_AT: String(at), ...late }))
    // One that is killed a little later may have ended by then.
    if (killed.code === 0 && late.CRASH_AFTER_US === undefined) return ['it was not killed']
    bury(home)
    if (next(2) === 0) {
      const ran = await swarm(['reconcile'])
      if (ran.code !== 0) return [`reconcile: ${ran.stderr}`]
    }
    const again = await swarm(words)
    if (again.code !== 0 && !DONE_ALREADY.test(again.stderr)) return [`the command again: ${again.stderr}`]
    const lost = scenario === deleteWithWork ? await lostWork(home) : []
    if (lost.length > 0) return lost
    return await look(home, async context => {
      const now = view(context)
      const isAsAsked = JSON.stringify(withoutKept(now)) === JSON.stringify(withoutKept(after))
      const state = isAsAsked ? [] : [`it is ${JSON.stringify(now)}, expected ${JSON.stringify(after)}`]
      return [...state, ...(await problemsOf(context))]
    })
  } finally {
    remove(home)
  }
}

/** `npm test` has time for these. */
const SOME = ['create', 'create that takes a ready machine', 'restore', 'delete']
const cases = [...scenarios, deleteWithWork].flatMap(scenario => {
  const words = COMMANDS[scenario.name]
  return words === undefined || !(isLong || SOME.includes(scenario.name))
    ? []
    : [[scenario.name, scenario, words] as const]
})
test.for(cases)('%s', async ([name, scenario, words]) => {
  const template = await prepare(scenario)
  try {
    const { points, after } = await record(template, words)
    const matrix = openMatrix(`processes: ${name}`, points)
    // Each round of that one runs git some twenty times.
    for (const { at, sample } of matrix.rounds({ all: scenario === deleteWithWork ? 1 : 5, some: 1, points: 1 }))
      matrix.played(at, await playRound({ scenario, template, words, after }, at, sample))
    expect(matrix.end()).toEqual([])
  } finally {
    remove(template)
  }
})
