/**
 * Machines that run. Tart has no daemon: `tart run` is a process that lives as long as its machine, and a machine runs while that
 * process holds a lock on its configuration.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { fail } from '../../src/errors.ts'
import { isProcessAlive } from '../../src/exec.ts'
import {
  type Context,
  folderOf,
  listAll,
  type Machine,
  outputFile,
  requireSettled,
  runTart,
  tartEnvironment,
} from './context.ts'
import { explainTart } from './explain.ts'
import { softnetArguments } from './isolation.ts'
import { OWN_PROCESSES, parseRunProcesses } from './parse.ts'
import { seedArguments } from './seed.ts'

/** What keeps a machine from starting shows within about a second, also after Tart has locked it. */
const WATCH_MS = 1_500
const START_DEADLINE_MS = 30_000
const POLL_MS = 250
/** A guest that boots may miss its power button. */
const ASK_AGAIN_MS = 10_000
const SHUTDOWN_POLL_MS = 500
/** Seconds until `tart stop` kills the process. */
const STOP_SECONDS = 10
const STOP_DEADLINE_MS = 30_000
/** Characters of what `tart run` printed: the reason is at its end. */
const MAX_OUTPUT = 4_000

/**
 * Starts a program that outlives this process and its terminal, with its output in the file $1, and prints its process id. launchd's
 * PATH lacks Homebrew, where Tart and Softnet are; $2 is that folder.
 */
const DETACH = 'output=$1 PATH=$PATH:$2; shift 2; "$@" </dev/null >"$output" 2>&1 & echo $!'

const isRunning = async (context: Context, name: string): Promise<boolean> =>
  (await listAll(context)).some(vm => vm.name === name && vm.state === 'running')

const outputOf = (context: Context, id: string): string => {
  const file = outputFile(context, id)
  return existsSync(file) ? readFileSync(file, 'utf8').trim().slice(-MAX_OUTPUT) : ''
}

/** Watches the first seconds of `tart run`. Fails with what it printed when it ends. */
const watchStart = async (context: Context, { name, mark }: Machine, pid: number, doing: string): Promise<void> => {
  const begun = performance.now()
  let wasRunning = false
  while (true) {
    const now = await isRunning(context, name)
    const elapsed = performance.now() - begun
    if ((wasRunning && !now) || !isProcessAlive(pid)) {
      // Another agent-swarm process may have started it at the same time.
      if (await isRunning(context, name)) return
      throw explainTart(doing, outputOf(context, mark.vmId) || 'tart run ended without a message')
    }
    if (now && elapsed >= WATCH_MS) return
    if (elapsed >= START_DEADLINE_MS)
      throw fail(
        'timeout',
        `${doing}: tart run did not start it within ${START_DEADLINE_MS / 1000} s`,
        `See what it printed: ${outputFile(context, mark.vmId)}`,
      )
    wasRunning ||= now
    await delay(POLL_MS)
  }
}

export const startMachine = async (context: Context, id: string): Promise<void> => {
  const doing = `starting ${id}`
  const { machine } = await requireSettled(context, id, doing)
  const { name, state } = machine
  if (state === 'running') return
  // A state that `tart suspend` left does not start with a Linux guest. `tart stop` drops it.
  if (state === 'suspended') await runTart(context, ['stop', name], { doing })
  const argv = [
    ...['run', name, '--no-graphics', '--no-audio', '--no-clipboard'],
    ...seedArguments(context, id),
    ...(await softnetArguments(context)),
  ]
  await mkdir(folderOf(context, id), { recursive: true, mode: 0o700 })
  const output = outputFile(context, id)
  rmSync(output, { force: true })
  const { stdout } = await context.run(
    '/bin/sh',
    ['-c', DETACH, 'sh', output, context.host.homebrew, 'tart', ...argv],
    { doing, env: tartEnvironment(context) },
  )
  await watchStart(context, machine, Number(stdout), doing)
}

/** Null when it is not found, for example since a person started the VM with another program. */
const findProcess = async (context: Context, { mark }: Machine): Promise<number | null> => {
  const { stdout } = await context.run('ps', OWN_PROCESSES)
  return parseRunProcesses(stdout, mark)[0] ?? null
}

/** Presses the guest's power button, which Tart does at this signal. `ps` may be older than the process's end. */
const pressPowerButton = async (context: Context, machine: Machine): Promise<boolean> => {
  const pid = await findProcess(context, machine)
  if (pid === null) return false
  await context.run('kill', ['-USR2', String(pid)], { answers: [1] })
  return true
}

const shutDown = async (context: Context, machine: Machine): Promise<void> => {
  const end = performance.now() + context.host.graceMs
  let nextPress = 0
  while (performance.now() < end) {
    if (performance.now() >= nextPress) {
      if (!(await pressPowerButton(context, machine))) return
      nextPress = performance.now() + ASK_AGAIN_MS
    }
    await delay(SHUTDOWN_POLL_MS)
    if (!(await isRunning(context, machine.name))) return
  }
}

/** Turns a machine off at once, as a power failure would. */
export const powerOff = async (context: Context, { name }: Pick<Machine, 'name'>, doing: string): Promise<void> => {
  // 2: it does not run any more.
  await runTart(context, ['stop', name, '--timeout', String(STOP_SECONDS)], {
    ...{ doing, deadline: STOP_DEADLINE_MS },
    answers: [2],
  })
  if (await isRunning(context, name))
    throw fail('timeout', `${doing}: tart stop does not end it`, 'End its process tart run, and try again.')
}

/** Shuts the guest down; powers it off after a grace period. */
const stopRunning = async (context: Context, machine: Machine, doing: string): Promise<void> => {
  if (machine.state !== 'running') return
  await shutDown(context, machine)
  if (await isRunning(context, machine.name)) await powerOff(context, machine, doing)
}

/** Stops a machine that runs while `work` is done, and starts it again whatever comes of that. */
export const whileStopped = async (
  context: Context,
  machine: Machine,
  doing: string,
  work: () => Promise<unknown>,
): Promise<void> => {
  const wasRunning = machine.state === 'running'
  try {
    await stopRunning(context, machine, doing)
    await work()
  } catch (error) {
    // Why the work failed says more than why the machine does not start.
    if (wasRunning) await startMachine(context, machine.mark.vmId).catch(() => {})
    throw error
  }
  if (wasRunning) await startMachine(context, machine.mark.vmId)
}

export const stopMachine = async (context: Context, id: string): Promise<void> => {
  const doing = `stopping ${id}`
  const { machine } = await requireSettled(context, id, doing)
  await stopRunning(context, machine, doing)
}
