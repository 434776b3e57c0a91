/** The outside commands that a piece of work waits for now. */
import { AsyncLocalStorage } from 'node:async_hooks'

/** `since` and `until` (its deadline) are milliseconds of `performance.now()`. */
export type RunningCommand = { what: string; since: number; until: number }

const current = new AsyncLocalStorage<Set<RunningCommand>>()

/** `commands` holds each command of `work` while it runs. */
export const withRunningCommands = <T>(commands: Set<RunningCommand>, work: () => T): T => current.run(commands, work)

/** `virsh define`: arguments may hold paths of the host, and the first word says enough. */
const nameOf = (program: string, argv: readonly string[]): string => {
  const name = program.split('/').at(-1) ?? program
  const word = argv.find(argument => /^[a-z][a-z0-9-]{1,30}$/.test(argument))
  return word === undefined || name === 'ssh' || name === 'sh' ? name : `${name} ${word}`
}

/** Returns what to call when the command has ended. */
export const beginCommand = (program: string, argv: readonly string[], deadlineMs: number): (() => void) => {
  const commands = current.getStore()
  const since = performance.now()
  const command = { what: nameOf(program, argv), since, until: since + deadlineMs }
  commands?.add(command)
  return () => void commands?.delete(command)
}
