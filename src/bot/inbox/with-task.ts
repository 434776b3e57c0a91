/** What an agent works on that a command starts: the text of its ticket at this moment. */
import type { Settlement } from '../../store/port.ts'
import type { FactsContext } from './known.ts'

/** Adds it to each start of an agent. */
export const withTask = async ({ jira }: Pick<FactsContext, 'jira'>, settlement: Settlement): Promise<Settlement> => ({
  ...settlement,
  actions: await Promise.all(
    settlement.actions.map(async queued => {
      const { action } = queued
      if (action.kind !== 'agent' || action.what !== 'start' || jira === null) return queued
      const found = await jira.taskOf(action.ticket)
      return found === null ? queued : { ...queued, action: { ...action, task: found.task } }
    }),
  ),
})
