/** What the executor works with: configuration, registry, providers, guests. Opened once a process. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { providerNames, providerRow } from '../../providers/index.ts'
import type { Provider, VmInfo, VmUsage } from '../../providers/provider.ts'
import type { Config } from '../config/config.ts'
import type { ProviderName, Ticket } from '../domain.ts'
import { fail, failureOf } from '../errors.ts'
import { type OnCommand, openRun, type Run } from '../exec.ts'
import { type EnvironmentRow, openRegistry, type Registry } from '../registry/registry.ts'
import type { Environment } from '../schema/environment.ts'

export type RunnerContext = {
  config: Config
  home: string
  registry: Registry
  run: Run
  clock: () => Date
  /** Opened once. */
  provider(name: ProviderName): Promise<Provider>
  /** The one asked for, or the first that is available. */
  chosenProvider(): Promise<Provider>
  close(): void
}

export const openRunnerContext = (
  config: Config,
  tools: { onCommand?: OnCommand; interrupt?: AbortSignal } = {},
): RunnerContext => {
  mkdirSync(config.home, { recursive: true, mode: 0o700 })
  const run = openRun(config.environment, tools)
  const registry = openRegistry(join(config.home, 'registry.db'))
  const opened = new Map<ProviderName, Promise<Provider>>()
  const provider = (name: ProviderName): Promise<Provider> => {
    const open = providerRow(name).open
    if (open === null)
      throw fail('provider-missing', `the provider ${name} is not part of this version`, 'See: agent-swarm providers')
    const known = opened.get(name) ?? open({ run, home: config.home, kvm: config.kvm })
    opened.set(name, known)
    return known
  }
  let chosen: Promise<Provider> | null = null
  const choose = async (): Promise<Provider> => {
    if (config.provider !== null) {
      const one = await provider(config.provider)
      const found = await one.available()
      if (!found.available)
        throw fail('provider-missing', `the provider ${one.name} cannot work here: ${found.reason}`, found.remedy)
      return one
    }
    const reasons: string[] = []
    for (const name of providerNames.filter(name => providerRow(name).detected && providerRow(name).open !== null)) {
      const one = await provider(name)
      const found = await one.available()
      if (found.available) return one
      reasons.push(`${name}: ${found.reason}${found.remedy === null ? '' : ` ${found.remedy}`}`)
    }
    throw fail(
      'provider-missing',
      `no hypervisor can be used here. ${reasons.join(' ')}`,
      'To try everything out without machines, set AGENT_SWARM_PROVIDER=synthetic.',
    )
  }
  return {
    config,
    home: config.home,
    registry,
    run,
    clock: () => new Date(),
    provider,
    chosenProvider: () => {
      chosen ??= choose().catch(error => {
        // Not kept: what was missing may be there the next time.
        chosen = null
        throw error
      })
      return chosen
    },
    close: () => registry.close(),
  }
}

export const requireEnvironment = (world: RunnerContext, ticket: Ticket): EnvironmentRow => {
  const row = world.registry.environment(ticket)
  if (row === null)
    throw fail('no-such-environment', `${ticket} has no environment`, `Make one: agent-swarm create ${ticket}`)
  return row
}

/** A row of the registry as the world is told of it. */
export const toEnvironment = (world: RunnerContext, row: EnvironmentRow, observedAt: Date): Environment => ({
  ticket: row.ticket,
  provider: row.provider,
  vmId: row.vmId,
  ip: row.ip,
  status: row.status,
  baseImage: row.baseImage,
  createdAt: row.createdAt,
  createdBy: row.createdBy,
  ssh: row.ssh,
  checkpoints: world.registry.checkpoints(row.ticket),
  unsavedWork: row.workAtRisk,
  observedAt: observedAt.toISOString(),
})

/** What the hypervisor says now of a row. While an operation is at it, the row's own word counts. */
const seen = (row: EnvironmentRow, vm: VmInfo | undefined): Pick<EnvironmentRow, 'status' | 'ip' | 'ssh'> => {
  if (row.status === 'creating' || row.status === 'deleting' || row.status === 'failed') return row
  if (vm === undefined) return { status: 'lost', ip: null, ssh: null }
  const ip = vm.status === 'running' ? (vm.ip ?? row.ip) : null
  return {
    status: vm.status === 'creating' ? row.status : vm.status,
    ip,
    ssh: row.ssh === null || ip === null ? null : { ...row.ssh, host: ip },
  }
}

export type Listing = {
  environments: (Environment & { usage: VmUsage | null })[]
  /** Providers that could not be asked: their rows are as they were known last. */
  unread: { provider: ProviderName; message: string }[]
}

/**
 * Every environment as its hypervisor sees it now, in a number of outside commands that does not grow with them. `usage` is
 * asked for where it is wanted: it takes a look at every disk.
 */
export const listEnvironments = async (world: RunnerContext, wanted: { usage: boolean }): Promise<Listing> => {
  const rows = world.registry.environments()
  const checkpoints = world.registry.checkpointsByTicket()
  const now = world.clock().toISOString()
  const unread: Listing['unread'] = []
  const names = [...new Set(rows.map(row => row.provider))]
  const asked = await Promise.all(
    names.map(async name => {
      try {
        const provider = await world.provider(name)
        const [vms, usage] = await Promise.all([provider.listVms(), wanted.usage ? provider.usage?.() : undefined])
        return { name, vms: new Map(vms.map(vm => [vm.vmId, vm])), usage }
      } catch (error) {
        unread.push({ provider: name, message: failureOf(error, `asking ${name}`).message })
        return { name, vms: null, usage: undefined }
      }
    }),
  )
  const answers = new Map(asked.map(one => [one.name, one]))
  const environments: Listing['environments'] = []
  for (const read of rows) {
    const answer = answers.get(read.provider)
    const vms = answer?.vms ?? null
    // A machine that is missing may have been deleted while the hypervisor was asked: the registry knows.
    const row = vms === null || vms.has(read.vmId) ? read : world.registry.environment(read.ticket)
    if (row === null) continue
    const { status, ip, ssh } = vms === null ? row : seen(row, vms.get(row.vmId))
    environments.push({
      ticket: row.ticket,
      provider: row.provider,
      vmId: row.vmId,
      ip,
      status,
      baseImage: row.baseImage,
      createdAt: row.createdAt,
      createdBy: row.createdBy,
      ssh,
      checkpoints: checkpoints.get(row.ticket) ?? [],
      unsavedWork: row.workAtRisk,
      observedAt: now,
      usage: answer?.usage?.get(row.vmId) ?? null,
    })
  }
  return { unread, environments }
}
