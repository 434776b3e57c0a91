import { expect, test } from 'vitest'
import { withTask } from '../../../src/bot/inbox/with-task.ts'
import type { Jira } from '../../../src/bot/jira/client.ts'
import { fail } from '../../../src/errors.ts'
import type { Settlement } from '../../../src/store/port.ts'

test('a start of an agent waits a minute for a Jira that does not answer, and then goes on without the text', async () => {
  const by = { via: 'github', who: 'ada' } as const
  const action = { kind: 'agent', what: 'start', ticket: 'DROP-1', by, replyTo: null } as const
  const settlement = { actions: [{ id: 'a', correlation: 'a', action }] } as unknown as Settlement
  const jira = {
    taskOf: async () => {
      throw fail('network', 'reading DROP-1: Jira answered 503')
    },
  } as unknown as Jira
  const asked = withTask({ jira, clock: () => 10 }, settlement, 20)
  await expect(asked).rejects.toMatchObject({ failure: { kind: 'network' } })
  expect(await withTask({ jira, clock: () => 30 }, settlement, 20)).toEqual(settlement)
})
