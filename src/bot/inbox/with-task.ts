/** What an agent works on that a command starts: the text of its ticket at this moment. */
import type { Settlement } from '../../store/port.ts'
import type { FactsContext } from './known.ts'

/** Adds it to each start of an agent. While Jira cannot be asked, that waits until `askUntil` (epoch ms): the runner may know it. */
export const withTask = async (
  { jira, clock }: Pick<FactsContext, 'jira' | 'clock'>,
  settlement: Settlement,
  askUntil: number,
): Promise<Settlement> => ({
  ...settlement,
  actions: await Promise.all(
    settlement.actions.map(async queued => {
      const { action } = queued
      if (action.kind !== 'agent' || action.what !== 'start' || jira === null) return queued
      const found = await jira.taskOf(action.ticket).catch(error => {
        if (clock() < askUntil) throw error
        return null
      })
      return found === null ? queued : { ...queued, action: { ...action, task: found.task } }
    }),
  ),
})
