/** A runner's context on synthetic machines, in a home of its own. */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Provider } from '../../providers/provider.ts'
import { type Config, readConfig } from '../../src/config/config.ts'
import { fail } from '../../src/errors.ts'
import type { Run } from '../../src/exec.ts'
import type { Registry } from '../../src/registry/registry.ts'
import { openRunnerContext, type RunnerContext } from '../../src/runner/context.ts'
import { execute } from '../../src/runner/executor.ts'
import type { Caller } from '../../src/runner/operation.ts'
import type { Action } from '../../src/schema/action.ts'
import type { Outcome } from '../../src/schema/outcome.ts'

export const configFor = (home: string, more: Record<string, string> = {}): Promise<Config> =>
  readConfig(
    {},
    { PATH: process.env.PATH, HOME: home, AGENT_SWARM_HOME: home, AGENT_SWARM_PROVIDER: 'synthetic', ...more },
  )

const by = { via: 'cli', who: 'tester' } as const
const common = { by, replyTo: null }
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
  move: (from: string, ticket: string): Action => ({ ...common, kind: 'move', ticket, from }),
  fork: (ticket: string, count = 1, from: string | null = null): Action => ({
    ...common,
    ...{ kind: 'fork', ticket, count, from },
  }),
  promote: (ticket: string, attempt: number): Action => ({ ...common, kind: 'promote', ticket, attempt }),
}

/** The file in a machine that the guest in this process takes for unsaved work. */
const UNSAVED = 'unsaved'

/** Stands in for ssh-keygen, which takes longer than the rest of a create. */
const keygenRun: Run = async (program, argv) => {
  const path = argv.at(-1)
  if (program !== 'ssh-keygen' || path === undefined) throw new Error(`a unit test ran ${program}`)
  writeFileSync(path, 'a private key\n')
  writeFileSync(`${path}.pub`, 'ssh-ed25519 AAAA agent-swarm\n')
  return { stdout: '', stderr: '', exitCode: 0, milliseconds: 0 }
}

/** A guest without a shell, which knows of unsaved work by a file. */
const guestOf =
  (home: string): NonNullable<Provider['runInGuest']> =>
  async vmId => ({
    stdout: existsSync(join(home, 'synthetic', vmId, 'disk', UNSAVED)) ? '0\t1\t0\t0\t0\t/work\nend\n' : 'end\n',
    stderr: '',
    exitCode: 0,
  })

/** Replaces the providers that the context opens. */
export const wrapProviders = (context: RunnerContext, wrap: (provider: Provider) => Provider): void => {
  const { provider, chosenProvider } = context
  context.provider = async name => wrap(await provider(name))
  context.chosenProvider = async () => wrap(await chosenProvider())
}

type Guest = 'in-process' | 'shell'

export const openContext = async (home: string, guest: Guest): Promise<RunnerContext> => {
  const context = openRunnerContext(await configFor(home))
  if (guest === 'in-process') {
    context.run = keygenRun
    wrapProviders(context, provider => ({ ...provider, runInGuest: guestOf(home) }))
    const { provider } = context
    context.provider = async name => {
      if (name !== 'synthetic') throw fail('provider-missing', `a unit test opened ${name}`)
      return provider(name)
    }
  }
  return context
}

const PROCESS_DIED = 'the process died here'

/** Executes an action and stops at a phase as if its process had died: from there on it changes nothing, and its locks are free. */
const dieIn = async (context: RunnerContext, phase: string, action: Action, actionId: string | null) => {
  let isDead = false
  const unlessDead = () => {
    if (isDead) throw new Error(PROCESS_DIED)
  }
  wrapProviders(
    context,
    provider =>
      new Proxy(provider, {
        get: (target, name) => {
          const member = Reflect.get(target, name)
          if (typeof member !== 'function') return member
          return async (...values: unknown[]) => {
            unlessDead()
            return member(...values)
          }
        },
      }),
  )
  const { run, registry } = context
  context.run = async (...values) => {
    unlessDead()
    return run(...values)
  }
  await execute(context, action, {
    actionId,
    correlation: null,
    signal: new AbortController().signal,
    onPhase: reached => {
      if (reached !== phase || isDead) return
      isDead = true
      registry.close()
      throw new Error(PROCESS_DIED)
    },
  }).catch(() => {})
  if (!isDead) registry.close()
  return isDead
}

export type TestContext = Awaited<ReturnType<typeof openTestContext>>

/** `guest`: whether scripts run in a shell in the machine's folder, or are answered in this process. */
export const openTestContext = async ({ guest = 'in-process' }: { guest?: Guest } = {}) => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-test-'))
  const context = await openContext(home, guest)
  const marks = join(home, 'synthetic-state')
  const vmIdOf = (ticket: string) => context.registry.environment(ticket)?.vmId ?? ''
  const markOf = (ticket: string) =>
    join(marks, readdirSync(marks).find(name => name.startsWith(`${vmIdOf(ticket)}.`)) ?? '')
  const disk = (ticket: string, name: string) => join(home, 'synthetic', vmIdOf(ticket), 'disk', name)
  const provider = () => context.provider('synthetic')
  return {
    context,
    home,
    provider,
    vmIdOf,
    do: (action: Action, caller: Partial<Caller> = {}): Promise<Outcome> =>
      execute(context, action, {
        actionId: null,
        correlation: null,
        signal: new AbortController().signal,
        onPhase: () => {},
        ...caller,
      }),
    /** Executes an action that dies at a phase, in this process. False when it ended before the phase. */
    dieAt: async (phase: string, action: Action, actionId: string | null = null): Promise<boolean> =>
      dieIn(await openContext(home, guest), phase, action, actionId),
    /** Executes an action in a process of its own, which is killed (-9) at a phase. False when it ended before. */
    killAt: async (phase: string, action: Action, actionId = ''): Promise<boolean> => {
      const script = join(import.meta.dirname, 'die-at.ts')
      try {
        await promisify(execFile)(process.execPath, [script, home, phase, actionId, JSON.stringify(action)])
        return false
      } catch (error) {
        return (error as { signal?: string }).signal === 'SIGKILL'
      }
    },
    /** Runs a script in the ticket's machine, and returns its output. `deadline`: milliseconds. */
    inside: async (ticket: string, script: string, deadline = 600_000): Promise<string | undefined> =>
      (await (await provider()).runInGuest?.(vmIdOf(ticket), script, { deadline }))?.stdout,
    /** Files in the ticket's machine. */
    write: (ticket: string, name: string, text: string) => writeFileSync(disk(ticket, name), text),
    read: (ticket: string, name: string): string => readFileSync(disk(ticket, name), 'utf8'),
    /** Unsaved work for the guest that is answered in this process. */
    addUnsavedWork: (ticket: string) => writeFileSync(disk(ticket, UNSAVED), ''),
    removeUnsavedWork: (ticket: string) => rmSync(disk(ticket, UNSAVED)),
    /** The host loses its power, and the machine with it: no action stopped it. */
    losePower: async (ticket: string): Promise<void> => (await provider()).stopVm(vmIdOf(ticket)),
    /** The folders of all machines. */
    machines: (): string[] => (existsSync(join(home, 'synthetic')) ? readdirSync(join(home, 'synthetic')) : []),
    /** The ticket in the mark of a machine; null when it has none, undefined without a machine. */
    markedTicket: async (vmId: string): Promise<string | null | undefined> =>
      (await (await provider()).listVms()).find(vm => vm.vmId === vmId)?.ticket,
    /** The ticket's machine cannot be deleted until the result is called. */
    preventDelete: (ticket: string): (() => void) => {
      // Its mark is a folder now, which is not removed as a file.
      const file = markOf(ticket)
      rmSync(file)
      mkdirSync(file)
      return () => {
        const folder = markOf(ticket)
        rmSync(folder, { recursive: true })
        writeFileSync(folder, '')
      }
    },
    /** The hypervisor no longer has the ticket's machine. */
    forgetMachine: (ticket: string) => rmSync(markOf(ticket)),
    close: () => {
      context.close()
      rmSync(home, { recursive: true, force: true })
    },
  }
}

/** Adds a running KVM machine to the registry that answers at `host`. */
export const knownMachine = (
  registry: Registry,
  ticket: string,
  host: string,
  port = 22,
  baseImage = 'agent-swarm-base',
): void => {
  const at = new Date().toISOString()
  const operation = registry.startOperation({
    ...{ actionId: null, correlation: null, ticket, kind: 'create', by, at },
  })
  const vmId = `as-${ticket.toLowerCase()}-00000001`
  registry.begin({ ticket, provider: 'kvm', vmId, baseImage, by, operation })
  registry.setAddress(ticket, { host, port, user: 'agent' })
  registry.setStatus(ticket, 'running')
  registry.endOperation(operation, at, 'done', null)
}
