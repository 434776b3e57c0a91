/** How a build reaches its machines over SSH, the same with every hypervisor. */
import { setTimeout as delay } from 'node:timers/promises'
import { allow, fail, isFailure } from '../src/errors.ts'
import type { SshAddress } from '../src/schema/environment.ts'
import type { InGuest } from './stages.ts'

/** What a hypervisor has of its own for this. */
export type BuildMachines = {
  start(vmId: string): Promise<void>
  /** `no-address-yet` while the machine has none. */
  sshInfo(vmId: string): Promise<SshAddress>
  /** Milliseconds that a first boot may take. */
  bootDeadline: number
  /** Milliseconds between two looks. */
  pollMs: number
  /** The remedy when a machine does not answer. */
  noAnswer: string
  /** What is said when a script does not end. Without it, the failure of SSH stands. */
  noEnd?: { what: string; remedy: string }
  /** What the machine printed last, as the end of a sentence. */
  lastWords?(vmId: string): string | Promise<string>
}

type Request = {
  /** The image's name. */
  name: string
  signal: AbortSignal
  guest: { run(ssh: SshAddress, ...script: Parameters<InGuest>): ReturnType<InGuest> }
}

const throwIfCancelled = ({ signal, name }: Request): void => {
  if (signal.aborted) throw fail('cancelled', `building ${name}: cancelled`)
}

const isNoAnswer = (error: unknown): boolean =>
  isFailure(error) && ['guest-unreachable', 'refused', 'timeout'].includes(error.failure.kind)

/** `deadline`: milliseconds. */
const unreachable = async (
  { lastWords }: BuildMachines,
  { name }: Request,
  vmId: string,
  { what, remedy }: { what: string; remedy: string },
  deadline: number,
  cause: unknown,
) =>
  fail(
    'guest-unreachable',
    `building ${name}: its machine ${what} within ${Math.ceil(deadline / 60_000)} minutes${(await lastWords?.(vmId)) ?? ''}`,
    remedy,
    cause,
  )

const waitForAnswer = async (machines: BuildMachines, request: Request, vmId: string): Promise<void> => {
  const { sshInfo, bootDeadline, pollMs, noAnswer: remedy } = machines
  const end = performance.now() + bootDeadline
  let last: unknown
  while (performance.now() < end) {
    throwIfCancelled(request)
    const ssh = await sshInfo(vmId).catch(allow('no-address-yet'))
    if (ssh !== undefined) {
      try {
        await request.guest.run(ssh, 'true', { deadline: end - performance.now() })
        return
      } catch (error) {
        // A guest that boots may end a connection that it had accepted.
        if (!isNoAnswer(error)) throw error
        last = error
      }
    }
    await delay(pollMs)
  }
  throw await unreachable(machines, request, vmId, { what: 'did not answer over SSH', remedy }, bootDeadline, last)
}

/** Starts the machine and waits until it answers over SSH. Returns what runs scripts as root in it. */
export const bootMachine = async (machines: BuildMachines, request: Request, vmId: string): Promise<InGuest> => {
  await machines.start(vmId)
  await waitForAnswer(machines, request, vmId)
  return async (script, options) => {
    throwIfCancelled(request)
    const ssh = await machines.sshInfo(vmId)
    return request.guest.run(ssh, script, options).catch(async error => {
      const { noEnd } = machines
      if (noEnd === undefined || !isNoAnswer(error)) throw error
      throw await unreachable(machines, request, vmId, noEnd, options.deadline, error)
    })
  }
}
