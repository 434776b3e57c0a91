/** A filler of pools whose repositories are at commits that the test says, and whose machines clone nothing. */
import { existsSync } from 'node:fs'
import type { Provider } from '../../providers/provider.ts'
import { fail } from '../../src/errors.ts'
import { openLog } from '../../src/log.ts'
import type { RunnerContext } from '../../src/runner/context.ts'
import { type FillerTools, openRounds } from '../../src/runner/pool/filler.ts'
import type { Pool } from '../../src/schema/pool.ts'

export const poolOf = (more: Partial<Pool> = {}): Pool => ({
  ...{ image: 'agent-swarm-base', repository: null, ready: 1, most: 3, hold: 'memory' },
  ...more,
})

/** The pools of the settings, in a context that has its settings already. */
export const setPools = (context: RunnerContext, ...pool: Pool[]): void => {
  context.config = { ...context.config, pool }
}

const unwatched = { signal: new AbortController().signal, onBegun: () => {}, onBooted: () => {} }

export const openTestFiller = (context: RunnerContext) => {
  const heads = new Map<string, string>()
  let file: string | null = null
  let now = 0
  const changes = { count: 0 }
  const tools: FillerTools = {
    context,
    log: openLog('silent'),
    git: {
      headOf: async ({ repo }) => {
        const head = heads.get(repo)
        if (head === undefined) throw fail('network', `asking for ${repo}: could not resolve host`)
        return head
      },
      readFile: async () => file,
    },
    withAccess: (_machine, work) =>
      work({
        remote: 'http://127.0.0.1:9/',
        through: null,
        stays: true,
        note: null,
        readDefaultFile: async () => file,
        projects: null,
      }),
    now: () => now,
    onChange: () => {
      changes.count += 1
    },
  }
  let rounds = openRounds(tools)
  return {
    tools,
    changes,
    setHead: (repo: string, commit: string | null) =>
      void (commit === null ? heads.delete(repo) : heads.set(repo, commit)),
    setFile: (text: string | null) => {
      file = text
    },
    /** Milliseconds pass for the filler's patience. */
    pass: (milliseconds: number) => {
      now += milliseconds
    },
    /** Another process goes on. */
    restart: () => {
      rounds = openRounds(tools)
    },
    round: (making: Partial<{ signal: AbortSignal; onBegun: (vmId: string) => void }> = {}) =>
      rounds.round({ ...unwatched, ...making }),
    /** Rounds until there is nothing to make. */
    fill: async () => {
      for (let made = 0; await rounds.round(unwatched); made += 1)
        if (made > 20) throw new Error('the filler makes machine after machine')
    },
  }
}

/** The synthetic provider, whose machines are forked from a checkpoint, and run at once. */
export const withForks =
  (forks: string[], home: string) =>
  (provider: Provider): Provider => ({
    ...provider,
    memoryCheckpoints: true,
    memoryForks: true,
    fork: async (id, checkpoint, targets) => {
      if (checkpoint === null || !existsSync(`${home}/synthetic/${id}/checkpoints/${checkpoint}`))
        throw fail('no-such-checkpoint', `${id} has no checkpoint ${checkpoint}`)
      for (const { vmId, ticket, publicKey, hostKey } of targets) {
        await provider.createVm(ticket, 'none', { vmId, cpus: 1, memoryMiB: 256, diskGiB: 2, publicKey, hostKey })
        await provider.startVm(vmId)
        forks.push(id)
      }
    },
  })
