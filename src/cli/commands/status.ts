import { existsSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { availableParallelism, freemem, hostname, loadavg, totalmem } from 'node:os'
import { join } from 'node:path'
import type { Capacity, VmUsage } from '../../../providers/provider.ts'
import type { ProviderName, Ticket } from '../../domain.ts'
import {
  type Listing,
  listEnvironments,
  type RunnerContext,
  requireEnvironment,
  resolveTicket,
} from '../../runner/context.ts'
import type { Rescued } from '../../runner/rescue/list.ts'
import { describeUnsavedWork } from '../../runner/rescue/unsaved-work.ts'
import { runningOperations, waitingActions } from '../../runner/standing.ts'
import type { Progress } from '../../schema/action.ts'
import {
  address,
  age,
  asked,
  columns,
  type Invocation,
  printJson,
  type RunCommand,
  size,
  stateCell,
  stripControls,
  ticketArgument,
} from '../terminal/output.ts'
import { draw } from '../terminal/redraw.ts'
import { withRunnerContext } from '../with-context.ts'

const LAST_OPERATIONS = 10
/** Of rescues, as text: the newest. */
const RESCUES_SHOWN = 10
/** Between two looks at processor time that say how busy a machine is. */
const APART_MS = 100

type Listed = Listing['environments'][number]

// ── How busy machines are: processor time between two looks ──

type Look = { at: number; seconds: Map<string, number> }
const lookOf = (environments: readonly { vmId: string; usage: VmUsage | null }[]): Look => ({
  at: performance.now(),
  seconds: new Map(
    environments.flatMap(({ vmId, usage }) => (usage?.cpuSeconds == null ? [] : [[vmId, usage.cpuSeconds] as const])),
  ),
})
/** Processors in use, 1.5 for one and a half; null where it cannot be said. */
const busyBetween = (before: Look, after: Look) => (vmId: string) => {
  const [from, to] = [before.seconds.get(vmId), after.seconds.get(vmId)]
  const apart = (after.at - before.at) / 1000
  return from === undefined || to === undefined || to < from ? null : Math.round(((to - from) / apart) * 100) / 100
}
const secondLook = async (world: RunnerContext, environments: readonly Listed[], first: Look): Promise<Look> => {
  const names = [...new Set(environments.filter(one => one.usage?.cpuSeconds != null).map(one => one.provider))]
  if (names.length === 0) return first
  const answers = await Promise.all(
    names.map(async name => (await (await world.provider(name)).usage?.()) ?? new Map()),
  )
  return lookOf(answers.flatMap(usages => [...usages].map(([vmId, usage]) => ({ vmId, usage }))))
}

// ── What was saved before its machine was deleted ──

const rescued = async (world: RunnerContext): Promise<Rescued[]> =>
  existsSync(join(world.home, 'rescued')) ? (await import('../../runner/rescue/list.ts')).listRescued(world.home) : []

const rescuedTable = (all: readonly Rescued[], now: Date): string[] =>
  all.length === 0
    ? []
    : [
        ...heading(
          'RESCUED',
          columns([
            ['TICKET', 'SAVED', 'SIZE', 'REPOSITORIES', 'FOLDER'],
            ...all
              .slice(0, RESCUES_SHOWN)
              .map(one => [
                one.ticket,
                since(one.savedAt, now),
                size(one.bytes),
                stripControls(one.repositories?.join(', ') ?? 'rescued.json cannot be read'),
                one.folder,
              ]),
          ]),
        ),
        ...(all.length > RESCUES_SHOWN ? [`and ${all.length - RESCUES_SHOWN} older ones beside them`] : []),
        'rescued.json in each folder has the commands that bring the work back.',
      ]

// ── The host ──

const openNamed = async (world: RunnerContext, name: ProviderName) => world.provider(name)

/** Of the hypervisor that the next machine would be made on, or of this computer where none can tell. */
const capacityOf = async (world: RunnerContext): Promise<Capacity> => {
  const { provider: name } = world.config
  // One that was named is asked at once: whether it can be used, its answer tells.
  const provider = await (name === null ? world.chosenProvider() : openNamed(world, name)).catch(() => null)
  const told = await provider?.capacity?.().catch(() => null)
  if (told != null) return told
  const disk = await statfs(world.home)
  return {
    cpus: availableParallelism(),
    memoryBytes: { total: totalmem(), available: freemem() },
    diskBytes: { total: disk.blocks * disk.bsize, available: disk.bavail * disk.bsize },
  }
}

const sum = (environments: readonly Listed[], of: (usage: VmUsage) => number | null) =>
  environments.reduce((all, { usage }) => all + (usage === null ? 0 : (of(usage) ?? 0)), 0)

/** Looks at everything once. `before` is the last look of a page that is drawn again and again. */
const hostFacts = async (world: RunnerContext, before: Look | null) => {
  const [{ environments, unread }, capacity, under, saved] = await Promise.all([
    listEnvironments(world, { usage: true }),
    capacityOf(world),
    runningOperations(world),
    rescued(world),
  ])
  const look = lookOf(environments)
  const since = before ?? look
  const now = before !== null || look.seconds.size === 0 ? look : await secondLook(world, environments, look)
  const busy = now.at - since.at < APART_MS && before === null ? () => null : busyBetween(since, now)
  const running = environments.filter(one => one.status === 'running')
  const memory = {
    ...capacity.memoryBytes,
    allocated: sum(running, usage => usage.memoryBytes),
    used: sum(running, usage => usage.memoryUsedBytes),
  }
  const wanted = world.config.size
  // What running machines may still take is spoken for.
  const free = memory.available - Math.max(0, memory.allocated - memory.used)
  const fit = {
    memory: Math.max(0, Math.floor(free / (wanted.memoryMiB * 1024 ** 2))),
    disk: Math.max(0, Math.floor(capacity.diskBytes.available / (wanted.diskGiB * 1024 ** 3))),
  }
  return {
    look: now,
    facts: {
      host: hostname(),
      load: Math.round((loadavg()[0] ?? 0) * 100) / 100,
      cpus: { total: capacity.cpus, allocated: sum(running, usage => usage.cpus) },
      memoryBytes: memory,
      diskBytes: { ...capacity.diskBytes, used: sum(environments, usage => usage.diskBytes) },
      fits: {
        environments: Math.min(fit.memory, fit.disk),
        endsFirst: fit.memory <= fit.disk ? ('memory' as const) : ('disk' as const),
        size: wanted,
      },
      environments: environments.map(({ ticket, provider, vmId, status, usage }) => ({
        ...{ ticket, provider, vmId, status, usage },
        cpusBusy: busy(vmId),
      })),
      underWay: under,
      waiting: waitingActions(world),
      rescued: saved,
      unread,
    },
  }
}
type HostFacts = Awaited<ReturnType<typeof hostFacts>>['facts']

const since = (at: string, now: Date) => `${age(at, now)} ago`
const heading = (title: string, table: string) => ['', title, table]

const hostPage = (facts: HostFacts, now: Date): string => {
  const { cpus, memoryBytes: memory, diskBytes: disk, fits, environments } = facts
  const busy = environments.reduce((all, one) => all + (one.cpusBusy ?? 0), 0)
  return [
    ...facts.unread.map(one => one.message),
    columns([
      [facts.host, 'CPUS', 'MEMORY', 'DISK'],
      ['in all', String(cpus.total), size(memory.total), size(disk.total)],
      ['allocated', String(cpus.allocated), size(memory.allocated), '-'],
      ['really used', busy.toFixed(1), size(memory.used), size(disk.used)],
      ['available', `load ${facts.load}`, size(memory.available), size(disk.available)],
    ]),
    '',
    `${fits.environments === 0 ? 'No' : fits.environments} more ${fits.environments === 1 ? 'environment' : 'environments'} of ${fits.size.cpus} CPUs, ${size(fits.size.memoryMiB * 1024 ** 2)} of memory and ${fits.size.diskGiB} GiB of disk would fit; ${fits.endsFirst} ends first.`,
    ...(environments.length === 0
      ? ['There are no environments.']
      : heading(
          'ENVIRONMENTS',
          columns([
            ['TICKET', 'STATE', 'CPUS', 'BUSY', 'MEMORY', 'USED', 'DISK'],
            ...environments.map(({ ticket, status, usage, cpusBusy }) => [
              ticket,
              stateCell(status),
              usage === null ? '-' : String(usage.cpus),
              cpusBusy === null ? '-' : cpusBusy.toFixed(1),
              size(usage?.memoryBytes ?? null),
              size(usage?.memoryUsedBytes ?? null),
              size(usage?.diskBytes ?? null),
            ]),
          ]),
        )),
    ...(facts.underWay.length === 0
      ? []
      : heading(
          'UNDER WAY',
          columns([
            ['TICKET', 'OPERATION', 'BY', 'SINCE', 'AT'],
            ...facts.underWay.map(one => [
              one.ticket,
              one.kind,
              asked(one.by),
              since(one.startedAt, now),
              atPhase(one, now),
            ]),
          ]),
        )),
    ...(facts.waiting.length === 0
      ? []
      : heading(
          'WAITING',
          columns([
            ['TICKET', 'OPERATION', 'BY', 'SINCE', 'WHY'],
            ...facts.waiting.map(one => [one.ticket, one.kind, asked(one.by), since(one.since, now), one.why]),
          ]),
        )),
    ...rescuedTable(facts.rescued, now),
  ].join('\n')
}

const atPhase = ({ phase, interrupted }: { phase: Progress | null; interrupted: boolean }, now: Date): string =>
  interrupted
    ? 'broken off: the next command on it, or the runner, settles it'
    : phase === null
      ? 'beginning'
      : `${phase.phase}, for ${age(phase.at, now)}`

// ── One environment ──

const ticketFacts = async (world: RunnerContext, ticket: Ticket) => {
  const { environments, unread } = await listEnvironments(world, { usage: true })
  const environment = environments.find(one => one.ticket === ticket) ?? null
  const operations = world.registry.operations(ticket, LAST_OPERATIONS)
  // Nothing is known of it.
  const row = operations.length === 0 ? requireEnvironment(world, ticket) : world.registry.environment(ticket)
  return {
    unread,
    facts: {
      ticket,
      environment,
      desired: row?.desired ?? null,
      desiredBy: row?.desiredBy ?? null,
      underWay: await runningOperations(world, ticket),
      waiting: waitingActions(world).filter(one => one.ticket === ticket),
      rescued: (await rescued(world)).filter(one => one.ticket === ticket),
      operations,
    },
  }
}
type TicketFacts = Awaited<ReturnType<typeof ticketFacts>>['facts']

/** `disk 0.2 s, start 0.5 s`: each phase with its time. */
const phaseTimes = (phases: readonly Progress[], end: string): string =>
  phases
    .map(({ phase, at }, n) => {
      const until = phases[n + 1]?.at ?? end
      return `${phase} ${((Date.parse(until) - Date.parse(at)) / 1000).toFixed(1)} s`
    })
    .join(', ')

const ticketPage = (
  { ticket, environment, operations, underWay: under, waiting: waits, rescued: saved }: TicketFacts,
  now: Date,
): string => {
  const risk = environment?.unsavedWork ?? null
  const usage = environment?.usage ?? null
  return [
    environment === null
      ? `${ticket} has no environment.`
      : columns([
          ['ticket', ticket],
          ['state', stateCell(environment.status)],
          [
            'provider',
            environment.provider === 'synthetic' ? 'synthetic (a directory, no machine)' : environment.provider,
          ],
          ['machine', environment.vmId],
          ['address', address(environment)],
          ...(environment.ssh === null ? [] : [['enter it', `agent-swarm ssh ${ticket}`]]),
          ['base image', environment.baseImage],
          ['made', `${since(environment.createdAt, now)} by ${asked(environment.createdBy)}`],
          ...(usage === null
            ? []
            : [
                ['processors', String(usage.cpus)],
                ['memory', `may have ${size(usage.memoryBytes)}, takes ${size(usage.memoryUsedBytes)} of the host`],
                ['disk', size(usage.diskBytes)],
              ]),
          ...(risk === null || (risk.known && risk.repositories.length === 0)
            ? []
            : [['work at risk', describeUnsavedWork(risk)]]),
        ]),
    ...(environment === null || environment.checkpoints.length === 0
      ? []
      : heading(
          'CHECKPOINTS',
          columns([
            ['NAME', 'AGE', 'WHY', 'SIZE'],
            ...environment.checkpoints.map(one => [one.name, age(one.createdAt, now), one.why, size(one.sizeBytes)]),
          ]),
        )),
    ...under.map(one => `\n${one.kind} by ${asked(one.by)} is under way: ${atPhase(one, now)}.`),
    ...waits.map(one => `\n${one.kind} by ${asked(one.by)} waits since ${since(one.since, now)}: ${one.why}.`),
    ...rescuedTable(saved, now),
    ...(operations.length === 0
      ? []
      : heading(
          'OPERATIONS',
          columns([
            ['AGO', 'OPERATION', 'BY', 'ENDED'],
            ...operations.map(one => [
              age(one.startedAt, now),
              [one.kind, one.detail?.name, one.detail?.force === true ? '--force' : undefined]
                .filter(Boolean)
                .join(' '),
              asked(one.by),
              one.outcome?.result === 'failed'
                ? `failed: ${one.outcome.failure.message.split('\n')[0]}`
                : one.outcome?.result === 'skipped'
                  ? `skipped: ${one.outcome.reason}`
                  : one.endedAt === null
                    ? 'not yet'
                    : `${one.result}${one.phases.length === 0 ? '' : `: ${phaseTimes(one.phases, one.endedAt)}`}`,
            ]),
          ]),
        )),
  ].join('\n')
}

export const run: RunCommand = invocation =>
  withRunnerContext(invocation, async world => {
    const [word] = invocation.words
    return word === undefined ? host(world, invocation) : one(world, invocation, resolveTicket(world, ticketArgument(word)))
  })

const host = async (world: RunnerContext, invocation: Invocation): Promise<number> => {
  if (invocation.json && invocation.flags.watch !== true) {
    printJson<'status'>((await hostFacts(world, null)).facts)
    return 0
  }
  let before: Look | null = null
  await draw(invocation, async () => {
    const { look, facts } = await hostFacts(world, before)
    before = look
    return hostPage(facts, world.clock())
  })
  return 0
}

const one = async (world: RunnerContext, invocation: Invocation, ticket: Ticket): Promise<number> => {
  if (invocation.json && invocation.flags.watch !== true) {
    printJson<'status'>((await ticketFacts(world, ticket)).facts)
    return 0
  }
  await draw(invocation, async () => {
    const { unread, facts } = await ticketFacts(world, ticket)
    const stale = unread.map(({ message }) => `${message}\nWhat follows is as it was known last.\n`)
    return [...stale, ticketPage(facts, world.clock())].join('\n')
  })
  return 0
}
