/**
 * One lock for each ticket, one for each machine without one, and one for each machine's link, across all processes of this home:
 * runner, CLI, a second runner by mistake.
 */
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileNameOf, isEnvironmentKey, VM_ID } from '../domain.ts'
import { checkName, fail } from '../errors.ts'
import { lockFile } from '../lock-file.ts'

/** Milliseconds between two attempts. SQLite's own waiting would block the whole process. */
const RETRY_MS = 50

/** `name` is an environment's key or a vmId. */
const tryLock = (home: string, name: string): (() => void) | null => {
  if (!isEnvironmentKey(name) && !VM_ID.test(name))
    throw fail('usage', `locking ${JSON.stringify(name)}: it is neither a ticket nor a machine`)
  return lockFile(join(home, 'locks', `${fileNameOf(name)}.lock`))
}

/** The lock of a machine's link, which is held as long as the link. Null when another process has it. */
export const tryLinkLock = (home: string, vmId: string): (() => void) | null =>
  lockFile(join(home, 'links', `${checkName('machine', vmId)}.lock`))

/** Held while it is decided whether a machine fits on the host, so that two never take the same room. */
export const withRoomLock = async <T>(home: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> => {
  const release = await waitForLockFile(join(home, 'locks', 'room.lock'), 'the room of this host', signal)
  try {
    return await work()
  } finally {
    release()
  }
}

/** Held by a runner as long as it lives. Null when another runner of this home has it. */
export const tryRunnerLock = (home: string): (() => void) | null => lockFile(join(home, 'runner.lock'))

/** Whether a runner of this home runs. */
export const isRunnerRunning = (home: string): boolean => {
  if (!existsSync(join(home, 'runner.lock'))) return false
  const release = tryRunnerLock(home)
  release?.()
  return release === null
}

/** Throws `busy` while a runner of this home runs. It would go on with the file of the registry that is replaced. */
export const requireNoRunner = (home: string, doing: string): void => {
  const release = tryRunnerLock(home)
  if (release === null)
    throw fail(
      'busy',
      `${doing}: a runner of AGENT_SWARM_HOME ${home} has it open`,
      'Stop agent-swarm up, or agent-swarm runner, and try again.',
    )
  release()
}

type Waiting = { signal: AbortSignal; onWait: () => void }

/** Tries again until `attempt` gets the lock. */
const waitForLock = async (
  attempt: () => (() => void) | null,
  name: string,
  { signal, onWait }: Waiting,
): Promise<() => void> => {
  onWait()
  while (true) {
    await delay(RETRY_MS, undefined, { signal }).catch(() => {
      throw fail('cancelled', `waiting for another command on ${name}: cancelled`)
    })
    const release = attempt()
    if (release !== null) return release
  }
}

/** The lock of `file`, when nobody else holds it any more. `name` is what others work on meanwhile. */
export const waitForLockFile = async (file: string, name: string, signal: AbortSignal): Promise<() => void> =>
  lockFile(file) ?? waitForLock(() => lockFile(file), name, { signal, onWait: () => {} })

/** Runs `work` while no other process or task works on `name`. `onWait` is called once when it has to wait. */
export const withLock = async <T>(home: string, name: string, waiting: Waiting, work: () => Promise<T>): Promise<T> => {
  // A free lock is taken at once: whoever takes several of them has them all before anybody else is asked.
  const attempt = () => tryLock(home, name)
  const release = attempt() ?? (await waitForLock(attempt, name, waiting))
  try {
    return await work()
  } finally {
    release()
  }
}

/** The same for several names. Everybody takes them in one order, so that two never wait for each other. */
export const withLocks = <T>(
  home: string,
  names: readonly string[],
  waiting: Waiting,
  work: () => Promise<T>,
): Promise<T> =>
  [...new Set(names)]
    .sort()
    .reduceRight<() => Promise<T>>((inner, name) => () => withLock(home, name, waiting, inner), work)()

/** Removes the lock of a machine that is gone for good. Whoever still waits for it then finds no machine. */
export const forgetLock = (home: string, vmId: string): void =>
  rmSync(join(home, 'locks', `${checkName('machine', vmId)}.lock`), { force: true })

/** Locks a machine that was named just now, so that nobody else can have it. Returns how to release the lock for good. */
export const lockNewMachine = (home: string, vmId: string): (() => void) => {
  const release = tryLock(home, vmId)
  if (release === null) throw fail('busy', `locking ${vmId}: another process has it`)
  return () => {
    release()
    forgetLock(home, vmId)
  }
}

/** Runs `work` under the lock when it is free; returns null otherwise. */
export const ifUnlocked = async <T>(home: string, name: string, work: () => Promise<T>): Promise<T | null> => {
  const release = tryLock(home, name)
  if (release === null) return null
  try {
    return await work()
  } finally {
    release()
  }
}
