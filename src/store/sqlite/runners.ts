/** The runners, and what a heartbeat tells. */
import type { Ticket } from '../../domain.ts'
import { HEARTBEAT_MS, type HeartbeatRequest } from '../../schema/runner-protocol.ts'
import type { Asked } from './asked.ts'
import type { Environments } from './environments.ts'
import type { Planned } from './planned.ts'
import { json, type Tables } from './tables.ts'

export type KnownRunner = { id: string; host: string; seenAt: number; connected: boolean }

/** A runner that was not heard for so long is away. */
export const RUNNER_AWAY_MS = 3 * HEARTBEAT_MS

export const runners = (
  { run, get, all, put, together, clock }: Tables,
  { noteAsked, unplanBefore, mirrored, learn, learnGone }: Asked & Planned & Environments,
) => ({
  /** Takes over a heartbeat. Returns the tickets that a reader would see differently. */
  heartbeat: ({ runnerId, host, providers, environments, asked = [] }: HeartbeatRequest): Ticket[] =>
    together(() => {
      const kept = asked.flatMap(({ id, ticket, kind, by, at }) => {
        // A clock that is ahead would make every later event look old.
        const was = Math.min(Date.parse(at), clock())
        if (Number.isNaN(was)) return []
        const isNew = noteAsked(`cli:${runnerId}:${id}`, { ticket, kind, by }, { at: was, person: true })
        // What was planned before that is not done, and no longer told.
        return isNew && unplanBefore(ticket, was) ? [ticket] : []
      })
      const heardAt = get<{ seen_at: number }>('select seen_at from runner where id = ?', runnerId)?.seen_at ?? 0
      const wasAway = clock() - heardAt > RUNNER_AWAY_MS
      put('runner', { id: runnerId }, { host, providers: JSON.stringify(providers), seen_at: clock() })
      const learnt = environments.filter(one => learn(one, runnerId)).map(one => one.ticket)
      const changed = new Set([...kept, ...learnt])
      const here = new Set(environments.map(one => one.ticket))
      const present = all<{ ticket: Ticket; missing: number }>(
        'select ticket, missing from environment where runner_id = ? and gone_at is null',
        runnerId,
      )
      for (const { ticket, missing } of present) {
        if (here.has(ticket)) {
          // The comment said that the runner was away.
          if (wasAway) changed.add(ticket)
        } else if (missing === 0) {
          // This heartbeat may have been put together before the machine was made; the next one was not.
          run('update environment set missing = 1 where ticket = ?', ticket)
        } else {
          learnGone(ticket, null)
          changed.add(ticket)
        }
      }
      return [...changed]
    }),
  /** The runner that has the ticket's machine and is not away, where that is another than this one; otherwise null. */
  heldByOther: (ticket: Ticket, runnerId: string): string | null => {
    const known = mirrored(ticket)
    if (known === null || known.goneAt !== null || known.runnerId === runnerId) return null
    const other = get<{ host: string; seen_at: number }>('select * from runner where id = ?', known.runnerId)
    return other === undefined || clock() - other.seen_at > RUNNER_AWAY_MS ? null : other.host
  },
  runners: (): KnownRunner[] =>
    all<{ id: string; host: string; seen_at: number }>('select * from runner order by seen_at desc').map(
      ({ id, host, seen_at }) => ({ id, host, seenAt: seen_at, connected: clock() - seen_at <= RUNNER_AWAY_MS }),
    ),
  /** Whether the ticket's provider makes checkpoints of a running guest without stopping it. */
  takesLiveCheckpoints: (ticket: Ticket): boolean => {
    const known = mirrored(ticket)
    if (known === null || known.runnerId === null) return false
    const row = get<{ providers: string }>('select providers from runner where id = ?', known.runnerId)
    const providers = json<HeartbeatRequest['providers']>(row?.providers) ?? []
    return providers.some(one => one.name === known.environment.provider && one.live)
  },
})
