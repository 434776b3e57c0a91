/** Events that are decided again later: a delete after its minutes of grace. One a ticket. */
import type { SwarmEvent } from '../../../handlers/handler.ts'
import type { Ticket } from '../../domain.ts'
import type { Tables } from './tables.ts'

export type Planned = ReturnType<typeof planned>

export const planned = ({ run, get, all, put }: Tables) => ({
  plan: (ticket: Ticket, event: SwarmEvent, at: number): void =>
    put('planned', { ticket }, { event: JSON.stringify(event), at }),
  /** True when there was something. */
  unplan: (ticket: Ticket): boolean => run('delete from planned where ticket = ?', ticket) > 0,
  /** The same for an event of before then, epoch ms. */
  unplanBefore: (ticket: Ticket, at: number): boolean =>
    run(`delete from planned where ticket = ? and json_extract(event, '$.at') < ?`, ticket, at) > 0,
  /** Epoch ms; null when nothing is planned. */
  plannedAt: (ticket: Ticket): number | null =>
    get<{ at: number }>('select at from planned where ticket = ?', ticket)?.at ?? null,
  /** `event`: JSON of SwarmEvent. */
  planned: (until: number) =>
    all<{ ticket: Ticket; event: string; at: number }>('select * from planned where at <= ? order by at', until),
})
