/** A machine's link: held by one process at a time, and opened again whenever it breaks. */
import { once } from 'node:events'
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { backoff } from '../../backoff.ts'
import { failureOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import { tryLinkLock } from '../../registry/lock.ts'
import type { LinkService } from '../../schema/link.ts'
import { connect, type Ended, type LinkContext } from './connection.ts'
import { openFollowed } from './following.ts'
import { linkFolder, openServices } from './services.ts'
import type { Link, LinkServices } from './types.ts'

const RETRY = backoff({ first: 1_000, most: 60_000 })
/** A connection that held for so long starts the waits anew. */
const STABLE_MS = 60_000
/** Repairs that are tried at once, one after the other. */
const MAX_AT_ONCE = 2

/** Exists while the link is open, with the addresses of its services, for other processes. */
export const upFile = (home: string, vmId: string): string => join(linkFolder(home, vmId), 'up')

/** `addresses` null: the link is not open. */
const markUp = (home: string, vmId: string, addresses: Record<LinkService, string> | null): void => {
  const file = upFile(home, vmId)
  if (addresses === null) return rmSync(file, { force: true })
  mkdirSync(linkFolder(home, vmId), { recursive: true, mode: 0o700 })
  // As a whole: others read it as soon as it is there.
  writeFileSync(`${file}.new`, JSON.stringify(addresses), { mode: 0o600 })
  renameSync(`${file}.new`, file)
}

export type LinkOptions = {
  log: Log
  /** Limits how many connections are opened at once. */
  gate?: <T>(work: () => Promise<T>) => Promise<T>
  /** Called each time when the link has opened. What it throws is logged. */
  onOpen?: (link: Pick<Link, 'vmId' | 'address'>) => Promise<void>
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

const linkedMachine = ({ registry }: LinkContext, vmId: string) => {
  const row = registry.environmentOfMachine(vmId)
  return row === null ? null : { ticket: row.ticket, vmId }
}

/** Null when another process, or another part of this one, has the machine's link. */
export const holdLink = async (
  context: LinkContext,
  { vmId, provider: providerName }: Machine,
  services: LinkServices,
  { log, gate = work => work(), onOpen = async () => {}, loopback = process.platform === 'win32' }: LinkOptions,
): Promise<HeldLink | null> => {
  const { home, guest } = context
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
  const machine = () => linkedMachine(context, vmId)
  const onFlood = () => {
    log.warn({ vmId }, 'closing the link of a machine: too many connections or requests in 10 s')
    broken.abort()
  }
  const setUp = (value: boolean) => {
    isUp = value
    markUp(home, vmId, value ? opened.addresses : null)
  }
  const opened = await openServices({
    ...{ home, vmId, services, machine, log, onFlood, ports: guest.ports },
    loopback: isHere ? 'direct' : loopback ? 'forwarded' : null,
  }).catch(error => {
    release()
    throw error
  })
  const address: Link['address'] = service => opened.addresses[service]
  const hasOpened = () => {
    setUp(true)
    up.resolve()
    onOpen({ vmId, address }).catch(error => {
      if (!closing.signal.aborted) log.warn({ vmId, err: error }, failureOf(error, 'setting git up').message)
    })
  }
  let lastReason = ''
  const report = (reason: string) => {
    if (reason !== lastReason) log.warn({ vmId, reason }, 'the link to a machine is not open; it is tried again')
    lastReason = reason
  }
  const connectOnce = async (): Promise<Ended> => {
    broken = new AbortController()
    const signal = AbortSignal.any([closing.signal, broken.signal])
    // The place at the gate is given back when the connection is open, or has failed.
    const connected = Promise.withResolvers<void>()
    const onUp = () => {
      hasOpened()
      lastReason = ''
      log.debug({ vmId }, 'the link to a machine is open')
      connected.resolve()
    }
    const result = Promise.withResolvers<Ended>()
    await gate(async () => {
      if (signal.aborted) return result.resolve({ again: 'later', reason: 'closed' })
      const connection = Promise.resolve(context.provider(providerName)).then(provider =>
        connect({ context, provider, vmId, services: opened, files, log, signal, onUp }),
      )
      connection.then(result.resolve, error =>
        result.resolve({ again: 'later', reason: failureOf(error, 'opening the link').message.slice(0, 300) }),
      )
      await Promise.race([connected.promise, result.promise])
    })
    return result.promise
  }
  const run = async (): Promise<void> => {
    let failures = 0
    let atOnce = 0
    while (!closing.signal.aborted) {
      const began = performance.now()
      const { again, reason } = await connectOnce()
      setUp(false)
      if (closing.signal.aborted) return
      if (performance.now() - began > STABLE_MS) failures = 0
      if (again === 'at once' && atOnce < MAX_AT_ONCE) {
        atOnce += 1
        continue
      }
      atOnce = 0
      report(reason)
      awake = new AbortController()
      const wait = RETRY(failures) * (0.5 + Math.random() / 2)
      failures += 1
      await delay(wait, undefined, { signal: AbortSignal.any([awake.signal, closing.signal]) }).catch(() => {})
    }
  }
  const stayUp = async (): Promise<void> => {
    hasOpened()
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
