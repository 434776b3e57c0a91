/**
 * A registry from what the hypervisors have: for a registry that is damaged or lost, and for a home that is lost. A plan is shown
 * first, and carried out when the operator says so.
 */
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { providers } from '../../../providers/index.ts'
import type { ForeignMachine, Provider, VmInfo, VmStatus } from '../../../providers/provider.ts'
import type { Config } from '../../config/config.ts'
import { homeId as ownId, registryFile } from '../../config/home.ts'
import { damageOf } from '../../damage.ts'
import { type ProviderName, type Ticket, timestamp } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import { writeFileAtomic } from '../../files.ts'
import { ifUnlocked, requireNoRunner } from '../../registry/lock.ts'
import { openRunnerContext, type RunnerContext } from '../context.ts'
import { isForeign } from '../detection.ts'
import { hasHostKey, hasLoginKey } from '../ssh/keys.ts'
import { adoptMachine } from './adopt.ts'
import type { Unread } from './look.ts'

/** A machine of the home that the registry does not have. */
type RebuiltMachine = {
  ticket: Ticket | null
  vmId: string
  provider: ProviderName
  status: VmStatus
  /** Whether this home has its host key and the key to log in with. */
  canLogIn: boolean
  /** Why it gets no row, as a sentence without a full stop; null when it gets one. */
  kept: string | null
}
export type RebuildPlan = {
  /** The id that the machines' marks hold. */
  homeId: string
  machines: RebuiltMachine[]
  /** Hypervisors that could not be asked: run it again when they answer. */
  unread: Unread[]
  /** What carrying it out does besides, as phrases without a subject or full stop: `move the damaged registry.db away`. */
  would: string[]
}
/** `homeId`: that of a lost home, which this home becomes; null: this home's own. */
export type RebuildRequest = { homeId: string | null }

const HOME_ID = /^[0-9a-f]{16}$/
/** What a hypervisor that is not on this host says, or that nobody set up here. */
const ABSENT = ['provider-missing', 'unsupported', 'not-configured']

// ── The old registry ──

/** `none`: there is no file, and no backup of one. What is missing beside its backups is damaged. */
const stateOfRegistry = (home: string): 'none' | 'sound' | 'damaged' => {
  const path = registryFile(home)
  if (damageOf(path) !== null) return 'damaged'
  return existsSync(path) ? 'sound' : 'none'
}

/** Its log and index go along: with them, somebody may still read it. */
const moveAway = (path: string, now: Date): void => {
  const to = `${path}.damaged-${timestamp(now)}`
  for (const suffix of ['-wal', '-shm', ''])
    if (existsSync(`${path}${suffix}`)) renameSync(`${path}${suffix}`, `${to}${suffix}`)
}

/** A machine without a home's id in its mark is ours when this home pinned its host key. */
const openContext = (config: Config, { homeId }: RebuildRequest, file: string): RunnerContext =>
  openRunnerContext(config, {
    registryFile: file,
    knows: vmId => hasHostKey(config.home, vmId),
    ...(homeId === null ? {} : { homeId }),
  })

/**
 * Runs `work` with the registry, or with a new one beside it when it is damaged or missing; `place` puts that one in its place
 * afterwards.
 */
const withRegistry = async <T>(
  config: Config,
  request: RebuildRequest,
  work: (context: RunnerContext) => Promise<T>,
  place: (file: string) => void = () => {},
): Promise<T> => {
  if (stateOfRegistry(config.home) === 'sound') {
    const context = openContext(config, request, registryFile(config.home))
    return work(context).finally(context.close)
  }
  mkdirSync(config.home, { recursive: true, mode: 0o700 })
  const folder = mkdtempSync(join(config.home, 'rebuild-'))
  const file = join(folder, 'registry.db')
  try {
    const context = openContext(config, request, file)
    const result = await work(context).finally(context.close)
    place(file)
    return result
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
/** For what reads. Works with a registry that is damaged or missing, and leaves nothing behind. */
export const readRegistry = <T>(config: Config, work: (context: RunnerContext) => Promise<T>): Promise<T> =>
  withRegistry(config, { homeId: null }, work)

// ── The machines ──

type Read = { provider: Provider; vms: readonly VmInfo[] }

/** Every hypervisor of this platform is asked: the registry does not say which ones have machines. */
const readAll = async (context: RunnerContext): Promise<{ read: Read[]; unread: Unread[] }> => {
  const read: Read[] = []
  const unread: Unread[] = []
  const { config, platform } = context
  for (const row of providers) {
    const { name, open } = row
    if (open === null || (isForeign(row, platform) && config.provider !== name)) continue
    try {
      const provider = await context.provider(name)
      read.push({ provider, vms: await provider.listVms() })
    } catch (error) {
      const { kind, message } = failureOf(error, `listing the machines of ${name}`)
      if (!ABSENT.includes(kind) || config.provider === name) unread.push({ provider: name, message })
    }
  }
  return { read, unread }
}

const machinesOf = ({ registry, home }: RunnerContext, read: readonly Read[]): RebuiltMachine[] => {
  const holders = new Map(registry.environments().map(({ ticket, vmId }) => [ticket, vmId]))
  return read.flatMap(({ provider, vms }) =>
    vms
      .filter(({ vmId }) => !registry.knowsMachine(vmId))
      .map(({ vmId, ticket, status }) => {
        const holder = ticket === null ? null : (holders.get(ticket) ?? null)
        if (ticket !== null && holder === null) holders.set(ticket, vmId)
        const canLogIn = provider.runInGuest !== undefined || (hasLoginKey(home) && hasHostKey(home, vmId))
        const kept = ticket === null ? 'it has no ticket' : holder === null ? null : `${ticket} has ${holder}`
        return { ticket, vmId, provider: provider.name, status, canLogIn, kept }
      }),
  )
}

// ── The home ──

/** A home has one id: machines of its own would become another home's. */
const requireEmpty = async (config: Config, homeId: string): Promise<void> => {
  if (!HOME_ID.test(homeId))
    throw fail(
      'usage',
      `"${homeId}" is not the id of a home`,
      'It has 16 hex digits: agent-swarm doctor lists those of other homes.',
    )
  if (homeId === (await ownId(config.home))) return
  const { own, unread } = await readRegistry(config, async context => {
    const { read, unread } = await readAll(context)
    const all = [...context.registry.environments(), ...read.flatMap(({ vms }) => vms)]
    return { own: [...new Set(all.map(({ vmId }) => vmId))], unread }
  })
  if (unread[0] !== undefined)
    throw fail(
      'refused',
      `taking over the home ${homeId}: ${config.home} may have machines of its own, since ${unread[0].message}`,
      'Try again when it answers, or use an empty home: AGENT_SWARM_HOME=/a/new/folder agent-swarm doctor …',
    )
  if (own.length > 0)
    throw fail(
      'refused',
      `taking over the home ${homeId}: ${config.home} has machines of its own (${own.slice(0, 3).join(', ')})`,
      'Use an empty one: AGENT_SWARM_HOME=/a/new/folder agent-swarm doctor …',
    )
}

const wouldMove = (home: string): string[] => {
  if (stateOfRegistry(home) !== 'damaged') return []
  return existsSync(registryFile(home)) ? ['move the damaged registry.db away'] : ['make the missing registry.db']
}

const planIn = async (context: RunnerContext, { homeId }: RebuildRequest): Promise<RebuildPlan> => {
  const { read, unread } = await readAll(context)
  const own = await ownId(context.home)
  return {
    homeId: homeId ?? own,
    machines: machinesOf(context, read),
    unread,
    would: [
      ...wouldMove(context.home),
      ...(homeId === null || homeId === own ? [] : [`make ${context.home} the home ${homeId}`]),
    ],
  }
}

/** Reads, and changes nothing. */
export const planRebuild = async (config: Config, request: RebuildRequest): Promise<RebuildPlan> => {
  if (request.homeId !== null) await requireEmpty(config, request.homeId)
  return withRegistry(config, request, context => planIn(context, request))
}

/** Carries out what `planRebuild` returns now, and returns it. Idempotent. Throws `busy` while a runner of this home runs. */
export const rebuild = async (config: Config, request: RebuildRequest): Promise<RebuildPlan> => {
  requireNoRunner(config.home, 'making the registry again')
  const plan = await planRebuild(config, request)
  const path = registryFile(config.home)
  // First, so that a home that is taken over by half is not another one.
  if (request.homeId !== null) {
    mkdirSync(config.home, { recursive: true, mode: 0o700 })
    writeFileAtomic(join(config.home, 'id'), `${request.homeId}\n`)
  }
  await withRegistry(
    config,
    request,
    async context => {
      for (const { ticket, vmId, provider, status, kept } of plan.machines) {
        if (ticket === null || kept !== null) continue
        await ifUnlocked(context.home, ticket, async () => {
          if (context.registry.environment(ticket) !== null) return
          await adoptMachine(context, await context.provider(provider), { vmId, status }, ticket)
        })
      }
    },
    file => {
      moveAway(path, new Date())
      renameSync(file, path)
    },
  )
  return plan
}

// ── Other homes ──

export type OtherHome = {
  homeId: string | null
  machines: (Omit<ForeignMachine, 'homeId'> & { provider: ProviderName })[]
}

/** The homes that other machines of these hypervisors belong to. One of them may be a home that was lost. */
export const listOtherHomes = async (context: RunnerContext): Promise<OtherHome[]> => {
  const { read } = await readAll(context)
  const foreign = await Promise.all(
    read.map(async ({ provider }) =>
      ((await provider.listForeign?.()) ?? []).map(machine => ({ ...machine, provider: provider.name })),
    ),
  )
  return [...Map.groupBy(foreign.flat(), ({ homeId }) => homeId)].map(([homeId, machines]) => ({
    homeId,
    machines: machines.map(({ vmId, ticket, provider }) => ({ vmId, ticket, provider })),
  }))
}
