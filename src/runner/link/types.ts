/** The link between the runner and one machine, as the rest of the runner sees it. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Ticket } from '../../domain.ts'
import type { LinkService } from '../../schema/link.ts'

/** Whose request it is; `ticket` may be the key of a pool, for a machine that has none yet. It comes from the socket that the request arrived at, never from what the request says. */
export type LinkedMachine = { ticket: Ticket; vmId: string }

/**
 * Answers one request of the machine. The link bounds connections, headers, and idle time; the handler bounds the body and
 * its own work. `request.url` begins with `/`, without the link's secret. What it throws becomes a 500 without a reason.
 */
export type LinkHandler = (
  machine: LinkedMachine,
  request: IncomingMessage,
  response: ServerResponse,
) => Promise<void> | void
export type LinkServices = Readonly<Record<LinkService, LinkHandler>>

/** What a machine says of its last minute. `load`: on average. Hostile, like all that it says. */
export type Activity = {
  /** Logins besides the link, forwardings among them. */
  sessions: number
  /** Connections to its `workspace.ports`. */
  connections: number
  load: number
}
/** Asks machines how they are used, once a minute. `report` never fails. */
export type OnActivity = {
  ports(vmId: string): readonly number[]
  report(vmId: string, activity: Activity): Promise<void>
}

/** Bytes of one chunk. */
export const MAX_CHUNK = 32 * 1024

export type Follower = {
  /** Called in order, one at a time, with at most MAX_CHUNK bytes; the next chunk is read when it has ended. Hostile bytes. */
  onChunk(bytes: Buffer, offset: number): void | Promise<void>
  /** The file is shorter than what was read already: a restore took the machine back. Nothing is read until it is longer. */
  onShorter?(size: number): void
}

export type Link = {
  vmId: string
  /** False while it is opened again. */
  connected(): boolean
  /**
   * Where the machine reaches a service, without a slash at the end. Behind a loopback port of the host, each path begins with the
   * link's secret (64 hex digits), which differs in each link.
   */
  address(service: LinkService): string
  /**
   * Reads a file of the machine from `offset` on, now and as it grows, across reconnections. `path` is relative to
   * GUEST_STATE/agent, of letters, digits, `.`, `_`, `-` and `/`. A file that does not exist is empty. Returns how to stop.
   */
  follow(path: string, offset: number, follower: Follower): () => void
}

export type Links = {
  /** Null: this process does not hold the machine's link. */
  of(vmId: string): Link | null
  /** Looks at the registry now. */
  look(): void
  /** The same after an action; links that wait before they try again try now. */
  nudge(): void
  close(): Promise<void>
}
