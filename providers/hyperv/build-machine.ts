/** How a build reaches its machines over SSH. */
import { setTimeout as delay } from 'node:timers/promises'
import { allow, fail, isFailure } from '../../src/errors.ts'
import type { BuildBase, GuestAnswer } from '../provider.ts'
import type { Context } from './context.ts'
import { sshInfo } from './machines.ts'

const BOOT_DEADLINE_MS = 15 * 60_000
/** Each look is a process of PowerShell. */
const POLL_MS = 2_000

type Build = { context: Context; request: BuildBase }

const cancelled = ({ name }: BuildBase) => fail('cancelled', `building ${name}: cancelled`)

const isNoAnswer = (error: unknown): boolean =>
  isFailure(error) && ['guest-unreachable', 'refused', 'timeout'].includes(error.failure.kind)

/** Waits until the machine that boots answers over SSH. */
export const waitForMachine = async ({ context, request }: Build, vmId: string): Promise<void> => {
  const { guest, signal, name } = request
  const end = performance.now() + BOOT_DEADLINE_MS
  let last: unknown
  while (performance.now() < end) {
    if (signal.aborted) throw cancelled(request)
    const ssh = await sshInfo(context, vmId).catch(allow('no-address-yet'))
    if (ssh !== undefined) {
      try {
        await guest.run(ssh, 'true', { deadline: end - performance.now() })
        return
      } catch (error) {
        // A guest that boots may end a connection that it had accepted.
        if (!isNoAnswer(error)) throw error
        last = error
      }
    }
    await delay(POLL_MS)
  }
  throw fail(
    'guest-unreachable',
    `building ${name}: its machine did not answer over SSH within ${BOOT_DEADLINE_MS / 60_000} minutes`,
    'An image needs an EFI partition, cloud-init (with its NoCloud source) and an SSH server, both started at boot. Its screen is in Hyper-V Manager.',
    last,
  )
}

/** Runs scripts as root in the machine, which has answered before. */
export const inMachine =
  ({ context, request }: Build, vmId: string) =>
  async (script: string, options: { deadline: number; onLine?: (line: string) => void }): Promise<GuestAnswer> => {
    if (request.signal.aborted) throw cancelled(request)
    return request.guest.run(await sshInfo(context, vmId), script, options).catch(error => {
      if (!isNoAnswer(error)) throw error
      throw fail(
        'guest-unreachable',
        `building ${request.name}: its machine did not end its work within ${Math.ceil(options.deadline / 60_000)} minutes`,
        'Try again when the host has less to do. A step that hangs is the phase shown last.',
        error,
      )
    })
  }
