import { expect, test } from 'vitest'
import { githubLane } from '../../../src/bot/github/events.ts'
import { clockDelivery } from '../../../src/bot/inbox/decide.ts'
import { aboutOf, lanesOf } from '../../../src/bot/inbox/lanes.ts'
import { jiraLane } from '../../../src/bot/jira/events.ts'
import { openMemory } from '../../../src/store/sqlite/memory.ts'

const repository = { full_name: 'acme/shop' }
const lanes = {
  pull: githubLane('pull_request', { repository, pull_request: { number: 7 } }),
  comment: githubLane('issue_comment', { repository, issue: { number: 7 } }),
  push: githubLane('push', { repository, ref: 'refs/heads/feature/DROP-1:pr:2' }),
  other: githubLane('ping', { repository }),
  ticket: jiraLane({ issue: { key: 'DROP-1' } }),
  nothing: jiraLane({}),
  later: clockDelivery('DROP-1', '{}', 0).lane,
}

test('each lane is about what people call so', () => {
  expect(Object.values(lanes).map(aboutOf)).toEqual([
    ...['acme/shop#7', 'acme/shop#7', 'acme/shop feature/DROP-1:pr:2', null],
    ...['DROP-1', null, 'DROP-1'],
  ])
})

test('a ticket names its own lanes, and those of its pull requests and their branches', () => {
  const memory = openMemory(':memory:', Date.now)
  const link = { repo: 'acme/shop', number: 7, ticket: 'DROP-1', state: 'open', closedAt: null } as const
  memory.link({ ...link, branch: 'feature/DROP-1:pr:2' })
  expect(lanesOf(memory, 'drop-1').sort()).toEqual([lanes.pull, lanes.push, lanes.ticket, lanes.later].sort())
  expect(lanesOf(memory, 'acme/shop#7')).toEqual([lanes.pull])
  expect([lanesOf(memory, 'DROP-2'), lanesOf(memory, 'ignored')]).toEqual([['jira:DROP-2', 'clock:DROP-2'], []])
  memory.close()
})
