/** A whole bot: what people read on a ticket that got no machine, and rules of Jira automation. */
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { AUTOMATION_SECRET } from '../support/jira.ts'
import { until } from '../support/wait.ts'
import { tickets } from './desk.ts'
import { environmentOf, openStage, type Stage } from './stage.ts'

const comments = async (stage: Stage, ticket: string) => {
  await stage.decided()
  await stage.published()
  return stage.jira.comments(ticket)
}

describe('a move into progress without a machine', () => {
  let stage: Stage
  beforeAll(async () => {
    stage = await openStage({ people: {}, issues: { ...tickets(9), 'SHOP-1': 'elsewhere' } })
  })
  afterAll(() => stage.close())

  test('is explained on the ticket, once', async () => {
    await stage.jira.assign('DROP-1', null)
    for (const status of ['In Progress', 'To Do', 'In Progress'] as const) await stage.jira.move('DROP-1', status)
    expect(await comments(stage, 'DROP-1')).toEqual([
      'DROP-1 got no machine: it is assigned to nobody. Assign it to yourself, and it gets one.',
    ])
    expect(await stage.states('DROP-1')).toEqual([])
  })

  test('is answered by /swarm status with the reason, where no comment tells it', async () => {
    await stage.jira.assign('DROP-2', 'ada')
    await stage.jira.move('DROP-2', 'In Progress', { send: false })
    const items = stage.jira.issue('DROP-2')?.histories.at(-1)?.items ?? []
    await stage.jira.deliver({ ...stage.jira.payloadOf('DROP-2', items), user: { accountId: 'ada' } })
    expect(await comments(stage, 'DROP-2')).toEqual([])
    await stage.heartbeat([])
    await stage.jira.write('DROP-2', '/swarm status', { by: 'ada' })
    await stage.work(() => ({ result: 'done', summary: 'DROP-2 has no machine', environment: null, seconds: 0 }))
    const reply = await until('the reply', () => stage.jira.comments('DROP-2').find(text => text.includes('got none')))
    expect(reply).toContain('DROP-2 is assigned to somebody else')
  })

  test('is not explained when the ticket has a machine before the comment is written', async () => {
    await stage.jira.assign('DROP-3', null)
    stage.jira.setDown(true)
    await stage.store.outbox.put([
      {
        key: 'jira:no-machine:DROP-3:ended',
        body: { kind: 'jira-note', ticket: 'DROP-3', about: 'x', note: { kind: 'no-machine', why: 'ended' } },
      },
    ])
    await stage.heartbeat([environmentOf('DROP-3')])
    stage.jira.setDown(false)
    expect(await comments(stage, 'DROP-3')).toEqual([])
    await stage.heartbeat([])
  })

  test('a machine that stays behind is told under the new key, also where that project is not served', async () => {
    await stage.heartbeat([environmentOf('DROP-4')])
    await stage.jira.rekey('DROP-4', 'SHOP-4')
    expect((await comments(stage, 'SHOP-4'))[0]).toMatch(
      /^SHOP is not served here, so the machine of DROP-4 did not move/,
    )
    expect(await stage.states('DROP-4')).toEqual(['stop pending'])
  })

  test('there is no address for automation without its secret', async () => {
    expect(await stage.jira.automate('DROP-5')).toBe(404)
  })
})

test('a rule of automation makes the machine at once, and polling goes on for what it does not tell', async () => {
  const stage = await openStage({
    people: {},
    issues: tickets(2),
    settings: {
      JIRA_WEBHOOK_SECRET: null,
      JIRA_AUTOMATION_SECRET: AUTOMATION_SECRET,
      AGENT_SWARM_POLL_SECONDS: '3600',
      JIRA_EXPLAIN: 'off',
    },
  })
  onTestFinished(stage.close)
  expect(await stage.jira.automate('DROP-1', 'a secret of automation rulez')).toBe(401)
  await stage.jira.move('DROP-1', 'In Progress', { send: false })
  expect(await stage.jira.automate('DROP-1')).toBe(202)
  await stage.decided()
  expect(await stage.states('DROP-1')).toEqual(['create pending'])
  const [{ action } = {}] = await stage.actionsOf('DROP-1')
  expect(action?.by).toEqual({
    ...{ via: 'jira', who: stage.jira.me.accountId, name: 'Dev' },
    ...{ cause: 'ticket moved', movedTo: 'In Progress' },
  })
  await stage.jira.assign('DROP-2', null)
  await stage.jira.move('DROP-2', 'In Progress', { send: false })
  await stage.jira.automate('DROP-2')
  expect([await comments(stage, 'DROP-2'), await stage.states('DROP-2')]).toEqual([[], []])
})
