/** What was asked for, and by whom: the record of people's will. */
import { STATE_CHANGING_ACTIONS } from '../../../handlers/handler.ts'
import type { Ticket } from '../../domain.ts'
import type { Action } from '../../schema/action.ts'
import type { Tables } from './tables.ts'

/** How the ticket's machine was asked to be, and when, epoch ms. */
type Wish = { who: string | null; kind: Action['kind']; at: number }
export type Asked = ReturnType<typeof asked>

const WISHED = `kind in (${STATE_CHANGING_ACTIONS.map(kind => `'${kind}'`).join(', ')})`

export const asked = ({ run, get, add }: Tables) => ({
  /** `at`: when that happened which it was asked for by, epoch ms. `person`: a person asked, by a command. True when it is new. */
  noteAsked: (
    actionId: string,
    { ticket, kind, by }: Pick<Action, 'ticket' | 'kind' | 'by'>,
    { at, person }: { at: number; person: boolean },
  ): boolean =>
    add('asked', { action_id: actionId, ticket, kind, asked_by: JSON.stringify(by), at, person: Number(person) }),
  /** When an action was asked for; null when that is not known. */
  askedAt: (actionId: string): number | null =>
    get<{ at: number }>('select at from asked where action_id = ?', actionId)?.at ?? null,
  /**
   * How the ticket's machine was asked to be last: there or not, running or not. `by`: by whom that counts. Null when nobody
   * asked.
   */
  wish: (ticket: Ticket, by: 'people' | 'anything'): Wish | null => {
    const row = get<{ asked_by: string; kind: Action['kind']; at: number }>(
      `select * from asked where ticket = ? and person >= ? and ${WISHED} order by at desc limit 1`,
      ticket,
      by === 'people' ? 1 : 0,
    )
    if (row === undefined) return null
    const { who } = JSON.parse(row.asked_by) as Action['by']
    return { who, kind: row.kind, at: row.at }
  },
  /** What was asked for last holds, however long ago that was. */
  forgetAsked: (before: number): void =>
    void run(
      `delete from asked where at < ? and (not ${WISHED} or exists (select 1 from asked later
         where later.ticket = asked.ticket and later.person >= asked.person and later.${WISHED} and later.at > asked.at))`,
      before,
    ),
})
