/**
 * Makes attempts of a ticket: machines that go on from the state of another one. Each is journalled as an operation of its own
 * before the first outside command, and all are handed out in one commit, so that a fork that fails or dies leaves none.
 */
import { randomBytes } from 'node:crypto'
import type { ForkTarget, Provider, SshInfo } from '../../../providers/provider.ts'
import { type EnvironmentKey, MAX_ATTEMPTS, newVmId, ticketOf } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import { withLocks } from '../../registry/lock.ts'
import type { Action } from '../../schema/action.ts'
import type { MachineSize } from '../../schema/basics.ts'
import type { MadeAttempt } from '../../schema/outcome.ts'
import { noSuchCheckpoint, syncCheckpoints } from '../checkpoints.ts'
import type { RunnerContext } from '../context.ts'
import { environmentOf } from '../journal.ts'
import { undoCreate } from '../machine.ts'
import { type ActionRunner, earlierTries, type Result, type Target, targetOf, throwIfCancelled } from '../operation.ts'
import { remoteOf } from '../project/access.ts'
import { needOfMachine, withRoomFor } from '../room.ts'
import { putGuestFiles, runInGuest, waitForGuest } from '../ssh/guest.ts'
import { loginKey, pinnedHostKey } from '../ssh/keys.ts'
import { putPeopleKeys } from '../ssh/people-keys.ts'

/** For one file of a guest that runs. */
const ASK_DEADLINE_MS = 60_000

type Fork = Extract<Action, { kind: 'fork' }>

/** Fails with `unsupported` where machines cannot be forked. */
export const requireForks = ({ name, fork }: Pick<Provider, 'name' | 'fork'>): NonNullable<Provider['fork']> => {
  if (fork !== undefined) return fork
  throw fail(
    'unsupported',
    `${name} cannot fork machines`,
    'Make a machine for another ticket, for example a sub-task: agent-swarm create TICKET',
  )
}

/** The keys of the attempts to make. Each number is given once. */
export const newKeys = ({ registry }: RunnerContext, { ticket: source, count }: Pick<Fork, 'ticket' | 'count'>) => {
  const ticket = ticketOf(source)
  const keys = registry.newAttempts(ticket, count)
  if (keys.length === count) return keys
  const left = keys.length
  throw left === 0
    ? fail(
        'capacity',
        `${ticket} has had ${MAX_ATTEMPTS} attempts, and can have no more`,
        'Numbers are given once. Use another ticket, for example a sub-task: agent-swarm create TICKET',
      )
    : fail(
        'capacity',
        `forking ${source}: ${ticket} has had ${MAX_ATTEMPTS - left} attempts, and can have ${left} more`,
        `Ask for fewer: agent-swarm fork ${source} --count ${left}`,
      )
}

/** An attempt that is being made: `id` is its own operation. */
type Attempt = Target & { began: number }

export const timesMachine = ({ cpus, memoryMiB, diskGiB }: MachineSize, count: number): MachineSize => ({
  cpus: cpus * count,
  memoryMiB: memoryMiB * count,
  diskGiB: diskGiB * count,
})

/** Rows, machine ids and reservations of all attempts, or of none. */
const begin = async (target: Target, { from }: Pick<Fork, 'from'>, keys: readonly EnvironmentKey[]): Promise<void> => {
  const { context, caller, id, by, provider, row } = target
  const { registry, clock } = context
  const need = await needOfMachine(context, provider, row.vmId)
  const all = timesMachine(need, keys.length)
  const { correlation } = caller
  const at = clock().toISOString()
  await withRoomFor(target, provider, { kind: 'fork', ticket: row.ticket, need: all }, () =>
    registry.exclusively(() => {
      registry.setDetail(id, { attempts: [...keys], ...(from === null ? {} : { name: from }) })
      for (const key of keys) {
        const vmId = newVmId(key, randomBytes(4).toString('hex'))
        const operation = registry.startOperation({ actionId: null, correlation, ticket: key, kind: 'fork', by, at })
        registry.begin({ ticket: key, provider: provider.name, vmId, baseImage: row.baseImage, by, operation })
        registry.setAttempt(key, { of: row.ticket, from })
        if (provider.capacity !== undefined) registry.setDetail(operation, { reserves: { vmId, ...need } })
      }
    }),
  )
}

const attemptsOf = (target: Target, keys: readonly EnvironmentKey[]): Promise<Attempt[]> =>
  Promise.all(
    keys.map(async key => {
      const [operation] = target.context.registry.openOperations(key)
      const caller = { ...target.caller, onPhase: (phase: string) => target.caller.onPhase(`${key}: ${phase}`) }
      return { ...(await targetOf(target, key)), caller, id: operation?.id ?? target.id, began: performance.now() }
    }),
  )

/** `ssh` null: it is reached without. `machineId` null: nobody looked. `notes`: sentences without the last full stop. */
type Ready = {
  attempt: Attempt
  ssh: SshInfo | null
  machineId: string | null
  branch: string | null
  notes: string[]
}

/** Its own branch and settings of git, and nothing of its source's agent. It is of use without them. */
const separate = async (
  source: Target,
  attempt: Attempt,
  ssh: SshInfo | null,
): Promise<Pick<Ready, 'branch' | 'notes'>> => {
  const { context, caller, provider, row } = attempt
  const { registry } = context
  const project = registry.project(source.row.ticket)
  const notes: string[] = []
  const unlessItFails = async (work: () => Promise<void>, what: string) => {
    try {
      await work()
    } catch (error) {
      if (caller.signal.aborted) throw error
      notes.push(`${row.ticket}: ${what}: ${failureOf(error, 'asking the machine').message}`)
    }
  }
  if (registry.agent(source.row.ticket) !== null && provider.ownSystem !== true)
    await unlessItFails(async () => {
      await (await import('../agent/guest.ts')).stopAgents(context, provider, row.vmId)
    }, 'the agent of its source may still be at work in it')
  if (project === null) return { branch: null, notes }
  const { attemptBranch } = await import('../project/branch.ts')
  const branch = attemptBranch(row.ticket, project)
  await unlessItFails(async () => {
    const { checkOut } = await import('../project/clone.ts')
    const remote = remoteOf(context.config.githubApiUrl)
    const own = { ticket: row.ticket, path: project.path, branch }
    await checkOut({ ...attempt, row: { ...row, ssh } }, own, remote, caller.signal)
  }, `the branch ${branch} is not checked out`)
  return { branch, notes }
}

/** A fork is not handed out when its clock is wrong, or when it is not itself. */
const setRight = async (attempt: Attempt, ssh: SshInfo | null): Promise<Pick<Ready, 'machineId' | 'notes'>> => {
  const { provider, row } = attempt
  if (provider.memoryForks !== true) return { machineId: null, notes: [] }
  const { check } = await import('../after-restore.ts')
  const { faults, notes, machineId } = await check({ ...attempt, row: { ...row, ssh } })
  if (faults.length > 0) throw fail('refused', `${row.ticket} is not handed out: ${faults.join('. ')}`)
  return { machineId, notes: notes.map(text => `${row.ticket}: ${text}`) }
}

/** The source's machine-id; null while it cannot be asked. */
const machineIdOf = async ({ context, caller, provider, row }: Target): Promise<string | null> => {
  if (provider.memoryForks !== true || provider.ownSystem === true || row.status !== 'running') return null
  const options = { deadline: ASK_DEADLINE_MS, signal: caller.signal, maxOutput: 64 * 1024 }
  const answer = await runInGuest(context, provider, row.vmId, 'cat /etc/machine-id\n', options).catch(error => {
    if (caller.signal.aborted) throw error
    return null
  })
  return answer?.stdout.match(/^[0-9a-f]{32}$/m)?.[0] ?? null
}

/** Each has a machine-id and an address of its own. */
const requireOwn = (source: string | null, ready: readonly Ready[]): void => {
  const seen = new Map<string, string>(source === null ? [] : [[source, 'its source']])
  for (const { attempt, machineId, ssh } of ready) {
    const { ticket } = attempt.row
    const address = ssh === null ? null : `${ssh.host}:${ssh.port}`
    for (const [name, value] of [
      ['machine-id', machineId],
      ['address', address],
    ] as const) {
      const twin = value === null ? undefined : seen.get(value)
      if (twin !== undefined) throw fail('refused', `${ticket} is not handed out: it has the ${name} of ${twin}`)
      if (value !== null) seen.set(value, ticket)
    }
  }
}

/**
 * Starts the attempt and waits until it answers under its own host key. One that does not exist any more is not made anew: from the
 * base image, it would have nothing of its source.
 */
const bringUp = async (source: Target, attempt: Attempt): Promise<Ready> => {
  const { context, caller, provider, row } = attempt
  await throwIfCancelled(attempt)
  caller.onPhase('start')
  await provider.startVm(row.vmId)
  caller.onPhase('ssh')
  const answered = await waitForGuest(context, provider, row.vmId, {
    signal: caller.signal,
    deadline: context.config.bootMinutes * 60_000,
  })
  const ssh = answered?.ssh ?? null
  // The link tries again.
  if (answered?.hasOurFiles === false)
    await putGuestFiles(context, provider, row.vmId, caller.signal).catch(error => {
      if (caller.signal.aborted) throw error
    })
  const { machineId, notes } = await setRight(attempt, ssh)
  // Its source may have keys of people who were removed since: a fork without the keys of now is not handed out.
  await putPeopleKeys(context, provider, row.vmId, caller.signal)
  const separated = await separate(source, attempt, ssh)
  return { attempt, ssh, machineId, branch: separated.branch, notes: [...notes, ...separated.notes] }
}

/**
 * All of them, or none: the first failure cancels the others. It is thrown when nothing is done any more to any of them, so that they
 * can be removed.
 */
const bringAllUp = async (source: Target, attempts: readonly Attempt[]): Promise<Ready[]> => {
  const ending = new AbortController()
  const signal = AbortSignal.any([source.caller.signal, ending.signal])
  const ready = await Promise.allSettled(
    attempts.map(attempt =>
      bringUp(source, { ...attempt, caller: { ...attempt.caller, signal } }).catch(error => {
        ending.abort(error)
        throw error
      }),
    ),
  )
  ending.signal.throwIfAborted()
  return ready.flatMap(each => (each.status === 'fulfilled' ? [each.value] : []))
}

/** From here on people may work in them: what they are and what they have, in one commit. */
const handOut = async (source: Target, ready: readonly Ready[]): Promise<void> => {
  const { context, id } = source
  const { registry, clock } = context
  const { copyAgent } = await import('../agent/copy.ts')
  registry.exclusively(() => {
    registry.setDetail(id, { reached: 'forked' })
    for (const { attempt, ssh, branch } of ready) {
      const { ticket } = attempt.row
      registry.setAddress(ticket, ssh)
      registry.setStatus(ticket, 'running')
      registry.copyWork(source.row.ticket, ticket, branch)
      copyAgent(registry, source.row.ticket, ticket, attempt.id)
      const seconds = Math.round((performance.now() - attempt.began) / 100) / 10
      const summary = `Forked from ${source.row.ticket}`
      const outcome = { result: 'done' as const, summary, environment: environmentOf(context, ticket), seconds }
      registry.endOperation(attempt.id, clock().toISOString(), 'done', outcome)
    }
  })
}

/** Removes all attempts. One that cannot be removed is marked `failed`, and reported. */
const undo = async (source: Target, attempts: readonly Attempt[], error: unknown): Promise<void> => {
  const { registry, clock } = source.context
  source.caller.onPhase('undoing')
  const undone = await Promise.allSettled(attempts.map(undoCreate))
  const failure = failureOf(error, `forking ${source.row.ticket}`)
  for (const { id } of attempts)
    registry.endOperation(id, clock().toISOString(), 'failed', { result: 'failed', failure, environment: null })
  const left = undone.find(each => each.status === 'rejected')
  if (left !== undefined) throw left.reason
}

/** What it made, for people and for programs. */
const madeOf = (
  { context: { registry }, provider, row }: Target,
  from: string | null,
  keys: readonly EnvironmentKey[],
): { summary: string; attempts: MadeAttempt[] } => {
  const it = keys.length === 1 ? 'It' : 'They'
  const boots = provider.memoryForks === true ? '' : `. ${it} booted, because ${provider.name} copies only disks`
  return {
    summary: `Forked ${row.ticket}${from === null ? '' : ` from its checkpoint ${from}`}: made ${keys.join(', ')}${boots}`,
    attempts: keys.flatMap(ticket => {
      const made = registry.environment(ticket)
      if (made === null) return []
      const { vmId, status, ssh } = made
      return [{ ticket, vmId, status, branch: registry.project(ticket)?.branch ?? null, ssh }]
    }),
  }
}

const makeAttempts = async (target: Target, action: Fork, keys: readonly EnvironmentKey[]): Promise<Result> => {
  const { context, caller, provider, row } = target
  const fork = requireForks(provider)
  await begin(target, action, keys)
  const attempts = await attemptsOf(target, keys)
  try {
    await throwIfCancelled(target)
    const publicKey = await loginKey(context.run, context.home)
    const targets: ForkTarget[] = []
    // One after another: none is being made when one fails.
    for (const { vmId, ticket } of attempts.map(({ row: its }) => its))
      targets.push({ vmId, ticket, publicKey, hostKey: await pinnedHostKey(context.run, context.home, vmId) })
    caller.onPhase('fork')
    await fork(row.vmId, action.from, targets)
    const [source, ready] = await Promise.all([machineIdOf(target), bringAllUp(target, attempts)])
    requireOwn(source, ready)
    await throwIfCancelled(target)
    await handOut(target, ready)
    const notes = ready.flatMap(each => each.notes)
    const made = madeOf(target, action.from, keys)
    return { ...made, summary: [made.summary, ...notes].join('. ') }
  } catch (error) {
    await undo(target, attempts, error)
    throw error
  }
}

export const fork: ActionRunner<'fork'> = async (operation, action) => {
  const { context, caller, id } = operation
  const { ticket, from } = action
  const target = await targetOf(operation, ticket)
  requireForks(target.provider)
  const earlier = earlierTries(operation).at(-1)?.detail
  if (earlier?.reached === 'forked') {
    context.registry.setDetail(id, earlier)
    return madeOf(target, from, earlier.attempts ?? [])
  }
  const names = await syncCheckpoints(target)
  if (from !== null && !names.includes(from)) throw noSuchCheckpoint(ticket, from, names)
  const keys = newKeys(context, action)
  const { signal } = caller
  return withLocks(context.home, keys, { signal, onWait: () => {} }, () => makeAttempts(target, action, keys))
}
