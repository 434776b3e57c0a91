/** A world on synthetic environments in a folder of its own, for tests of what happens on a machine. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Config, readConfig } from '../../src/config.ts'
import type { Action, Outcome } from '../../src/domain.ts'
import type { Registry } from '../../src/registry/registry.ts'
import { execute } from '../../src/runner/executor.ts'
import type { Asked } from '../../src/runner/work.ts'
import { openWorld, type World } from '../../src/runner/world.ts'

const temporaryHome = () => mkdtempSync(join(tmpdir(), 'agent-swarm-test-'))

export const configFor = (home: string, more: Record<string, string> = {}): Promise<Config> =>
  readConfig(
    {},
    { PATH: process.env.PATH, HOME: home, AGENT_SWARM_HOME: home, AGENT_SWARM_PROVIDER: 'synthetic', ...more },
  )

const me = { via: 'cli', who: 'tester' } as const
const common = { by: me, replyTo: null }
export const actions = {
  create: (ticket: string): Action => ({ ...common, kind: 'create', ticket }),
  start: (ticket: string): Action => ({ ...common, kind: 'start', ticket }),
  stop: (ticket: string): Action => ({ ...common, kind: 'stop', ticket }),
  status: (ticket: string): Action => ({ ...common, kind: 'status', ticket }),
  checkpoint: (ticket: string, name: string | null = null): Action => ({
    ...common,
    kind: 'checkpoint',
    ticket,
    name,
    why: 'command',
    commit: null,
  }),
  push: (ticket: string, commit: string): Action => ({
    ...common,
    kind: 'checkpoint',
    ticket,
    name: `push-${commit.slice(0, 7)}`,
    why: 'push',
    commit,
  }),
  restore: (ticket: string, name: string | null = null): Action => ({ ...common, kind: 'restore', ticket, name }),
  delete: (ticket: string, force = false): Action => ({ ...common, kind: 'delete', ticket, force }),
}

export const openTestWorld = async (
  home = temporaryHome(),
): Promise<{
  world: World
  home: string
  do: (action: Action, asked?: Partial<Asked>) => Promise<Outcome>
  close: () => void
}> => {
  const world = openWorld(await configFor(home))
  return {
    world,
    home,
    do: (action, asked = {}) =>
      execute(world, action, {
        actionId: null,
        correlation: null,
        signal: new AbortController().signal,
        onPhase: () => {},
        ...asked,
      }),
    close: () => {
      world.close()
      rmSync(home, { recursive: true, force: true })
    },
  }
}

/** A machine of kvm's, running and answering at `host`, as the registry knows one. */
export const knownMachine = (registry: Registry, ticket: string, host: string, port = 22): void => {
  const by = { via: 'cli', who: 'tester' } as const
  const operation = registry.startOperation({
    ...{ actionId: null, correlation: null, ticket, kind: 'create', by, at: new Date().toISOString() },
  })
  const vmId = `as-${ticket.toLowerCase()}-00000001`
  registry.begin({ ticket, provider: 'kvm', vmId, baseImage: 'agent-swarm-base', by, hostKey: null, operation })
  registry.setAddress(ticket, { host, port, user: 'agent' })
  registry.setStatus(ticket, 'running')
  registry.endOperation(operation, new Date().toISOString(), 'done', null)
}
