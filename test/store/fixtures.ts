import type { Action } from '../../src/schema/action.ts'
import type { Delivery, QueuedAction } from '../../src/store/port.ts'

export const action = (id: string, ticket = 'DROP-1', kind: 'create' | 'stop' = 'stop'): QueuedAction => ({
  id,
  correlation: id,
  action: { kind, ticket, by: { via: 'jira', who: null }, replyTo: null } as Action,
})
export const delivery = (id: string, lane = 'a'): Delivery => ({
  source: 'github',
  id,
  event: 'push',
  lane,
  body: `{"id":"${id}"}`,
  receivedAt: 0,
})
