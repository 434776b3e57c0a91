import type { EnvironmentKey } from '../../domain.ts'
import type { Registry } from '../../registry/registry.ts'
import { nextRunOf } from './ending.ts'

/**
 * An attempt's agent goes on in a copy of its source's conversation, as a run of its own; one that has ended waits for a message.
 * The fork gets the source's last message again: the state of the fork may be from before it. `operation`: the one that made the
 * attempt.
 */
export const copyAgent = (registry: Registry, from: EnvironmentKey, to: EnvironmentKey, operation: number): void => {
  const row = registry.agent(from)
  if (row === null) return
  const progress = { ...row.progress, operation }
  if (row.state === 'ended') {
    registry.setAgent(to, { ...row, progress })
    return
  }
  const next = nextRunOf(row)
  const messages = registry.messagesOf(from, row.run).map(message => {
    return { ...message, id: registry.addMessage(to, message) }
  })
  registry.nextRun(to, { ...next, progress: { ...next.progress, operation } }, messages)
}
