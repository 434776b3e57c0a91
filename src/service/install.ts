/** Installing and removing the file of a service. The file is ours when it says so; no other is changed or removed. */
import { lstatSync, mkdirSync, readFileSync, rmSync, statSync, utimesSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { shellCommand } from '../command-line.ts'
import { configFileIn } from '../config/home.ts'
import { fail, failureOf, isFailure } from '../errors.ts'
import { writeFileAtomic } from '../files.ts'
import type { ServiceSystem, Step } from './system.ts'

/** More than any of our files has. */
const MAX_BYTES = 100_000

/** Null: there is none. Throws `not-ours` for one that we did not write. */
const readFile = ({ file, encoding, isOurs }: ServiceSystem): string | null => {
  const stats = lstatSync(file, { throwIfNoEntry: false })
  if (stats === undefined) return null
  const text = stats.isFile() && stats.size <= MAX_BYTES ? readFileSync(file, encoding) : ''
  if (isOurs(text)) return text.replace(/^\ufeff/, '')
  throw fail('not-ours', `${file} exists and was not written by agent-swarm`, 'Move or rename it first.')
}

export type InstallPlan = {
  /** Of the file as it is now. */
  found: 'absent' | 'same' | 'different'
  /** Lines that go (`-`) and come (`+`). */
  difference: readonly string[]
  /** What is run besides, ready to paste. */
  commands: readonly string[]
  /** What starts it again. */
  restart: readonly string[]
}

const commandsOf = (steps: readonly Step[]): string[] => steps.map(({ program, argv }) => shellCommand(program, argv))

const differenceOf = (old: string, next: string): string[] => {
  const [before, after] = [old.split('\n'), next.split('\n')]
  return [
    ...before.filter(line => !after.includes(line)).map(line => `- ${line}`),
    ...after.filter(line => !before.includes(line)).map(line => `+ ${line}`),
  ]
}

export const planInstall = (system: ServiceSystem): InstallPlan => {
  const text = readFile(system)
  const found = text === null ? 'absent' : text === system.content ? 'same' : 'different'
  return {
    found,
    difference: text === null ? [] : differenceOf(text, system.content),
    commands: commandsOf(system.install),
    restart: commandsOf(system.restart),
  }
}

/** Runs steps in their order. Returns the notes of those that failed and may. */
const runSteps = async ({ runStep }: ServiceSystem, steps: readonly Step[]): Promise<string[]> => {
  const notes: string[] = []
  for (const step of steps) {
    try {
      await runStep(step)
    } catch (error) {
      if (step.ifItFails === undefined) throw error
      notes.push(`${failureOf(error, step.doing).message}. ${step.ifItFails}`)
    }
  }
  return notes
}

/** `running`: null when the system does not tell. */
export type Installed = {
  result: 'done' | 'restarted' | 'skipped'
  running: boolean | null
  notes: readonly string[]
}

/** A program that cannot do its work has mostly ended by then. */
const SETTLED_MS = 1_500

/** `notes`: why it does not run. */
const settled = async (system: ServiceSystem, afterMs: number): Promise<Pick<Installed, 'running' | 'notes'>> => {
  await delay(afterMs)
  const { running, notes } = await system.state()
  return { running, notes: running === true ? [] : notes }
}

/** The file's own time is that of the last install or restart by us. After a reboot, one more restart does no harm. */
const isConfiguredSince = ({ file, home }: ServiceSystem): boolean => {
  const settings = statSync(configFileIn(home), { throwIfNoEntry: false })
  return settings !== undefined && settings.mtimeMs > statSync(file).mtimeMs
}

/** A task of Windows has its file in the home, so one without a file is of another home, or of somebody else. */
const refuseForeign = async ({ label, file, state }: ServiceSystem): Promise<void> => {
  if (label !== 'Task Scheduler' || !(await state()).enabled) return
  throw fail(
    'not-ours',
    `installing the service: a task of this name exists, and ${file} does not: another AGENT_SWARM_HOME has it, or somebody else`,
    'Uninstall it with that home, or remove it in the Task Scheduler.',
  )
}

/** Writes the file and starts the service. When it is there, enabled and runs: starts it again after a change of config.yaml. */
export const install = async (system: ServiceSystem, settledMs = SETTLED_MS): Promise<Installed> => {
  const { found } = planInstall(system)
  if (found === 'absent') await refuseForeign(system)
  if (found === 'same') {
    const { enabled, running, notes } = await system.state()
    if (enabled && running && !isConfiguredSince(system)) return { result: 'skipped', running, notes }
    if (enabled && running) {
      const now = new Date()
      await runSteps(system, system.restart)
      utimesSync(system.file, now, now)
      return { result: 'restarted', ...(await settled(system, settledMs)) }
    }
  }
  // No secret is in it, and the system's manager reads it. Windows' own form begins with a byte order mark.
  const { file, content, encoding } = system
  const { log } = system
  // launchd opens it before the program starts, and makes no folder.
  if ('file' in log) mkdirSync(dirname(log.file), { recursive: true, mode: 0o700 })
  const bytes = Buffer.from(encoding === 'utf16le' ? `\ufeff${content}` : content, encoding)
  try {
    writeFileAtomic(file, bytes, { mode: 0o644 })
  } catch (error) {
    if (!isFailure(error) || error.failure.kind !== 'permission') throw error
    throw fail('permission', error.failure.message, 'For a unit of the system, run it as root.', error)
  }
  const failed = await runSteps(system, system.install)
  const { running, notes } = await settled(system, settledMs)
  return { result: 'done', running, notes: [...failed, ...notes] }
}

export type Uninstalled = { result: 'planned' | 'done' | 'skipped'; commands: readonly string[] }

/** Skipped without a file. What the system knows under our name without our file is not ours. */
export const uninstall = async (system: ServiceSystem, { dryRun }: { dryRun: boolean }): Promise<Uninstalled> => {
  if (readFile(system) === null) return { result: 'skipped', commands: [] }
  const commands = commandsOf([...system.end, ...system.forget])
  if (dryRun) return { result: 'planned', commands }
  const { enabled, running } = await system.state()
  if (enabled || running !== false) await runSteps(system, system.end)
  rmSync(system.file)
  await runSteps(system, system.forget)
  return { result: 'done', commands }
}

/** What the system says, and whether the file is there, and is what an install would write. */
export const look = async (system: ServiceSystem) => {
  const text = readFile(system)
  const installed = text !== null
  const state = await system.state()
  const isCurrent = text !== null && system.isCurrent(text)
  return {
    ...state,
    installed,
    current: installed ? isCurrent : null,
    notes: [
      ...state.notes,
      ...(installed && !isCurrent
        ? ['Its file differs from what an install would write now. To see how: agent-swarm service install --dry-run']
        : []),
    ],
  }
}
