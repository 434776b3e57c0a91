/** A world on synthetic environments in a folder of its own, for tests of what happens on a machine. */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Config, readConfig } from '../../src/config/config.ts'
import type { Registry } from '../../src/registry/registry.ts'
import { openRunnerContext, type RunnerContext } from '../../src/runner/context.ts'
import { execute } from '../../src/runner/executor.ts'
import type { Caller } from '../../src/runner/operation.ts'
import type { Action } from '../../src/schema/action.ts'
import type { Outcome } from '../../src/schema/outcome.ts'

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
  world: RunnerContext
  home: string
  do: (action: Action, asked?: Partial<Caller>) => Promise<Outcome>
  /** Does it in a process of its own, which is killed (-9) at a phase. False when it came to its end before. */
  dieAt: (phase: string, action: Action, actionId?: string) => Promise<boolean>
  /** Runs a script in the ticket's machine, and returns what it printed. */
  inside: (ticket: string, script: string) => Promise<string | undefined>
  /** The host goes down, and the machine with it: nobody here was asked. */
  loseItsPower: (ticket: string) => Promise<void>
  /** The folders of all machines. */
  machines: () => string[]
  /** Its machine cannot be deleted, until what is returned is called. */
  cannotDelete: (ticket: string) => () => void
  /** The hypervisor does not know its machine any more. */
  forgetMachine: (ticket: string) => void
  close: () => void
}> => {
  const world = openRunnerContext(await configFor(home))
  const states = join(home, 'synthetic-state')
  const vmOf = (ticket: string) => world.registry.environment(ticket)?.vmId ?? ''
  const marker = (ticket: string) =>
    join(states, readdirSync(states).find(name => name.startsWith(`${vmOf(ticket)}.`)) ?? '')
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
    dieAt: async (phase, action, actionId = '') => {
      const script = join(import.meta.dirname, 'die-at.ts')
      try {
        await promisify(execFile)(process.execPath, [script, home, phase, actionId, JSON.stringify(action)])
        return false
      } catch (error) {
        return (error as { signal?: string }).signal === 'SIGKILL'
      }
    },
    inside: async (ticket, script) =>
      (await (await world.provider('synthetic')).runInGuest?.(vmOf(ticket), script))?.stdout,
    loseItsPower: async ticket => (await world.provider('synthetic')).stopVm(vmOf(ticket)),
    machines: () => {
      const folder = join(home, 'synthetic')
      return existsSync(folder) ? readdirSync(folder) : []
    },
    cannotDelete: ticket => {
      // What says that it is there is no file any more, but a folder.
      const file = marker(ticket)
      rmSync(file)
      mkdirSync(file)
      return () => {
        const folder = marker(ticket)
        rmSync(folder, { recursive: true })
        writeFileSync(folder, '')
      }
    },
    forgetMachine: ticket => rmSync(marker(ticket)),
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
