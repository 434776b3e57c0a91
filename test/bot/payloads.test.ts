/** Everything that GitHub is known to send, whole and broken, decided at the desk. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { AgentReport } from '../../src/schema/environment.ts'
import { mutations, nameOf, recorded, type Sent, tempting } from '../support/payload-mutations.ts'
import { type Desk, openDesk } from './desk.ts'

const MUTATIONS = 250
/** It could be told of every review and check. */
const agent: AgentReport = {
  ...{ use: 'claude', run: '0a1b2c3d', state: 'running', startedAt: null, endedAt: null, result: null, reason: null },
  ...{ summary: null, turns: 0, tokens: 0, usd: null, rounds: 0, pullRequest: 'draft' },
}

let desk: Desk
beforeAll(async () => {
  desk = await openDesk({ agent: { use: 'claude', rounds: 20 } })
  // DROP-1 runs and has an open pull request, the close of its own stopped DROP-2, the one of DROP-3 is merged.
  for (const [n, branch] of ['drop-1', 'drop-2', 'drop-3'].entries()) {
    await desk.github.push(branch)
    expect(await desk.github.open(branch, branch)).toBe(n + 1)
  }
  await desk.decided()
  await desk.github.api('acme', 'PUT', `/repos/${desk.github.repo}/pulls/3/merge`, {})
  await desk.machine('DROP-1', { agent })
  await desk.machine('DROP-2')
  await desk.machine('DROP-3')
  await desk.github.close(2)
  await desk.decided()
  await desk.github.api('acme', 'PATCH', `/repos/${desk.github.repo}/pulls/2`, { state: 'open' })
})
afterAll(() => desk.close())

/** Sends all, decides them, and returns what they led to: `push: checkpoint DROP-1`. */
const effectsOf = async (all: readonly Sent[]): Promise<string[]> => {
  const sent = new Map<string, Sent>()
  for (const entry of all) {
    const id = randomUUID()
    sent.set(id, entry)
    expect(await desk.github.deliverBroken(entry.event, entry.payload, id)).toBe(202)
  }
  expect(await desk.decided()).toEqual([])
  const effects = (await desk.store.queue.list()).flatMap(({ correlation, action }) => {
    const entry = sent.get(correlation)
    return entry === undefined ? [] : [`${nameOf(entry)}: ${action.kind} ${action.ticket}`]
  })
  return [...new Set(effects)].sort()
}
const temptations = () => recorded.map(entry => tempting(entry, desk.github.repo, desk.github.app.installation))

test('recorded payloads that name no ticket do nothing', async () => {
  expect(recorded.length).toBeGreaterThan(300)
  expect(await effectsOf(recorded)).toEqual([])
})

test('when all of them name a ticket, only a push, an opening, a merge and a new comment do something', async () => {
  expect(await effectsOf(temptations())).toEqual([
    'issue_comment created: checkpoint DROP-1',
    'pull_request closed: delete DROP-3',
    'pull_request opened: start DROP-2',
    'push: checkpoint DROP-1',
  ])
})

test('hundreds of broken ones can be decided, and do nothing that the whole ones do not', async () => {
  // DROP-3 is being deleted and DROP-2 started, as the test before asked for.
  expect(await effectsOf(mutations(temptations(), MUTATIONS, 20_261_127))).toEqual([
    'issue_comment created: checkpoint DROP-1',
    'push: checkpoint DROP-1',
  ])
})
