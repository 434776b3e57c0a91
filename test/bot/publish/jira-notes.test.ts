import { expect, test } from 'vitest'
import { jiraNote, remoteLink } from '../../../src/bot/publish/jira-notes.ts'
import { adf } from '../../../src/bot/publish/text.ts'
import type { JiraNote } from '../../../src/store/port.ts'
import { dev, environment } from './fixtures.ts'

const create = { kind: 'create', ticket: 'DROP-1', by: dev, replyTo: null } as const
const dana = { via: 'jira', who: '557058:dana', name: 'Dana Example', cause: 'ticket moved' } as const
const remove = {
  ...({ kind: 'delete', force: false, ticket: 'DROP-1', replyTo: null } as const),
  by: { ...dev, cause: 'merge' },
} as const
const text = (note: JiraNote) =>
  adf(jiraNote('DROP-1', note).blocks).content.map(
    ({ type, content = [] }) => `${type}: ${content.map(node => node.text).join('')}`,
  )

test.for([
  [
    { kind: 'ready', environment: environment({ provider: 'synthetic' }), host: 'studio' },
    [
      "paragraph: DROP-1 has a machine: as-drop-1-1a2b3c4d (synthetic: no real machine; requested by dev in Jira). Log in on the runner's host (studio):",
      'codeBlock: agent-swarm ssh DROP-1\nssh -i ~/.agent-swarm/ssh/login/key -o IdentitiesOnly=yes -o HostKeyAlias=as-drop-1-1a2b3c4d -o UserKnownHostsFile=~/.agent-swarm/ssh/as-drop-1-1a2b3c4d.known_hosts -o StrictHostKeyChecking=yes agent@192.168.122.7',
    ],
  ],
  [
    {
      ...{ kind: 'ready', environment: environment({ provider: 'synthetic', ssh: null }), host: null },
      without: ['No project was cloned: choose one: `/swarm create acme/shop`.', 'No agent was started: no project.'],
    },
    [
      "paragraph: DROP-1 has a machine: as-drop-1-1a2b3c4d (synthetic: no real machine; requested by dev in Jira). Log in on the runner's host:",
      'codeBlock: agent-swarm ssh DROP-1',
      'paragraph: No project was cloned: choose one: /swarm create acme/shop.',
      'paragraph: No agent was started: no project.',
    ],
  ],
  [
    {
      ...{ kind: 'ready', host: null },
      environment: environment({
        ...{ provider: 'synthetic', ssh: null },
        project: {
          ...{ repo: 'acme/shop', branch: 'DROP-1-x', path: '~/shop', ports: [], start: null },
          setup: { state: 'failed', source: 'config.yaml', exit: 1, startedAt: '2026-11-24T10:00:00Z', seconds: 12 },
          problem: 'To go on: agent-swarm create DROP-1',
        },
      }),
    },
    [
      "paragraph: DROP-1 has a machine: as-drop-1-1a2b3c4d (synthetic: no real machine; requested by dev in Jira). Log in on the runner's host:",
      'codeBlock: agent-swarm ssh DROP-1',
      'paragraph: Project: acme/shop on DROP-1-x in ~/shop; setup (config.yaml) failed after 12 s, exit status 1. /swarm logs shows why. Problem: To go on: /swarm create.',
    ],
  ],
  [
    {
      kind: 'failed',
      action: { ...create, by: dana },
      failure: { kind: 'capacity', message: 'creating DROP-1:\n4 GiB needed', remedy: 'Stop another.' },
    },
    [
      'paragraph: create of DROP-1 (ticket moved by Dana Example) failed and needs attention:',
      'codeBlock: creating DROP-1:\n4 GiB needed',
      'paragraph: What to do: Stop another.',
    ],
  ],
  [
    { kind: 'deleted', action: remove, rescued: null },
    [
      'paragraph: The machine of DROP-1, its disk and its checkpoints were deleted (merge by octocat). There was no unsaved work.',
    ],
  ],
  [
    { kind: 'deleted', action: { ...remove, force: true }, rescued: null },
    [
      'paragraph: The machine of DROP-1, its disk and its checkpoints were deleted (merge by octocat). Unsaved work was not looked for (--force).',
    ],
  ],
  [
    { kind: 'deleted', action: remove, rescued: 'unsaved work is in ~/x' },
    [
      "paragraph: The machine of DROP-1, its disk and its checkpoints were deleted (merge by octocat). Its unsaved work was rescued on the runner's host:",
      'codeBlock: unsaved work is in ~/x',
      'paragraph: agent-swarm rescued list there shows it, and agent-swarm rescued restore brings it back.',
    ],
  ],
  [
    {
      ...{ kind: 'promoted', open: ['acme/shop#13'], rescued: null },
      action: { ...create, kind: 'promote', attempt: 2, by: { ...dev, cause: 'merge' } },
      summary: 'DROP-1~2 is now the machine of DROP-1',
    },
    ['paragraph: promote 2 (merge by octocat): DROP-1~2 is now the machine of DROP-1. It stays: acme/shop#13 is open.'],
  ],
  [
    {
      ...{ kind: 'promoted', open: [], rescued: 'unsaved work is in ~/x' },
      action: { ...create, kind: 'promote', attempt: 2 },
      summary: 'DROP-1~2 is now the machine of DROP-1. Deleted: DROP-1~1. unsaved work is in ~/x',
    },
    [
      'paragraph: promote 2 (requested by octocat on GitHub): DROP-1~2 is now the machine of DROP-1. Deleted: DROP-1~1. unsaved work is in ~/x.',
      "paragraph: Rescued work is on the runner's host. agent-swarm rescued list there shows it, and agent-swarm rescued restore brings it back.",
    ],
  ],
  [
    { kind: 'rescued', ticket: 'DROP-1', rescued: 'unsaved work is in ~/x' },
    [
      "paragraph: The machine of DROP-1 was deleted. Rescued on the runner's host:",
      'codeBlock: unsaved work is in ~/x',
      'paragraph: agent-swarm rescued list there shows it, and agent-swarm rescued restore brings it back.',
    ],
  ],
  [
    { kind: 'not-moved', from: 'SHOP-7', reason: 'project-not-served' },
    [
      'paragraph: DROP is not served here, so the machine of SHOP-7 did not move with it. It will be stopped and kept; agent-swarm list shows it.',
    ],
  ],
  [
    { kind: 'not-moved', from: 'SHOP-7', reason: 'two-machines' },
    [
      'paragraph: DROP-1 has a machine of its own, so the machine of SHOP-7 keeps its old key. It will be stopped and kept; agent-swarm list shows it.',
    ],
  ],
  [
    { kind: 'no-machine', why: 'assigned-to-nobody' },
    ['paragraph: DROP-1 got no machine: it is assigned to nobody. Assign it to yourself, and it gets one.'],
  ],
  [
    { kind: 'no-machine', why: 'ended' },
    [
      'paragraph: DROP-1 got no machine: its last machine was deleted, or its pull request was merged, and the ticket was not back in the backlog since. Move it to the backlog and back, or comment /swarm create.',
    ],
  ],
  [
    { kind: 'no-machine', why: 'not-served' },
    ['paragraph: DROP-1 got no machine: the rules of its repository (.github/agent-swarm.yml) do not serve DROP.'],
  ],
  [
    { kind: 'lost', vmId: 'as-drop-1-1a2b3c4d', provider: 'synthetic' },
    [
      'paragraph: The machine of DROP-1, as-drop-1-1a2b3c4d (synthetic: no real machine), no longer exists, and agent-swarm did not delete it.',
      'paragraph: /swarm create makes it again from its disk if that is left, or else a new one. /swarm delete gives it up; unsaved work on a disk that is left is saved first.',
    ],
  ],
  [
    { kind: 'lost', vmId: 'as-drop-1-1a2b3c4d', provider: 'aws', ending: 'AWS says: Server.SpotInstanceTermination' },
    [
      'paragraph: The machine of DROP-1, as-drop-1-1a2b3c4d (aws), no longer exists, and agent-swarm did not delete it (AWS says: Server.SpotInstanceTermination).',
      'paragraph: /swarm create makes it again from its disk if that is left, or else a new one. /swarm delete gives it up; unsaved work on a disk that is left is saved first.',
    ],
  ],
  [
    {
      kind: 'idle',
      idle: {
        state: 'warned',
        since: '2026-11-24T08:00:00Z',
        becomes: 'saved',
        at: '2026-11-24T10:00:00Z',
        reason: null,
      },
    },
    [
      'paragraph: Nobody has used the machine of DROP-1 since 2026-11-24 08:00:00 UTC. Its memory will be saved, and the machine turned off, at about 2026-11-24 10:00:00 UTC, unless somebody uses it: a login or any work in it is enough.',
    ],
  ],
  [
    {
      kind: 'idle',
      idle: { state: 'warned', since: '2026-11-24T08:00:00Z', becomes: 'left running', at: null, reason: 'no room' },
    },
    [
      'paragraph: Nobody has used the machine of DROP-1 since 2026-11-24 08:00:00 UTC. It runs on: no room. /swarm stop stops it.',
    ],
  ],
  [
    { kind: 'idle', idle: { state: 'saved', at: '2026-11-24T10:00:00Z' } },
    [
      'paragraph: The machine of DROP-1 sleeps since 2026-11-24 10:00:00 UTC: its memory is saved, and it goes on where it was. /swarm start, agent-swarm ssh or ssh by its ticket wakes it, and so does every command that needs it.',
    ],
  ],
  [
    { kind: 'idle', idle: { state: 'awake', at: '2026-11-24T10:00:00Z' } },
    ['paragraph: The machine of DROP-1 is awake again. It slept since 2026-11-24 10:00:00 UTC.'],
  ],
  [
    { kind: 'paused', reason: 'disk full' },
    [
      'paragraph: The machine of DROP-1 is paused: disk full. One that ran out of disk space goes on by itself when there is room again. What a person paused stays paused until /swarm start.',
    ],
  ],
  [
    {
      kind: 'interruption',
      interruption: { state: 'announced', by: 'AWS', cause: '*no* room', next: 'It comes back' },
    },
    [
      'paragraph: AWS stops the machine of DROP-1 within minutes: *no* room. /swarm checkpoint keeps its disk as it is now; what is in its memory alone is lost. It comes back.',
    ],
  ],
  [
    { kind: 'interruption', interruption: { state: 'stopped', by: 'AWS', cause: 'no room', next: 'It comes back' } },
    ['paragraph: AWS stopped the machine of DROP-1: no room. Its disk and its checkpoints stay. It comes back.'],
  ],
  [
    { kind: 'interruption', interruption: { state: 'over', by: 'AWS' } },
    ['paragraph: AWS has started the machine of DROP-1 again.'],
  ],
  [
    {
      ...{ kind: 'runner-gone', host: '*studio*', ended: ['restore', 'stop'] },
      machine: { vmId: 'as-drop-1-1a2b3c4d', provider: 'kvm' },
    },
    [
      'paragraph: The machine of DROP-1, as-drop-1-1a2b3c4d (kvm), is out of reach: the runner on *studio* is gone for good, according to an operator.',
      'paragraph: Not done: restore, stop.',
      'paragraph: /swarm create makes a new machine. Work that was not pushed is on the old one alone.',
    ],
  ],
  [
    { kind: 'runner-gone', host: 'studio', machine: null, ended: [] },
    [
      'paragraph: The runner on studio, which was to work on DROP-1, is gone for good, according to an operator.',
      'paragraph: /swarm create makes a new machine. Work that was not pushed is on the old one alone.',
    ],
  ],
  [
    { kind: 'text', text: 'DROP-1 has its machine\n    agent-swarm ssh DROP-1' },
    ['paragraph: DROP-1 has its machine', 'codeBlock: agent-swarm ssh DROP-1'],
  ],
] satisfies [JiraNote, string[]][])('the note $0.kind', ([note, expected]) => {
  expect(text(note)).toEqual(expected)
})

test('a pull request as a link in Jira', () => {
  const link = { repo: 'acme/shop', number: 7, ticket: 'DROP-1', branch: 'drop-1-login' }
  expect(remoteLink({ ...link, state: 'merged', closedAt: null }, 'https://github.com')).toEqual({
    globalId: 'agent-swarm:https://github.com/acme/shop/pull/7',
    relationship: 'pull request',
    object: {
      url: 'https://github.com/acme/shop/pull/7',
      title: 'acme/shop#7',
      summary: 'drop-1-login (merged)',
      status: { resolved: true },
    },
  })
})
