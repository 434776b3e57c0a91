/** app.yml asks GitHub for exactly the events and permissions that the code uses. */
import { expect, test } from 'vitest'
import { readManifest } from '../src/bot/github/check.ts'
import { githubEventNames } from '../src/bot/github/events.ts'
import { operationsUsed } from './support/github-requests.ts'

type Needs = Readonly<Record<string, 'read' | 'write'>>
/**
 * The permissions that GitHub requires for each operation
 * (https://docs.github.com/rest/authentication/permissions-required-for-github-apps). Comments on pull requests need both kinds.
 */
const operations: Readonly<Record<string, Needs>> = {
  // With the App's own JWT.
  'apps.getAuthenticated': {},
  'apps.getWebhookConfigForApp': {},
  'apps.listInstallations': {},
  'apps.createFromManifest': {},
  'apps.listWebhookDeliveries': {},
  'apps.redeliverWebhookDelivery': {},
  // Only with a personal token.
  'users.getAuthenticated': {},
  'repos.listForAuthenticatedUser': {},
  'apps.listReposAccessibleToInstallation': { metadata: 'read' },
  'repos.get': { metadata: 'read' },
  'repos.getCollaboratorPermissionLevel': { metadata: 'read' },
  'git.getRef': { contents: 'read' },
  'git.listMatchingRefs': { contents: 'read' },
  'pulls.get': { pull_requests: 'read' },
  'pulls.list': { pull_requests: 'read' },
  'pulls.listCommits': { pull_requests: 'read' },
  'pulls.listReviews': { pull_requests: 'read' },
  'pulls.listCommentsForReview': { pull_requests: 'read' },
  'pulls.create': { pull_requests: 'write' },
  'issues.getComment': { issues: 'read' },
  'issues.listComments': { issues: 'read' },
  'issues.listCommentsForRepo': { issues: 'read' },
  'issues.createComment': { issues: 'write', pull_requests: 'write' },
  'issues.updateComment': { issues: 'write', pull_requests: 'write' },
  'reactions.createForIssueComment': { issues: 'write', pull_requests: 'write' },
  'teams.getMembershipForUserInOrg': { members: 'read' },
}
/** The permission that GitHub requires to send an event. */
const events: Readonly<Record<string, Needs>> = {
  push: { contents: 'read' },
  pull_request: { pull_requests: 'read' },
  issue_comment: { issues: 'read' },
}

/** What only a set-up needs that passes reviews and failed checks on to agents (`agent.rounds`): it is asked for there. */
const ofRounds: Readonly<Record<string, Needs>> = {
  'checks.listForRef': { checks: 'read' },
  'checks.listSuitesForRef': { checks: 'read' },
}

test('it subscribes to the events that the bot handles', async () => {
  expect((await readManifest()).default_events.sort()).toEqual([...githubEventNames].sort())
})

test('it asks for the permissions that operations and events require', async () => {
  expect(operationsUsed.length).toBeGreaterThan(10)
  expect(operationsUsed.filter(name => (operations[name] ?? ofRounds[name]) === undefined)).toEqual([])
  const needed: Record<string, 'read' | 'write'> = { metadata: 'read' }
  for (const needs of [
    ...operationsUsed.map(name => operations[name] ?? {}),
    ...githubEventNames.map(name => events[name] ?? {}),
  ])
    for (const [permission, level] of Object.entries(needs))
      if (needed[permission] !== 'write') needed[permission] = level
  expect((await readManifest()).default_permissions).toEqual(needed)
})

test('it is private, and its webhook leads to the route for it', async () => {
  expect(await readManifest()).toMatchObject({
    public: false,
    hook_attributes: { url: expect.stringMatching(/^https:\/\/[^/]+\/api\/github\/webhooks$/), active: true },
  })
})
