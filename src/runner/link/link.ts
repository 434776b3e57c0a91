/** A machine's link: held by one process at a time, and opened again whenever it breaks. */
import { once } from 'node:events'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { backoff } from '../../backoff.ts'
import { failureOf } from '../../errors.ts'
import { writeFileAtomic } from '../../files.ts'
import type { Log } from '../../log.ts'
import { tryLinkLock } from '../../registry/lock.ts'
import { isOwnSystem } from '../agent/own-system.ts'
import type { Gate } from '../gate.ts'
import { poolKey } from '../git-gateway/policy.ts'
import { linkSecret, newLinkSecret } from '../ssh/keys.ts'
import { type Connecting, connect, type Ended, type LinkContext } from './connection.ts'
import { openFollowed } from './following.ts'
import { linkFolder, openServices, type Services } from './services.ts'
import type { Activity, Link, LinkedMachine, LinkServices, OnActivity } from './types.ts'

const RETRY = backoff({ first: 1_000, most: 60_000 })
/** A connection that held for so long starts the waits anew. */
const STABLE_MS = 60_000
/** Repairs that are tried at once, one after the other. */
const MAX_AT_ONCE = 2
/** How long a connection that is being opened keeps others waiting. */
const PLACE_MS = 20_000

/** Exists while the link is open, with the addresses of its services, for other processes. */
export const upFile = (home: string, vmId: string): string => join(linkFolder(home, vmId), 'up')

export type LinkOptions = {
  log: Log
  /** Limits how many connections are opened at once. */
  gate?: Gate
  /** Milliseconds after which a connection that is not open gives its place at the gate to another one, and goes on. */
  placeMs?: number
  /** Puts right in the machine what depends on the link's addresses. What it throws is logged, and the link opens all the same. */
  beforeUp?: (vmId: string, address: Link['address'], signal: AbortSignal) => Promise<void>
  /** Who learns how the machine is used; by default nobody, and it is not asked. */
  activity?: OnActivity | null
  /** Loopback ports behind a secret, for a system where ssh and Node share no Unix sockets. */
  loopback?: boolean
}
export type HeldLink = Link & {
  /** Tries again now, if it waits. */
  nudge(): void
  /** Resolves when it is open; rejects when it is closed before. */
  up: Promise<void>
  /** Never fails. */
  close(): Promise<void>
}
type Machine = { vmId: string; provider: string }

/** Whether the link is open: for this process, for others, and for whoever waits for it. */
const openState = (home: string, vmId: string, addresses: Services['addresses'], log: Log) => {
  const file = upFile(home, vmId)
  const up = Promise.withResolvers<void>()
  up.promise.catch(() => {})
  let isUp = false
  let lastReason = ''
  return {
    up: up.promise,
    isUp: () => isUp,
    opened: () => {
      mkdirSync(linkFolder(home, vmId), { recursive: true, mode: 0o700 })
      // Others read it as soon as it is there.
      writeFileAtomic(file, JSON.stringify(addresses))
      isUp = true
      lastReason = ''
      log.debug({ vmId }, 'the link to a machine is open')
      up.resolve()
    },
    lost: () => {
      isUp = false
      rmSync(file, { force: true })
    },
    waiting: (reason: string) => {
      if (reason !== lastReason) log.warn({ vmId, reason }, 'the link to a machine is not open; it is tried again')
      lastReason = reason
    },
    closed: () => up.reject(new Error('the link is closed')),
  }
}
type State = ReturnType<typeof openState>

/** Does what has to be done before the link is open. Never fails. */
type Prepare = (signal: AbortSignal) => Promise<void>

/** One connection. Its place at the gate is given back when it is open, has failed, or takes long. Throws why it did not open. */
const connectThrough = async (
  { gate, placeMs, prepare }: Required<Pick<LinkOptions, 'gate' | 'placeMs'>> & { prepare: Prepare },
  connecting: Omit<Connecting, 'provider'>,
  providerName: string,
): Promise<Ended> => {
  const broken = new AbortController()
  const signal = AbortSignal.any([connecting.signal, broken.signal])
  const up = Promise.withResolvers<void>()
  const result = Promise.withResolvers<Ended>()
  let isOver = false
  let failure: unknown = null
  const onUp = async () => {
    try {
      await prepare(signal)
      if (isOver) return
      connecting.onUp()
      up.resolve()
    } catch (error) {
      // The connection is of no use: nobody learns of it.
      failure = error
      broken.abort()
    }
  }
  const open = async (): Promise<Ended> => {
    const provider = await connecting.context.provider(providerName)
    return connect({ ...connecting, signal, provider, onUp: () => void onUp() })
  }
  try {
    await gate(async () => {
      open().then(result.resolve, result.reject)
      await Promise.race([up.promise, result.promise, delay(placeMs, undefined, { ref: false })])
    }, signal)
    return await result.promise
  } catch (error) {
    throw failure ?? error
  } finally {
    isOver = true
  }
}

/** Connects again whenever a connection ended, until `closing`. */
const keepConnected = (connectOnce: (signal: AbortSignal) => Promise<Ended>, state: State, closing: AbortSignal) => {
  let broken = new AbortController()
  let awake = new AbortController()
  const keep = async (): Promise<void> => {
    let failures = 0
    let atOnce = 0
    while (!closing.aborted) {
      const began = performance.now()
      broken = new AbortController()
      const { again, reason } = await connectOnce(AbortSignal.any([closing, broken.signal]))
        .finally(state.lost)
        .catch(
          (error): Ended => ({ again: 'later', reason: failureOf(error, 'opening the link').message.slice(0, 300) }),
        )
      if (closing.aborted) return
      if (performance.now() - began > STABLE_MS) failures = 0
      if (again === 'at once' && atOnce < MAX_AT_ONCE) {
        atOnce += 1
        continue
      }
      atOnce = 0
      state.waiting(reason)
      awake = new AbortController()
      const wait = RETRY(failures) * (0.5 + Math.random() / 2)
      failures += 1
      await delay(wait, undefined, { signal: AbortSignal.any([awake.signal, closing]) }).catch(() => {})
    }
  }
  return { ended: keep(), breakOff: () => broken.abort(), nudge: () => awake.abort() }
}

/** A machine that is a part of this system needs no connection. */
const stayUp = async (state: State, prepare: Prepare, signal: AbortSignal): Promise<Ended> => {
  await prepare(signal)
  if (!signal.aborted) {
    state.opened()
    await once(signal, 'abort')
  }
  return { again: 'later', reason: 'closed' }
}

/** One of a pool has no ticket yet: it may fetch its repository. */
const linkedMachine = (registry: LinkContext['registry'], vmId: string): LinkedMachine | null => {
  const row = registry.environmentOfMachine(vmId)
  if (row !== null) return { ticket: row.ticket, vmId }
  const repository = registry.poolMachine(vmId)?.madeOf.repository ?? null
  return repository === null ? null : { ticket: poolKey(repository), vmId }
}

/** Null when another process, or another part of this one, has the machine's link. */
export const holdLink = async (
  context: LinkContext,
  machine: Machine,
  services: LinkServices,
  options: LinkOptions,
): Promise<HeldLink | null> => {
  const release = tryLinkLock(context.home, machine.vmId)
  if (release === null) return null
  try {
    return await openLink(context, machine, services, options, release)
  } catch (error) {
    release()
    throw error
  }
}

/** One without a ticket gets another secret with its ticket: whoever made it ready has no part in what follows. */
const secretOf = ({ home, registry }: Pick<LinkContext, 'home' | 'registry'>, vmId: string): string =>
  registry.environmentOfMachine(vmId) === null ? newLinkSecret() : linkSecret(home, vmId)

const openLink = async (
  context: LinkContext,
  { vmId, provider }: Machine,
  services: LinkServices,
  {
    log,
    gate = work => work(),
    placeMs = PLACE_MS,
    beforeUp,
    activity = null,
    loopback = process.platform === 'win32',
  }: LinkOptions,
  release: () => void,
): Promise<HeldLink> => {
  const { home, registry, guest } = context
  const isHere = isOwnSystem(await context.provider(provider))
  const closing = new AbortController()
  const files = openFollowed()
  let breakOff = () => {}
  const opened = await openServices({
    ...{ home, vmId, services, log, ports: guest.ports },
    machine: () => linkedMachine(registry, vmId),
    loopback: isHere
      ? { kind: 'direct', secret: newLinkSecret() }
      : loopback
        ? { kind: 'forwarded', secret: secretOf(context, vmId) }
        : null,
    onFlood: () => {
      log.warn({ vmId }, 'closing the link of a machine: too many connections or requests in 10 s')
      breakOff()
    },
  })
  const state = openState(home, vmId, opened.addresses, log)
  const address: Link['address'] = service => opened.addresses[service]
  const prepare: Prepare = async signal => {
    await beforeUp?.(vmId, address, signal).catch(error => {
      if (!signal.aborted) log.warn({ vmId }, failureOf(error, 'preparing a machine for its link').message)
    })
  }
  const asking =
    activity === null
      ? null
      : { ports: () => activity.ports(vmId), report: (reported: Activity) => void activity.report(vmId, reported) }
  const connecting = { context, vmId, services: opened, files, activity: asking, log, onUp: state.opened }
  const connectOnce = (signal: AbortSignal): Promise<Ended> =>
    isHere
      ? stayUp(state, prepare, signal)
      : connectThrough({ gate, placeMs, prepare }, { ...connecting, signal }, provider)
  const connection = keepConnected(connectOnce, state, closing.signal)
  breakOff = connection.breakOff
  const ended = connection.ended.catch(error => log.error({ vmId, err: error }, 'a link ended'))
  return {
    ...{ vmId, address, connected: state.isUp },
    ...{ follow: files.add, nudge: connection.nudge, up: state.up },
    close: async () => {
      const isFirst = !closing.signal.aborted
      closing.abort()
      await ended
      if (!isFirst) return
      state.closed()
      try {
        opened.close()
      } catch (error) {
        log.warn({ vmId, err: error }, 'what a link left could not be removed')
      }
      release()
    },
  }
}
