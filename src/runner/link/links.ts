/** Who holds the links: the runner those of all its running machines, a command the one of its machine while it needs it. */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fail, failureOf } from '../../errors.ts'
import type { EnvironmentRow } from '../../registry/registry.ts'
import type { ActionKind } from '../../schema/action.ts'
import type { LinkService } from '../../schema/link.ts'
import type { RunnerContext } from '../context.ts'
import { openGate } from '../gate.ts'
import { type HeldLink, holdLink, type LinkOptions, upFile } from './link.ts'
import type { Link, LinkServices, Links } from './types.ts'

/** Between two looks at the registry when nobody writes there. */
const LOOK_MS = 30_000
/** Connections that are opened at once: each is two handshakes' worth of computing. */
const MAX_OPENING = 4
/** A machine that an operation of this kind works on gets no link until it has ended. */
const WITHOUT_LINK: readonly ActionKind[] = ['stop', 'restart', 'restore', 'delete']
/** How long a command waits for a link: its own, or that of another process. */
const UP_MS = 60_000
const POLL_MS = 100

/** Machines that shall have a link now. */
const wanted = ({ registry }: Pick<RunnerContext, 'registry'>) => {
  const without = new Set(
    registry
      .openOperations()
      .filter(({ kind }) => WITHOUT_LINK.includes(kind))
      .map(({ ticket }) => ticket),
  )
  // One without SSH, which is a part of this system, needs one for its project alone.
  const hasEnds = ({ ticket, ssh }: EnvironmentRow) => ssh !== null || registry.project(ticket) !== null
  return registry.environments().filter(row => row.status === 'running' && hasEnds(row) && !without.has(row.ticket))
}

/** Removes the lock files of machines that are gone. `isHeld`: by this process, still. */
const sweep = (
  { home, registry }: Pick<RunnerContext, 'home' | 'registry'>,
  isHeld: (vmId: string) => boolean,
): void => {
  const folder = join(home, 'links')
  if (!existsSync(folder)) return
  for (const name of readdirSync(folder)) {
    const vmId = name.endsWith('.lock') ? name.slice(0, -'.lock'.length) : null
    if (vmId !== null && !registry.knowsMachine(vmId) && !isHeld(vmId)) rmSync(join(folder, name), { force: true })
  }
}

/** Keeps a link to each running machine that is reached over SSH. Costs one ssh process for each. */
export const openLinks = (
  context: RunnerContext,
  services: LinkServices,
  options: Omit<LinkOptions, 'gate'>,
): Links => {
  const { log } = options
  const held = new Map<string, HeldLink>()
  const ending = new AbortController()
  /** Links that have to end, which a machine that does not answer holds up. */
  const closing = new Map<string, Promise<void>>()
  const gate = openGate(MAX_OPENING)
  let woken = new AbortController()
  const close = (link: HeldLink): void => {
    held.delete(link.vmId)
    const closed = link.close().finally(() => {
      closing.delete(link.vmId)
      // The machine may be wanted again.
      woken.abort()
    })
    closing.set(link.vmId, closed)
  }
  const look = async (): Promise<void> => {
    const machines = new Map(wanted(context).map(({ vmId, provider }) => [vmId, provider]))
    for (const link of [...held.values()]) if (!machines.has(link.vmId)) close(link)
    sweep(context, vmId => closing.has(vmId))
    for (const [vmId, provider] of machines) {
      if (held.has(vmId) || closing.has(vmId)) continue
      const link = await holdLink(context, { vmId, provider }, services, { ...options, gate })
      if (link !== null) held.set(vmId, link)
    }
  }
  const run = async (): Promise<void> => {
    while (!ending.signal.aborted) {
      woken = new AbortController()
      await look().catch(error => log.warn({ err: error }, failureOf(error, 'looking after the links').message))
      await delay(LOOK_MS, undefined, { signal: AbortSignal.any([woken.signal, ending.signal]) }).catch(() => {})
    }
    for (const link of [...held.values()]) close(link)
    await Promise.all(closing.values())
  }
  const running = run()
  return {
    of: vmId => held.get(vmId) ?? null,
    look: () => woken.abort(),
    nudge: () => {
      woken.abort()
      for (const link of held.values()) if (!link.connected()) link.nudge()
    },
    close: async () => {
      ending.abort()
      await running
    },
  }
}

/** The machine whose link a command needs. */
type Linking = { context: RunnerContext; row: Pick<EnvironmentRow, 'vmId' | 'provider'>; signal: AbortSignal }

/** Waits until the process that has the link has opened it, or until nobody has it. */
const waitForOther = async (
  { context, row, signal }: Linking,
  tryOwn: () => Promise<HeldLink | null>,
): Promise<HeldLink | null> => {
  const until = performance.now() + UP_MS
  while (true) {
    const own = await tryOwn()
    if (own !== null || existsSync(upFile(context.home, row.vmId))) return own
    signal.throwIfAborted()
    if (performance.now() > until)
      throw fail(
        'guest-unreachable',
        `opening the link to ${row.vmId}: another process has it, and it is not open within ${UP_MS / 1000} s`,
        'The log of the runner says why.',
      )
    await delay(POLL_MS)
  }
}

const waitUntilUp = async (own: HeldLink, { row, signal }: Linking): Promise<void> => {
  // Its timer keeps no process alive.
  const over = AbortSignal.any([signal, AbortSignal.timeout(UP_MS)])
  const close = () => void own.close()
  over.addEventListener('abort', close)
  if (over.aborted) close()
  try {
    await own.up
  } catch {
    signal.throwIfAborted()
    throw fail('guest-unreachable', `opening the link to ${row.vmId}: it is not open within ${UP_MS / 1000} s`)
  } finally {
    over.removeEventListener('abort', close)
  }
}

/** Of a link that another process has. */
const addressesOf = (
  { home }: Pick<RunnerContext, 'home'>,
  { vmId }: Pick<EnvironmentRow, 'vmId'>,
): Link['address'] => {
  const addresses = JSON.parse(readFileSync(upFile(home, vmId), 'utf8')) as Record<LinkService, string>
  return service => addresses[service]
}

/**
 * Does `work` while the machine has a link: that of a process that has one, or else our own with these services. `address`: where the
 * machine reaches a service of it.
 */
export const withLink = async <T>(
  linking: Linking,
  services: LinkServices,
  options: LinkOptions,
  work: (link: { isOwn: boolean; address: Link['address'] }) => Promise<T>,
): Promise<T> => {
  const { context, row } = linking
  const own = await waitForOther(linking, () => holdLink(context, row, services, options))
  try {
    if (own !== null) await waitUntilUp(own, linking)
    return await work({ isOwn: own !== null, address: own?.address ?? addressesOf(context, row) })
  } finally {
    await own?.close()
  }
}
