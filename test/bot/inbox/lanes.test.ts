import { expect, test } from 'vitest'
import { githubLane } from '../../../src/bot/github/events.ts'
import { clockDelivery } from '../../../src/bot/inbox/clock.ts'
import { aboutOf, lanesOf } from '../../../src/bot/inbox/lanes.ts'
import { jiraLane } from '../../../src/bot/jira/events.ts'
import { openStore } from '../../../src/store/sqlite/index.ts'

const repository = { full_name: 'acme/shop' }
const event = { kind: 'push', repo: 'acme/shop', ref: 'x', after: 'x', deleted: false, pusher: null } as const
const lanes = {
  pull: githubLane('pull_request', { repository, pull_request: { number: 7 } }),
  comment: githubLane('issue_comment', { repository, issue: { number: 7 } }),
  push: githubLane('push', { repository, ref: 'refs/heads/feature/DROP-1:pr:2' }),
  other: githubLane('ping', { repository }),
  ticket: jiraLane({ issue: { key: 'DROP-1' } }),
  none: jiraLane({}),
  scheduled: clockDelivery('DROP-1', event, 0).lane,
}

test('each lane is about what people call it', () => {
  expect(Object.values(lanes).map(aboutOf)).toEqual([
    ...['acme/shop#7', 'acme/shop#7', 'acme/shop feature/DROP-1:pr:2', null],
    ...['DROP-1', null, 'DROP-1'],
  ])
})

test('a ticket names its own lanes, and those of its pull requests and their branches', async () => {
  const store = openStore(':memory:', Date.now)
  const link = { repo: 'acme/shop', number: 7, ticket: 'DROP-1', state: 'open', closedAt: null } as const
  await store.pullRequests.link({ ...link, branch: 'feature/DROP-1:pr:2' })
  expect((await lanesOf(store, 'drop-1')).sort()).toEqual(
    [lanes.pull, lanes.push, lanes.ticket, lanes.scheduled, 'runner:DROP-1'].sort(),
  )
  expect(await lanesOf(store, 'acme/shop#7')).toEqual([lanes.pull])
  expect(await lanesOf(store, 'DROP-2')).toEqual(['jira:DROP-2', 'clock:DROP-2', 'runner:DROP-2'])
  expect(await lanesOf(store, 'ignored')).toEqual([])
  await store.close()
})
