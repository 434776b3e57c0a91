/** `status` without a ticket: the capacity of the host, and everything on it. */
import { statfs } from 'node:fs/promises'
import { availableParallelism, freemem, hostname, loadavg, totalmem } from 'node:os'
import type { Capacity, VmUsage } from '../../../providers/provider.ts'
import { fitting, type Room, roomOf } from '../../room.ts'
import { type Listing, listEnvironments, type RunnerContext } from '../../runner/context.ts'
import { poolStandings, standingText } from '../../runner/pool/standing.ts'
import { roomNow, TAKES_ROOM } from '../../runner/room.ts'
import { runningOperations, waitingActions } from '../../runner/standing.ts'
import { counted } from '../../words.ts'
import type { Output } from '../json.ts'
import { stripControls } from '../terminal/output.ts'
import { paragraph, table } from '../terminal/table.ts'
import { priceCell, pricesLine, requesterName, size, statusCell, when } from '../terminal/text.ts'
import { busyBetween, type Reading, readAgain, readingOf } from './processors.ts'
import { stepWord } from './project.ts'
import { listRescued, phaseText, rescuedSection, section, type View } from './shared.ts'

export type HostStatus = Extract<Output<'status'>, { host: string }>
type Listed = Listing['environments'][number]

/** Of the hypervisor that would get the next machine, or of this host when no hypervisor answers. */
const readCapacity = async (
  context: RunnerContext,
): Promise<{ capacity: Capacity; provider: string | null; isElsewhere: boolean; pooled: Map<string, VmUsage> }> => {
  const { provider: name } = context.config
  // A configured provider is asked without checking first: its answer shows whether it works.
  const provider = await (name === null ? context.chosenProvider() : context.provider(name)).catch(() => null)
  const capacity = await provider?.capacity?.().catch(() => null)
  if (provider !== null && capacity != null) {
    const hasPooled = context.registry.poolMachines().length > 0
    const pooled = (hasPooled ? await provider.usage?.().catch(() => null) : null) ?? new Map()
    return { capacity, provider: provider.name, isElsewhere: false, pooled }
  }
  const disk = await statfs(context.home)
  return {
    capacity: {
      cpus: availableParallelism(),
      memoryBytes: { total: totalmem(), available: freemem() },
      diskBytes: { total: disk.blocks * disk.bsize, available: disk.bavail * disk.bsize },
    },
    provider: null,
    // Machines of a cloud take nothing of this host.
    isElsewhere: provider !== null && provider.capacity === undefined && provider.ownSystem !== true,
    pooled: new Map(),
  }
}

const MIB = 1024 ** 2
const sum = (environments: readonly Listed[], value: (usage: VmUsage) => number | null) =>
  environments.reduce((total, { usage }) => total + (usage === null ? 0 : (value(usage) ?? 0)), 0)

/**
 * By the rule that decides about creates and starts; with what is reserved for machines that are about to run. What is held counts
 * ready machines; what is free does not, since they give way.
 */
const readRoom = (
  context: RunnerContext,
  environments: readonly Listed[],
  { capacity, provider, pooled }: Awaited<ReturnType<typeof readCapacity>>,
): Room => {
  if (provider !== null) {
    const own = environments.flatMap(each => (each.usage === null ? [] : [[each.vmId, each.usage] as const]))
    const reading = { capacity, usage: new Map([...pooled, ...own]) }
    const { held } = roomNow(context, provider, reading)
    return { ...roomNow(context, provider, reading, { emptied: true }), held }
  }
  const running = environments.flatMap(({ ticket, status, usage }) =>
    usage === null || !TAKES_ROOM.includes(status)
      ? []
      : [{ ticket, cpus: usage.cpus, memoryBytes: usage.memoryBytes ?? 0, usedBytes: usage.memoryUsedBytes }],
  )
  return roomOf(capacity, running)
}

const RESOURCES = { memoryMiB: 'memory', cpus: 'cpus', diskGiB: 'disk' } as const

/** `before`: the reading of the previous page, when pages follow each other. */
export const hostStatus = async (
  context: RunnerContext,
  before: Reading | null,
): Promise<{ reading: Reading; status: HostStatus }> => {
  const [{ environments, unread }, host, underWay, rescued] = await Promise.all([
    listEnvironments(context, { usage: true }),
    readCapacity(context),
    runningOperations(context),
    listRescued(context),
  ])
  const first = readingOf(environments)
  const reading = before !== null || first.seconds.size === 0 ? first : await readAgain(context, environments)
  const busy = busyBetween(before ?? first, reading)
  const { capacity } = host
  const { free, held } = readRoom(context, environments, host)
  const { machines, endsFirst } = fitting(context.config.size, free)
  const running = environments.filter(({ status }) => TAKES_ROOM.includes(status))
  const memory = {
    ...capacity.memoryBytes,
    allocated: held.memoryMiB * MIB,
    used: sum(running, usage => usage.memoryUsedBytes),
  }
  return {
    reading,
    status: {
      host: hostname(),
      load: Math.round((loadavg()[0] ?? 0) * 100) / 100,
      cpus: { total: capacity.cpus, allocated: held.cpus },
      memoryBytes: memory,
      diskBytes: { ...capacity.diskBytes, used: sum(environments, usage => usage.diskBytes) },
      fits: host.isElsewhere
        ? null
        : { environments: machines, endsFirst: RESOURCES[endsFirst], size: context.config.size },
      environments: environments.map(({ ticket, provider, vmId, status, usage, price, project, interruption }) => ({
        ...{ ticket, provider, vmId, status, usage },
        ...(price === undefined ? {} : { price }),
        ...(project === undefined ? {} : { project }),
        ...(interruption === undefined ? {} : { interruption }),
        cpusBusy: busy(vmId),
      })),
      pools: poolStandings(context),
      underWay,
      waiting: waitingActions(context),
      rescued,
      unread,
    },
  }
}

// ── As text ──

const capacityTable = (status: HostStatus, { terminal }: View): string => {
  const { cpus, memoryBytes: memory, diskBytes: disk, environments } = status
  const busy = environments.reduce((total, { cpusBusy }) => total + (cpusBusy ?? 0), 0)
  return table(
    [status.host, 'CPUS', 'MEMORY', 'DISK'],
    [
      ['total', String(cpus.total), size(memory.total), size(disk.total)],
      ['allocated', String(cpus.allocated), size(memory.allocated), '-'],
      ['in use', busy.toFixed(1), size(memory.used), size(disk.used)],
      ['available', `load ${status.load}`, size(memory.available), size(disk.available)],
    ],
    terminal,
  )
}

const fitsLine = ({ environments, endsFirst, size: each }: NonNullable<HostStatus['fits']>): string =>
  `Room for ${environments === 0 ? 'no' : environments} more ${environments === 1 ? 'machine' : 'machines'} of ${counted(each.cpus, 'CPU')}, ${size(each.memoryMiB * MIB)} of memory and ${each.diskGiB} GiB of disk; ${endsFirst === 'cpus' ? 'virtual CPUs run' : `${endsFirst} runs`} out first.`

const machinesTable = ({ environments }: HostStatus, { terminal }: View): string => {
  const hasPrices = environments.some(({ price }) => price !== undefined)
  const made = table(
    [
      ...[{ title: 'TICKET', whole: true as const }, 'STATE', 'CPUS', 'BUSY', 'MEMORY', 'USED', 'DISK'],
      ...(hasPrices ? ['PRICE'] : []),
    ],
    environments.map(({ ticket, status, usage, price, cpusBusy, interruption }) => [
      ticket,
      statusCell({ status, paused: null, interruption }),
      usage === null ? '-' : String(usage.cpus),
      cpusBusy === null ? '-' : cpusBusy.toFixed(1),
      size(usage?.memoryBytes ?? null),
      size(usage?.memoryUsedBytes ?? null),
      size(usage?.diskBytes ?? null),
      ...(hasPrices ? [priceCell(price)] : []),
    ]),
    terminal,
  )
  return [made, ...pricesLine(environments, terminal)].join('\n')
}

/** The projects of machines that have one, with what is wrong with each. */
const projectTable = (environments: HostStatus['environments'], { terminal }: View): string =>
  table(
    [{ title: 'TICKET', whole: true }, 'REPOSITORY', 'BRANCH', 'SETUP', 'START'],
    environments.flatMap(({ ticket, project }) =>
      project === undefined
        ? []
        : [
            [
              ticket,
              project.repo,
              stripControls(project.branch ?? '-'),
              stepWord(project.setup),
              stepWord(project.start),
            ],
          ],
    ),
    terminal,
  )

/** A line for each pool, and one for what is wrong with it. */
const poolLines = ({ pools }: HostStatus, home: string): string[] =>
  pools.flatMap(pool => [
    stripControls(standingText({ home }, pool).text),
    ...(pool.problem === null ? [] : [`  ${stripControls(pool.problem)}`]),
  ])

const runningTable = ({ underWay }: HostStatus, { now, terminal }: View): string =>
  table(
    [{ title: 'TICKET', whole: true }, 'OPERATION', 'BY', 'STARTED', 'PHASE'],
    underWay.map(operation => [
      operation.ticket,
      operation.kind,
      requesterName(operation.by),
      when(operation.startedAt, now, terminal),
      phaseText(operation, now),
    ]),
    terminal,
  )

const waitingTable = ({ waiting }: HostStatus, { now, terminal }: View): string =>
  table(
    [{ title: 'TICKET', whole: true }, 'OPERATION', 'BY', 'SINCE', 'WHY'],
    waiting.map(({ ticket, kind, by, since, why }) => [
      ticket,
      kind,
      requesterName(by),
      when(since, now, terminal),
      why,
    ]),
    terminal,
  )

export const hostPage = (status: HostStatus, home: string, view: View): string =>
  [
    ...status.unread.map(({ message }) => message),
    capacityTable(status, view),
    '',
    paragraph(
      status.fits === null ? 'New machines take nothing of this host: they are elsewhere.' : fitsLine(status.fits),
      view.terminal,
    ),
    ...(status.environments.length === 0 ? ['No machines.'] : section('MACHINES', machinesTable(status, view))),
    ...(status.environments.every(({ project }) => project === undefined)
      ? []
      : section('PROJECTS', projectTable(status.environments, view))),
    ...(status.pools.length === 0 ? [] : section('READY', poolLines(status, home).join('\n'))),
    ...(status.underWay.length === 0 ? [] : section('IN PROGRESS', runningTable(status, view))),
    ...(status.waiting.length === 0 ? [] : section('WAITING', waitingTable(status, view))),
    ...rescuedSection(status.rescued, home, view),
  ].join('\n')
