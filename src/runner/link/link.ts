/** A machine's link: held by one process at a time, and opened again whenever it breaks. */
import { once } from 'node:events'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { backoff } from '../../backoff.ts'
import { failureOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import { tryLinkLock } from '../../registry/lock.ts'
import { connect, type Ended, type LinkContext } from './connection.ts'
import { openFollowed } from './following.ts'
import { linkFolder, openServices } from './services.ts'
import type { Link, LinkServices } from './types.ts'

const RETRY = backoff({ first: 1_000, most: 60_000 })
/** A connection that held for so long starts the waits anew. */
const STABLE_MS = 60_000
/** Repairs that are tried at once, one after the other. */
const MAX_AT_ONCE = 2

/** Exists while the link is open, for other processes. */
export const upFile = (home: string, vmId: string): string => join(linkFolder(home, vmId), 'up')

const markUp = (home: string, vmId: string, isUp: boolean) => {
  if (!isUp) return rmSync(upFile(home, vmId), { force: true })
  mkdirSync(linkFolder(home, vmId), { recursive: true, mode: 0o700 })
  writeFileSync(upFile(home, vmId), '', { mode: 0o600 })
}

export type LinkOptions = {
  log: Log
  /** Limits how many connections are opened at once. */
  gate?: <T>(work: () => Promise<T>) => Promise<T>
  /** Done in the machine before the link counts as open. What fails in it is reported, and the link opens all the same. */
  beforeUp?: (vmId: string, address: Link['address'], signal: AbortSignal) => Promise<void>
  /** Loopback ports behind a secret, for a system where ssh and Node share no Unix sockets. */
  loopback?: boolean
}
export type HeldLink = Link & {
  /** Tries again now, if it waits. */
  nudge(): void
  /** Resolves when it is open; rejects when it is closed before. */
  up: Promise<void>
  close(): Promise<void>
}
type Machine = { vmId: string; provider: string }

const isOwnSystem = async (context: LinkContext, name: string): Promise<boolean> =>
  (await context.provider(name)).runInGuest !== undefined

/** Connects again whenever a connection has ended, until the link is closed. */
const keepConnected = async (
  connectOnce: () => Promise<Ended>,
  closing: AbortSignal,
  tools: { onBroken: () => void; report: (reason: string) => void; sleep: (milliseconds: number) => Promise<void> },
): Promise<void> => {
  let failures = 0
  let atOnce = 0
  while (!closing.aborted) {
    const began = performance.now()
    const { again, reason } = await connectOnce()
    tools.onBroken()
    if (closing.aborted) return
    if (performance.now() - began > STABLE_MS) failures = 0
    if (again === 'at once' && atOnce < MAX_AT_ONCE) {
      atOnce += 1
      continue
    }
    atOnce = 0
    tools.report(reason)
    const wait = RETRY(failures) * (0.5 + Math.random() / 2)
    failures += 1
    await tools.sleep(wait)
  }
}

/** Null when another process, or another part of this one, has the machine's link. */
export const holdLink = async (
  context: LinkContext,
  { vmId, provider: providerName }: Machine,
  services: LinkServices,
  { log, gate = work => work(), beforeUp = async () => {}, loopback = process.platform === 'win32' }: LinkOptions,
): Promise<HeldLink | null> => {
  const { home, registry, guest } = context
  const release = tryLinkLock(home, vmId)
  if (release === null) return null
  // A machine that is a part of this system needs no connection.
  const isHere = await isOwnSystem(context, providerName).catch(error => {
    release()
    throw error
  })
  const closing = new AbortController()
  const files = openFollowed()
  let broken = new AbortController()
  let isUp = false
  let awake = new AbortController()
  const up = Promise.withResolvers<void>()
  up.promise.catch(() => {})
  const machine = () => {
    const row = registry.environmentOfMachine(vmId)
    return row === null ? null : { ticket: row.ticket, vmId }
  }
  const onFlood = () => {
    log.warn({ vmId }, 'closing the link of a machine: too many connections or requests in 10 s')
    broken.abort()
  }
  const setUp = (value: boolean) => {
    isUp = value
    markUp(home, vmId, value)
  }
  const opened = await openServices({
    ...{ home, vmId, services, machine, log, ports: guest.ports },
    loopback: isHere ? 'direct' : loopback ? 'forwarded' : null,
    onFlood,
  }).catch(error => {
    release()
    throw error
  })
  let lastReason = ''
  const report = (reason: string) => {
    if (reason !== lastReason) log.warn({ vmId, reason }, 'the link to a machine is not open; it is tried again')
    lastReason = reason
  }
  const address: Link['address'] = service => opened.addresses[service]
  const prepare = (): Promise<void> =>
    beforeUp(vmId, address, closing.signal).catch(error => {
      if (!closing.signal.aborted) log.warn({ vmId }, failureOf(error, 'preparing a machine for its link').message)
    })
  const connectOnce = async (): Promise<Ended> => {
    broken = new AbortController()
    const signal = AbortSignal.any([closing.signal, broken.signal])
    // The place at the gate is given back when the connection is open, or has failed.
    const connected = Promise.withResolvers<void>()
    let isOver = false
    const onUp = async () => {
      await prepare()
      if (isOver) return
      setUp(true)
      lastReason = ''
      log.debug({ vmId }, 'the link to a machine is open')
      up.resolve()
      connected.resolve()
    }
    const result = Promise.withResolvers<Ended>()
    await gate(async () => {
      if (signal.aborted) return result.resolve({ again: 'later', reason: 'closed' })
      const connection = Promise.resolve(context.provider(providerName)).then(provider =>
        connect({ context, provider, vmId, services: opened, files, log, signal, onUp: () => void onUp() }),
      )
      connection.then(result.resolve, error =>
        result.resolve({ again: 'later', reason: failureOf(error, 'opening the link').message.slice(0, 300) }),
      )
      await Promise.race([connected.promise, result.promise])
    })
    const ended = await result.promise
    isOver = true
    return ended
  }
  const run = (): Promise<void> =>
    keepConnected(connectOnce, closing.signal, {
      onBroken: () => setUp(false),
      report,
      sleep: async wait => {
        awake = new AbortController()
        await delay(wait, undefined, { signal: AbortSignal.any([awake.signal, closing.signal]) }).catch(() => {})
      },
    })
  const stayUp = async (): Promise<void> => {
    await prepare()
    if (closing.signal.aborted) return
    setUp(true)
    up.resolve()
    await once(closing.signal, 'abort')
    setUp(false)
  }
  const running = (isHere ? stayUp() : run()).catch(error => log.error({ vmId, err: error }, 'a link ended'))
  return {
    vmId,
    address,
    connected: () => isUp,
    follow: files.add,
    nudge: () => awake.abort(),
    up: up.promise,
    close: async () => {
      const isFirst = !closing.signal.aborted
      closing.abort()
      await running
      if (!isFirst) return
      up.reject(new Error('the link is closed'))
      opened.close()
      release()
    },
  }
}
