/** What an agent works on that a command starts: the text of its ticket at this moment. */
import type { Ticket } from '../../domain.ts'
import type { Task } from '../../schema/action.ts'
import type { Settlement } from '../../store/port.ts'

/** Reads summary, description and acceptance text of a ticket; null when there is no such issue, or none that we may see. */
export type TaskReader = (ticket: Ticket) => Promise<Task | null>

/** Adds it to each start of an agent. */
export const withTask = async (readTask: TaskReader | null, settlement: Settlement): Promise<Settlement> => ({
  ...settlement,
  actions: await Promise.all(
    settlement.actions.map(async queued => {
      const { action } = queued
      if (action.kind !== 'agent' || action.what !== 'start' || readTask === null) return queued
      const task = await readTask(action.ticket)
      return task === null ? queued : { ...queued, action: { ...action, task } }
    }),
  ),
})
