/** What the executor works with: configuration, registry and providers. Opened once in a process. */
import { mkdirSync } from 'node:fs'
import { providerRow } from '../../providers/index.ts'
import type { MachinePrice, Provider, VmInfo, VmUsage } from '../../providers/provider.ts'
import type { Config } from '../config/config.ts'
import { homeId, registryFile } from '../config/home.ts'
import { attemptOf, type EnvironmentKey, type ProviderName, type Ticket, ticketOf } from '../domain.ts'
import { type FailureError, fail, failureOf } from '../errors.ts'
import { type OnCommand, openRun, type Run } from '../exec.ts'
import { type EnvironmentRow, type Idleness, openRegistry, type Registry } from '../registry/registry.ts'
import type { Environment } from '../schema/environment.ts'
import type { AgentGuest } from './agent/guest.ts'
import type { Program } from './agent/programs.ts'
import { detectProvider, forgetDetected, isForeign, platformName, watched } from './detection.ts'
import { GUEST, type GuestLayout } from './link/guest-files.ts'
import type { Link } from './link/types.ts'
import { plainAccess, type WithProjectAccess } from './project/access.ts'

/** `guestOf`: where it runs, by the machine and its link. */
export type ScriptedAgent = { program: Program; guestOf: (vmId: string, link: Pick<Link, 'address'>) => AgentGuest }

export type RunnerContext = {
  config: Config
  home: string
  registry: Registry
  /** The system of this host. */
  platform: NodeJS.Platform
  run: Run
  clock: () => Date
  /** How git in a machine reaches its repository. */
  projectAccess: WithProjectAccess
  /** Where our files lie in a machine. */
  guest: GuestLayout
  /** Each provider is opened once. */
  provider(name: ProviderName): Promise<Provider>
  /** The configured provider, or the first one that is available. */
  chosenProvider(): Promise<Provider>
  /** The demo's own agent, which takes the place of the configured program and may run on this very system. */
  scriptedAgent?: ScriptedAgent
  close(): void
}

type RunTools = { onCommand?: OnCommand; interrupt?: AbortSignal; platform?: NodeJS.Platform }
/** For a registry that is rebuilt, beside the one of the home; and for the machines of another home. */
type Instead = { registryFile?: string; homeId?: string; knows?: (vmId: string) => boolean }

const openProvider = async (
  { config, home, registry }: Pick<RunnerContext, 'config' | 'home' | 'registry'>,
  tools: RunTools & Instead,
  name: ProviderName,
): Promise<Provider> => {
  const { open, environment } = providerRow(name)
  if (open === null)
    throw fail('provider-missing', `the provider ${name} is not part of this version`, 'See: agent-swarm providers')
  return open({
    run: openRun(config.environment, { ...tools, passOn: environment }),
    home,
    homeId: tools.homeId ?? (await homeId(home)),
    knows: tools.knows ?? registry.knowsMachine,
    settings: config.providerSettings[name] ?? {},
  })
}

/** The configured provider, which must be available. */
const configuredProvider = async (
  name: ProviderName,
  open: RunnerContext['provider'],
  platform: NodeJS.Platform,
): Promise<Provider> => {
  const provider = await open(name)
  const state = await provider.available()
  if (state.available) return provider
  const row = providerRow(name)
  if (isForeign(row, platform))
    throw fail(
      'provider-missing',
      `the provider ${name} does not work here: it is for ${platformName(row.platform ?? platform)}, and this host has ${platformName(platform)}`,
      'Leave out the setting `provider` (AGENT_SWARM_PROVIDER), or choose one of: agent-swarm providers',
    )
  throw fail('provider-missing', `the provider ${name} does not work here: ${state.reason}`, state.remedy)
}

export const openRunnerContext = (config: Config, tools: RunTools & Instead = {}): RunnerContext => {
  const { home } = config
  const { platform = process.platform } = tools
  mkdirSync(home, { recursive: true, mode: 0o700 })
  const registry = openRegistry(tools.registryFile ?? registryFile(home))
  const clock = () => new Date()
  let chosen: Promise<Provider> | null = null
  /** The next choice looks again, in this process and in others. */
  const forget = () => {
    chosen = null
    if (config.provider === null) forgetDetected(home)
  }
  const opened = new Map<ProviderName, Promise<Provider>>()
  const provider = (name: ProviderName): Promise<Provider> => {
    const existing =
      opened.get(name) ??
      openProvider({ config, home, registry }, tools, name).then(provider => watched(provider, forget))
    opened.set(name, existing)
    return existing
  }
  const choose = () =>
    config.provider === null
      ? detectProvider({ config, home, platform, clock }, provider)
      : configuredProvider(config.provider, provider, platform)
  return {
    config,
    home,
    registry,
    platform,
    run: openRun(config.environment, tools),
    clock,
    projectAccess: plainAccess(config.githubApiUrl),
    guest: GUEST,
    provider,
    chosenProvider: () => {
      chosen ??= choose().catch(error => {
        // The next call tries again: what was missing may be installed by then.
        chosen = null
        throw error
      })
      return chosen
    },
    close: () => registry.close(),
  }
}

/** The key that the environment has now: its own, or, after the issue of its ticket was moved, the new one. */
export const resolveTicket = (
  { registry }: Pick<RunnerContext, 'registry'>,
  ticket: EnvironmentKey,
): EnvironmentKey => {
  if (registry.environment(ticket) !== null) return ticket
  const moved = registry.movedTo(ticket)
  if (moved === null) return ticket
  return registry.environment(moved) !== null || registry.attempts(moved).length > 0 ? moved : ticket
}

/** Nobody creates attempts: a fork makes them. */
export const noSuchAttempt = (
  { registry }: Pick<RunnerContext, 'registry'>,
  key: EnvironmentKey,
  message = `${key} has no machine`,
): FailureError => {
  const ticket = ticketOf(key)
  const attempts = registry.attempts(ticket)
  return fail(
    'no-such-environment',
    message,
    attempts.length === 0
      ? `${ticket} has no attempts. To make one: agent-swarm fork ${ticket}`
      : `Its ticket's attempts: ${attempts.join(', ')}. To make more: agent-swarm fork ${ticket}`,
  )
}

/** The ticket's environment, also by a former key of the ticket. */
export const requireEnvironment = (context: RunnerContext, ticket: EnvironmentKey): EnvironmentRow => {
  const row = context.registry.environment(resolveTicket(context, ticket))
  if (row !== null) return row
  if (attemptOf(ticket) !== null) throw noSuchAttempt(context, ticket)
  throw fail('no-such-environment', `${ticket} has no machine`, `Create one: agent-swarm create ${ticket}`)
}

/** A row as others get it. Written out, since leaving members out of a thousand objects takes ten times as long. */
const reported = (row: EnvironmentRow) => {
  const { ticket, provider, vmId, baseImage, ip, status, createdAt, createdBy, ssh, unsavedWork, attempt } = row
  const same = { ticket, provider, vmId, baseImage, ip, status, createdAt, createdBy, ssh, unsavedWork }
  return attempt === undefined ? same : { ...same, attempt }
}

/** What the machine works on, of one ticket; members that it has not are missing. */
const workOf = (
  registry: Registry,
  ticket: Ticket,
  projects = registry.projectsByTicket(ticket),
  agents = registry.agentReports(ticket),
): Pick<Environment, 'project' | 'pushes' | 'note' | 'agent'> => ({
  ...projects.get(ticket),
  ...(agents.has(ticket) ? { agent: agents.get(ticket) } : {}),
})

/**
 * `vm`: as the hypervisor lists it, null when it was not asked. A memory counts as saved when the hypervisor
 * has it; a warning belongs to a running machine alone.
 */
const idleOf = (
  status: EnvironmentRow['status'],
  idleness: Idleness | null | undefined,
  vm: VmInfo | null | undefined,
): Pick<Environment, 'idle'> => {
  const report = idleness?.report ?? null
  if (status === 'running') return report?.state === 'warned' ? { idle: report } : {}
  if (status !== 'stopped') return {}
  if (vm?.saved === true) return { idle: report?.state === 'saved' ? report : { state: 'saved', at: null } }
  const isThere = report?.state === 'stopped' || (report?.state === 'saved' && vm === null)
  return isThere ? { idle: report } : {}
}

/** A row of the registry as the bot and the CLI get it. */
export const toEnvironment = ({ registry }: RunnerContext, row: EnvironmentRow, observedAt: Date): Environment => ({
  ...reported(row),
  ...workOf(registry, row.ticket),
  ...idleOf(row.status, registry.idleness(row.ticket), null),
  checkpoints: registry.checkpoints(row.ticket),
  observedAt: observedAt.toISOString(),
})

/** The state of a row whose hypervisor reported `vm` now. During an operation the row's own state counts. */
const stateOf = (row: EnvironmentRow, vm: VmInfo | undefined): Pick<EnvironmentRow, 'status' | 'ip' | 'ssh'> => {
  if (row.status === 'creating' || row.status === 'deleting' || row.status === 'failed')
    return { status: row.status, ip: row.ip, ssh: row.ssh }
  if (vm === undefined) return { status: 'lost', ip: null, ssh: null }
  const ip = vm.status === 'running' ? (vm.ip ?? row.ip) : null
  return {
    status: vm.status === 'creating' ? row.status : vm.status,
    ip,
    ssh: row.ssh === null || ip === null ? null : { ...row.ssh, host: ip },
  }
}

/** What one hypervisor had, beside the rows that the registry had just before. `endings`: of machines that it has no more. */
export type Seen = {
  at: Date
  rows: ReadonlyMap<Ticket, EnvironmentRow>
  vms: ReadonlyMap<string, VmInfo>
  endings: ReadonlyMap<string, string>
}

/** What a hypervisor has, and how those ended that it has no more: asked at one time. */
export const listWithEndings = async (
  provider: Provider,
): Promise<{ vms: readonly VmInfo[]; endings: ReadonlyMap<string, string> }> => {
  const [vms, endings = new Map<string, string>()] = await Promise.all([provider.listVms(), provider.endings?.()])
  return { vms, endings }
}

/** `vm`: null when the hypervisor was not asked, undefined when it has none. */
type SeenState = {
  state: ReturnType<typeof stateOf> | null
  vm: VmInfo | null | undefined
  paused: string | null
  /** What the hypervisor did, or does, by itself. */
  byItself: Pick<Environment, 'interruption' | 'ending'>
}
export const UNSEEN: SeenState = { state: null, vm: null, paused: null, byItself: {} }

/**
 * A row, as the hypervisor had it. A row that changed meanwhile, for example because its create ended, is newer than that. `seen`
 * null: the hypervisor was not asked, or did not answer.
 */
export const seenState = (row: EnvironmentRow, seen: Seen | null): SeenState => {
  const before = seen?.rows.get(row.ticket)
  const vm = seen?.vms.get(row.vmId)
  const isNewer = before === undefined || row.vmId !== before.vmId || row.status !== before.status
  const paused = vm?.paused ?? null
  if (seen === null || isNewer) return { ...UNSEEN, paused }
  const [state, ending] = [stateOf(row, vm), vm === undefined ? seen.endings.get(row.vmId) : undefined]
  const byItself = {
    ...(vm?.interruption === undefined ? {} : { interruption: vm.interruption }),
    ...(state.status === 'lost' && ending !== undefined ? { ending } : {}),
  }
  return { state, vm, paused, byItself }
}

/** Rows, and what is needed to report them: read at one time. */
export const openReport = ({ registry }: Pick<RunnerContext, 'registry'>) => {
  const checkpoints = registry.checkpointsByTicket()
  const projects = registry.projectsByTicket()
  const agents = registry.agentReports()
  const idleness = registry.idlenessByTicket()
  return (row: EnvironmentRow, { state, vm, byItself }: SeenState) => ({
    ...reported(row),
    ...workOf(registry, row.ticket, projects, agents),
    ...state,
    ...byItself,
    ...idleOf(state?.status ?? row.status, idleness.get(row.ticket), vm),
    checkpoints: checkpoints.get(row.ticket) ?? [],
  })
}

export type Listing = {
  /** `paused`: the hypervisor's reason why a running machine is paused. */
  environments: (Environment & { usage: VmUsage | null; price?: MachinePrice; paused: string | null })[]
  /** Providers that did not answer: their environments are as they were last known. */
  unread: { provider: ProviderName; message: string }[]
}

/**
 * Every environment as its hypervisor reports it now, with a number of outside commands that does not grow with them. `usage`
 * looks at every disk, and at prices. Machines without a ticket belong to no environment.
 */
export const listEnvironments = async (context: RunnerContext, { usage }: { usage: boolean }): Promise<Listing> => {
  const { registry } = context
  const rows = registry.environments()
  const report = openReport(context)
  const at = context.clock()
  const rowOf = new Map(rows.map(row => [row.ticket, row]))
  const unread: Listing['unread'] = []
  const reports = new Map(
    await Promise.all(
      [...new Set(rows.map(row => row.provider))].map(async name => {
        try {
          const provider = await context.provider(name)
          const [{ vms, endings }, usages, prices] = await Promise.all([
            listWithEndings(provider),
            ...(usage ? ([provider.usage?.(), provider.prices?.()] as const) : ([undefined, undefined] as const)),
          ])
          const seen: Seen = { at, rows: rowOf, vms: new Map(vms.map(vm => [vm.vmId, vm])), endings }
          return [name, { seen, usages, prices }] as const
        } catch (error) {
          unread.push({ provider: name, message: failureOf(error, `listing the machines of ${name}`).message })
          return [name, null] as const
        }
      }),
    ),
  )
  const environments = rows.flatMap(read => {
    const { seen = null, usages, prices } = reports.get(read.provider) ?? {}
    // A machine that is missing may have been deleted meanwhile: then the registry no longer has it either.
    const row = seen === null || seen.vms.has(read.vmId) ? read : registry.environment(read.ticket)
    if (row === null) return []
    const found = seenState(row, seen)
    const { paused } = found
    const price = prices?.get(row.vmId)
    return [
      {
        ...{ ...report(row, found), observedAt: at.toISOString(), usage: usages?.get(row.vmId) ?? null, paused },
        ...(price === undefined ? {} : { price }),
      },
    ]
  })
  return { environments, unread }
}
