/** Stops a machine and starts it again, under one lock. One that is stopped is started; a memory that was saved is given up. */
import { waitAndTell } from '../isolation-note.ts'
import { converge, observe, shutDown, want } from '../machine.ts'
import { type ActionRunner, targetOf } from '../operation.ts'
import { reserveToStart } from '../room.ts'

export const restart: ActionRunner<'restart'> = async (operation, { ticket }) => {
  const { registry } = operation.context
  const target = await targetOf(operation, ticket)
  const observed = await observe(target.provider, target.row)
  const isRunning = observed === 'running'
  if (observed === 'stopped') await reserveToStart(target)
  // First, so that a machine that a crash leaves stopped is known to be wanted.
  want(target, 'running')
  if (isRunning) await shutDown(target)
  await converge({ ...target, coldStart: true }, 'running')
  const note = await waitAndTell(target)
  registry.setUnsavedWork(ticket, null)
  return { summary: `${isRunning ? `Restarted ${ticket}` : `${ticket} was stopped, and is running again`}${note}` }
}
