/** app.yml asks GitHub for exactly the events and permissions that the code uses. */
import { expect, test } from 'vitest'
import { readManifest } from '../src/bot/github/app-needs.ts'
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
  'apps.getInstallation': {},
  'apps.getRepoInstallation': {},
  'apps.createInstallationAccessToken': {},
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
  pull_request_review: { pull_requests: 'read' },
  check_suite: { checks: 'read' },
}
/** Events that only `agent.rounds` needs. */
const ofRounds: readonly string[] = ['pull_request_review', 'check_suite']
/** Everything that asks for more is on. */
const everything = {
  agent: { use: 'claude', rounds: 1 },
  transitions: { pullRequest: 'draft' },
  workspace: { 'acme/shop': {} },
} as const
/** The permissions that GitHub requires for all of these. */
const neededFor = (all: readonly Needs[]): Record<string, 'read' | 'write'> => {
  const needed: Record<string, 'read' | 'write'> = { metadata: 'read' }
  for (const [permission, level] of all.flatMap(needs => Object.entries(needs)))
    if (needed[permission] !== 'write') needed[permission] = level
  return needed
}

/** What only a set-up needs that passes reviews and failed checks on to agents (`agent.rounds`): it is asked for there. */
const operationsOfRounds: Readonly<Record<string, Needs>> = {
  'checks.listForRef': { checks: 'read' },
  'checks.listSuitesForRef': { checks: 'read' },
}

test('it subscribes to the events that the bot handles', async () => {
  const { default_events: all } = await readManifest(everything)
  expect(all).toEqual(expect.arrayContaining([...githubEventNames]))
  const always = githubEventNames.filter(name => !ofRounds.includes(name))
  expect((await readManifest({})).default_events.sort()).toEqual([...always].sort())
})

test('it asks for the permissions that operations and events require', async () => {
  expect(operationsUsed.length).toBeGreaterThan(10)
  expect(operationsUsed.filter(name => (operations[name] ?? operationsOfRounds[name]) === undefined)).toEqual([])
  const { default_permissions, default_events } = await readManifest(everything)
  const used = [
    ...operationsUsed.map(name => operationsOfRounds[name] ?? {}),
    ...operationsUsed.map(name => operations[name] ?? {}),
    ...default_events.map(name => events[name] ?? {}),
  ]
  // git pushes with the token of an installation.
  expect(default_permissions).toEqual(neededFor([...used, { contents: 'write' }]))
})

test('what only a feature needs is asked for where it is on', async () => {
  const permissions = async (...features: Parameters<typeof readManifest>) =>
    (await readManifest(...features)).default_permissions
  expect(await permissions({})).toEqual({
    ...{ metadata: 'read', contents: 'read', pull_requests: 'write', issues: 'write', members: 'read' },
  })
  expect(await permissions({ agent: { use: 'codex' } })).toMatchObject({ contents: 'write' })
  expect(await permissions({ agent: { use: 'codex' } })).not.toHaveProperty('checks')
  expect(await permissions({ agent: { use: 'codex', rounds: 1 } })).toMatchObject({ checks: 'read' })
  expect(await permissions({ transitions: { done: true } })).toMatchObject({ contents: 'read' })
})

test('it is private, and its webhook leads to the route for it', async () => {
  expect(await readManifest({})).toMatchObject({
    public: false,
    hook_attributes: { url: expect.stringMatching(/^https:\/\/[^/]+\/api\/github\/webhooks$/), active: true },
  })
})
