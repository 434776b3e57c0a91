/** How a build reaches its machines over SSH, and what is told when one does not answer. */
import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { allow, fail, isFailure } from '../../src/errors.ts'
import type { BuildBase, GuestAnswer } from '../provider.ts'
import { type Context, outputFile } from './context.ts'
import { sshInfo } from './machines.ts'

const BOOT_DEADLINE_MS = 10 * 60_000
const POLL_MS = 1_000
/** Lines of what `tart run` printed that a failure quotes. */
const QUOTED_LINES = 5

export type Building = { context: Context; request: Pick<BuildBase, 'name' | 'signal' | 'guest'> }

const throwIfCancelled = ({ request: { name, signal } }: Building): void => {
  if (signal.aborted) throw fail('cancelled', `building ${name}: cancelled`)
}

const isNoAnswer = (error: unknown): boolean =>
  isFailure(error) && ['guest-unreachable', 'refused', 'timeout'].includes(error.failure.kind)

const noAnswer = ({ context, request }: Building, vmId: string, what: string, cause: unknown) => {
  const file = outputFile(context, vmId)
  const lines = existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n').slice(-QUOTED_LINES) : []
  const printed =
    lines.join('').trim() === '' ? '' : `. tart run printed:\n${lines.map(line => `  ${line}`).join('\n')}`
  return fail(
    'guest-unreachable',
    `building ${request.name}: its machine ${what}${printed}`,
    'An image must be for arm64, boot with EFI, and start cloud-init (with its NoCloud source) and an SSH server. The images of Cirrus Labs ignore every seed, so they cannot be used.',
    cause,
  )
}

/** Waits until the machine that boots answers over SSH. */
export const waitForMachine = async (building: Building, vmId: string): Promise<void> => {
  const { context, request } = building
  const end = performance.now() + BOOT_DEADLINE_MS
  let last: unknown
  while (performance.now() < end) {
    throwIfCancelled(building)
    const ssh = await sshInfo(context, vmId).catch(allow('no-address-yet'))
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
    await delay(POLL_MS)
  }
  throw noAnswer(building, vmId, `did not answer over SSH within ${BOOT_DEADLINE_MS / 60_000} minutes`, last)
}

/** Runs scripts as root in the machine, which has answered before. */
export const inMachine =
  (building: Building, vmId: string) =>
  async (script: string, options: { deadline: number; onLine?: (line: string) => void }): Promise<GuestAnswer> => {
    throwIfCancelled(building)
    const { context, request } = building
    return request.guest.run(await sshInfo(context, vmId), script, options).catch(error => {
      if (!isNoAnswer(error)) throw error
      const minutes = Math.ceil(options.deadline / 60_000)
      throw noAnswer(
        building,
        vmId,
        `did not end its work, or did not answer any more, within ${minutes} minutes`,
        error,
      )
    })
  }
