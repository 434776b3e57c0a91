/** Values that the tests of rendered texts share. */
import type { Block } from '../../../src/bot/publish/text.ts'
import { markdown } from '../../../src/bot/publish/text.ts'
import { linksTo } from '../../../src/bot/publish/words.ts'
import type { CommentRef } from '../../../src/schema/action.ts'
import type { Environment } from '../../../src/schema/environment.ts'
import type { Offer } from '../../../src/schema/runner-protocol.ts'
import type { KnownEnvironment, KnownRunner, Store } from '../../../src/store/port.ts'

export const dev = { via: 'github', who: 'octocat' } as const
export const at = (time: string) => Date.parse(`2026-11-24T${time}Z`)

export const environment = (more: Partial<Environment> = {}): Environment => ({
  ticket: 'DROP-1',
  provider: 'kvm',
  vmId: 'as-drop-1-1a2b3c4d',
  ip: '192.168.122.7',
  status: 'running',
  baseImage: 'agent-swarm-base',
  createdAt: '2026-11-24T09:00:00.000Z',
  createdBy: { via: 'jira', who: 'dev' },
  ssh: { host: '192.168.122.7', port: 22, user: 'agent' },
  checkpoints: [],
  unsavedWork: null,
  observedAt: '2026-11-24T09:45:10.000Z',
  ...more,
})
export const known = (more: Partial<KnownEnvironment> = {}): KnownEnvironment => ({
  environment: environment(),
  runnerId: 'r1',
  heardAt: at('09:45:11'),
  goneAt: null,
  ...more,
})
export const offer = (freeMiB: number, more: Partial<Offer> = {}): Offer => ({
  providers: [{ name: 'kvm', label: 'KVM', live: true, images: ['agent-swarm-base'] }],
  defaults: {
    provider: 'kvm',
    baseImage: 'agent-swarm-base',
    size: { cpus: 2, memoryMiB: 4_096, diskGiB: 20 },
  },
  limits: { cpus: 8, memoryMiB: 32_768, diskGiB: 100 },
  room: { free: { cpus: 64, memoryMiB: freeMiB, diskGiB: 100 }, empty: { cpus: 64, memoryMiB: 16_384, diskGiB: 100 } },
  ...more,
})
export const runner = (more: Partial<KnownRunner> = {}): KnownRunner => ({
  id: 'r1',
  host: 'studio',
  seenAt: at('09:45:11'),
  connected: true,
  offer: offer(8_192),
  ...more,
})
/** What a decided comment with commands that need no action leaves behind. */
export const recordRequests = async (
  store: Store,
  comment: Extract<CommentRef, { repo: string }>,
  commands: readonly string[],
): Promise<void> => {
  const id = `comment-${comment.commentId}`
  await store.inbox.accept([{ source: 'github', id, event: 'issue_comment', lane: id, body: '{}', receivedAt: 0 }])
  const [delivery] = await store.inbox.due(1)
  const requests = commands.map((what, line) => ({
    ...{ id: `${id}:${line}`, at: 0, by: dev, person: true, place: `${comment.repo}#${comment.number}`, ticket: null },
    ...{ command: { comment, line }, what, action: null, verdict: 'answered' as const, reason: null, ok: true },
    answer: { text: 'An answer.', help: what.endsWith('help') },
  }))
  await store.inbox.settle([
    { seq: delivery?.seq ?? 0, verdict: 'actions', reason: null, actions: [], messages: [], requests, effects: [] },
  ])
}
export const noLinks = linksTo({ webUrl: 'https://github.com', jiraUrl: null }, null)
export const links = linksTo({ webUrl: 'https://github.com', jiraUrl: 'https://acme.atlassian.net' }, 'acme/shop')
export const markdownOf = ({ blocks }: { blocks: Block[] }): string => markdown(blocks)
