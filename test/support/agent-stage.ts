/**
 * A runner with agents, and a guest without a machine: the scripts for the guest run here, in a folder, with stand-ins of
 * systemd-run and systemctl. Everything between the registry and the agent's program is the real thing.
 */
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Provider } from '../../providers/provider.ts'
import { fail } from '../../src/errors.ts'
import { openRun } from '../../src/exec.ts'
import { openLog } from '../../src/log.ts'
import { type AgentGuest, openAgentGuest } from '../../src/runner/agent/guest.ts'
import { AGENT_STATE } from '../../src/runner/agent/prompt.ts'
import { openSupervisor, type SupervisorContext } from '../../src/runner/agent/supervisor.ts'
import { transcriptFile } from '../../src/runner/agent/transcript.ts'
import { openRunnerContext, type RunnerContext } from '../../src/runner/context.ts'
import { execute } from '../../src/runner/executor.ts'
import { openModelGateway } from '../../src/runner/model-gateway/gateway.ts'
import type { Action, Task } from '../../src/schema/action.ts'
import type { OperatorAgent } from '../../src/schema/workspace.ts'
import { configFor, knownMachine } from './context.ts'
import { followFile } from './follow-file.ts'
import { until } from './wait.ts'

const TICKET = 'DROP-1'
const VM = 'as-drop-1-00000001'
const TASK: Task = { summary: 'A greeting', description: 'Say hello.', acceptance: 'It is said.' }
const BIN = resolve(import.meta.dirname, 'guest-bin')

type Stage = {
  agent: OperatorAgent
  /** Variables of everything in the guest. */
  environment?: Record<string, string>
  /** Null: its check fails. */
  isolated?: boolean | null
  keys?: Record<string, string>
}

export type AgentStage = Awaited<ReturnType<typeof openAgentStage>>
export const openAgentStage = async ({ agent, environment = {}, isolated = true, keys = {} }: Stage) => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-agent-'))
  const root = join(home, 'guest')
  const state = join(root, AGENT_STATE)
  mkdirSync(join(root, 'shop'), { recursive: true })
  mkdirSync(join(home, 'home', 'model-keys'), { recursive: true, mode: 0o700 })
  for (const [name, key] of Object.entries(keys))
    writeFileSync(join(home, 'home', 'model-keys', name), `${key}\n`, { mode: 0o600 })
  const guestRun = openRun({ PATH: `${BIN}:${process.env.PATH}` })
  const config = { ...(await configFor(join(home, 'home'))), agent }
  const contextOf = (): RunnerContext => {
    const context = openRunnerContext(config)
    const provider = {
      name: 'kvm',
      status: async () => 'running',
      isolated: async () => {
        if (isolated === null) throw fail('permission', 'looking at groups: no right')
        return isolated ? { isolated, note: '' } : { isolated, reason: 'no filter', remedy: null }
      },
    } as unknown as Provider
    context.provider = async () => provider
    return context
  }
  const context = contextOf()
  knownMachine(context.registry, TICKET, '127.0.0.1')
  context.registry.setProject(TICKET, {
    ...{ repo: 'acme/shop', branch: 'DROP-1-greeting', summary: null, path: join(root, 'shop'), ports: [], save: [] },
    ...{ setup: null, start: null, problem: null, prepared: true },
  })
  const runInGuest: NonNullable<Provider['runInGuest']> = async (_, script) =>
    guestRun('/bin/sh', ['-s'], {
      input: script,
      env: {
        ...environment,
        HOME: root,
        AGENT_SWARM_GUEST_ROOTS: root,
        GUEST_UNITS: join(home, 'units'),
        IS_SANDBOX: '1',
        LC_ALL: 'C.UTF-8',
      },
    })
  const lines: string[] = []
  const log = openLog('info', Object.values(keys), line => {
    lines.push(line)
    return ''
  })

  /** One runner's life. `lies`: what the guest does in place of what it is asked for; null: there is no link to it. */
  const runner = async (
    own = context,
    {
      lies = guest => guest,
      ...times
    }: { lies?: (guest: AgentGuest) => AgentGuest | null } & Partial<
      Pick<SupervisorContext, 'repositoryAgent' | 'closed' | 'stoppingMs' | 'startingMs' | 'waitingMs'>
    > = {},
  ) => {
    const server = createServer(
      (request, response) => void gateway.handle({ ticket: TICKET, vmId: VM }, request, response),
    )
    await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
    const port = (server.address() as AddressInfo).port
    const guest = openAgentGuest(own, { runInGuest } as Provider, VM, {
      follow: followFile(state),
      address: service => (service === 'model' ? `http://127.0.0.1:${port}` : 'http://127.0.0.1:1'),
      state,
    })
    const supervisor = openSupervisor({
      ...own,
      log,
      repositoryAgent: async () => undefined,
      closed: () => null,
      guestOf: async () => lies(guest),
      every: 100,
      ...times,
    })
    const gateway = openModelGateway({ ...own, onUse: supervisor.nudge })
    return {
      guest,
      port,
      nudge: supervisor.nudge,
      close: async () => {
        gateway.close()
        await supervisor.close()
        server.closeAllConnections()
        server.close()
      },
    }
  }
  const by = { via: 'cli', who: 'ada' } as const
  const act = (action: Pick<Action, 'kind'> & Record<string, unknown>) =>
    execute(context, { by, replyTo: null, ticket: TICKET, ...action } as Action, {
      ...{ actionId: null, correlation: null, signal: new AbortController().signal, onPhase: () => {} },
    })
  const row = () => context.registry.agent(TICKET)
  return {
    context,
    contextOf,
    runner,
    lines,
    home: context.home,
    root,
    state,
    project: join(root, 'shop'),
    row,
    act,
    start: () => act({ kind: 'agent', what: 'start', task: TASK }),
    stop: () => act({ kind: 'agent', what: 'stop' }),
    tell: (text: string, more: object = {}) => act({ kind: 'tell', text, ...more }),
    /** A restore that ended well, as the journal has it. */
    restored: (name: string) => {
      const { registry } = context
      const at = new Date().toISOString()
      const id = registry.startOperation({ actionId: null, correlation: null, ticket: TICKET, kind: 'restore', by, at })
      registry.setDetail(id, { name })
      registry.endOperation(id, at, 'done', null)
    },
    /** The run that ended after `before`. */
    ended: (before: string | null = null) =>
      until('the end of a run', () => {
        const now = row()
        return now?.state === 'ended' && now.run !== before && context.registry.waitingMessages(TICKET).length === 0
          ? now
          : null
      }),
    transcript: (run: string) => readFileSync(transcriptFile(context.home, VM, run), 'utf8'),
    /** Units that were started, in order. */
    started: () =>
      existsSync(join(home, 'units', 'started'))
        ? readFileSync(join(home, 'units', 'started'), 'utf8')
            .trim()
            .split('\n')
        : [],
    print: (run: string, text: string) => appendFileSync(join(state, run, 'out.jsonl'), text),
    close: async () => {
      const guest = openAgentGuest(context, { runInGuest } as Provider, VM, {
        follow: () => () => {},
        address: () => '',
        state,
      })
      await guest.stopAll()
      context.close()
      rmSync(home, { recursive: true, force: true })
    },
  }
}
