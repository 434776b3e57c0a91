/** Tries a provider's promises on this host, with machines of its own, which are removed whatever happens. */
import { randomBytes } from 'node:crypto'
import type { Provider } from '../../providers/provider.ts'
import { commandLine } from '../command-line.ts'
import type { Config } from '../config/config.ts'
import { homeId } from '../config/home.ts'
import type { ProviderName } from '../domain.ts'
import { failureOf } from '../errors.ts'
import type { OnCommand } from '../exec.ts'
import { openRunnerContext, type RunnerContext } from '../runner/context.ts'
import { requireBaseImage } from '../runner/plan.ts'
import { openTemporaryMachines, removeDeadMachines } from '../runner/temporary-machines.ts'
import type { Requester } from '../schema/action.ts'
import { type Bench, openBench } from './bench.ts'
import { benchTools, machineCount } from './host-bench.ts'
import { ownerOf } from './owner.ts'
import { promises } from './promises.ts'
import { endingWith, type Limits, type OnPromise, type PromiseResult, runPromises } from './run.ts'
import { type Tried, writeTranscript } from './transcript.ts'

export type SelftestOptions = {
  by: Requester
  version: string
  /** A provider's row of the table. */
  describe(provider: ProviderName): Bench['description']
  /** Ends it; its machines are removed. */
  signal: AbortSignal
  /** Before the first machine. */
  onBegin(plan: Plan): void
  onPromise: OnPromise
  /** Each outside command, as a line. */
  onCommand(line: string): void
}
/** `baseImage` null: its machines need none. */
export type Plan = { provider: ProviderName; machines: number; size: Config['size']; baseImage: string | null }
export type Selftest = { provider: ProviderName; results: readonly PromiseResult[]; transcript: string }

const DIAGNOSE_DEADLINE_MS = 120_000
/** A guest whose processors are emulated takes several times as long to boot. */
const SLOW_FACTOR = 3
/** Boots of one promise: it starts a machine twice at most, or resumes it, and does some more. */
const BOOTS = 3

/** What the provider says of its tools and of this host. It must not keep the rest from running. */
const hostLines = async ({ diagnose, name }: Provider, signal: AbortSignal): Promise<string[]> => {
  if (diagnose === undefined) return [`(${name} has no diagnose)`]
  try {
    const findings = await diagnose(AbortSignal.any([signal, AbortSignal.timeout(DIAGNOSE_DEADLINE_MS)]))
    return findings.map(({ status, text }) => `${status.padEnd(8)} ${text}`)
  } catch (error) {
    return [failureOf(error, 'asking the provider').message]
  }
}

/** The lines of outside commands go to the promise that is being tried. */
const openRecorder = ({ onPromise, onCommand }: Pick<SelftestOptions, 'onPromise' | 'onCommand'>) => {
  const tried: Tried[] = []
  let commands: string[] = []
  return {
    tried,
    onCommand: (command => {
      const line = commandLine(command)
      commands.push(line)
      onCommand(line)
    }) satisfies OnCommand,
    onPromise: {
      begin: name => {
        commands = []
        onPromise.begin(name)
      },
      end: result => {
        tried.push({ ...result, commands })
        onPromise.end(result)
      },
    } satisfies OnPromise,
  }
}

const REMOVED = 'its own machines are removed at the end'

/** The last promise is the selftest's own. It is kept after a Ctrl-C, too. */
const removeMachines = async (remove: () => Promise<void>, { begin, end }: OnPromise): Promise<void> => {
  begin(REMOVED)
  const start = performance.now()
  let why: string | null = null
  try {
    await remove()
  } catch (error) {
    why = `${failureOf(error, 'removing a machine').message}\nIt is tried again by the next command that changes something: agent-swarm reconcile`
  }
  const milliseconds = Math.round(performance.now() - start)
  end({ name: REMOVED, result: why === null ? 'ok' : 'failed', milliseconds, why })
}

type Opened = { context: RunnerContext; other: RunnerContext; limits: Pick<Limits, 'signal' | 'abort'> }

const tryPromises = async (
  { context, other, limits }: Opened,
  { provider, isSlow }: { provider: Provider; isSlow: boolean },
  { tried, onPromise }: ReturnType<typeof openRecorder>,
  { by, describe, onBegin }: Pick<SelftestOptions, 'by' | 'describe' | 'onBegin'>,
): Promise<Plan> => {
  const { config } = context
  const { signal } = limits
  const count = await machineCount(context, provider, isSlow)
  const baseImage = provider.listBaseImages === undefined ? null : config.baseImage
  const plan = { provider: provider.name, machines: count, size: config.size, baseImage }
  onBegin(plan)
  const otherHome = await other.provider(provider.name)
  const machines = openTemporaryMachines(context, provider, { purpose: 'selftest', kind: 'selftest', by })
  try {
    const tools = benchTools(context, provider, otherHome, { newMachine: machines.newMachine, signal })
    const bench = openBench(describe(provider.name), endingWith(signal, tools), count)
    const deadlineMs = (BOOTS * config.bootMinutes + 10) * (isSlow ? SLOW_FACTOR : 1) * 60_000
    await runPromises(promises, bench, onPromise, { ...limits, deadlineMs })
  } finally {
    const isDone = tried.every(({ result }) => result !== 'failed')
    await removeMachines(() => machines.end(isDone ? 'done' : 'failed'), onPromise)
  }
  return plan
}

const machinesLine = ({ machines, size, baseImage }: Plan): string =>
  `${machines} of ${size.cpus} CPUs, ${size.memoryMiB} MiB of memory, ${size.diskGiB} GiB of disk${baseImage === null ? '' : `, from the base image ${baseImage}`}`

/** Fails before the first machine when the provider does not work here, the base image is missing, or the host is full. */
export const selftest = async (config: Config, options: SelftestOptions): Promise<Selftest> => {
  const ending = new AbortController()
  const signal = AbortSignal.any([options.signal, ending.signal])
  const recorder = openRecorder(options)
  const tools = { interrupt: signal, onCommand: recorder.onCommand }
  const context = openRunnerContext(config, tools)
  const stranger = { registryFile: ':memory:', homeId: randomBytes(8).toString('hex'), knows: () => false }
  const other = openRunnerContext(config, { ...tools, ...stranger })
  try {
    const provider = await context.chosenProvider()
    await requireBaseImage(provider, config.baseImage)
    await removeDeadMachines(context)
    const at = context.clock()
    const host = await hostLines(provider, signal)
    const limits = { signal, abort: (reason: Error) => ending.abort(reason) }
    const isEmulated = (await provider.emulated?.().catch(() => false)) === true
    const plan = await tryPromises({ context, other, limits }, { provider, isSlow: isEmulated }, recorder, options)
    const { tried } = recorder
    const written = {
      ...{ version: options.version, at, provider: provider.name, isEmulated, host, tried },
      machines: machinesLine(plan),
    }
    const owner = ownerOf(config.home, await homeId(config.home))
    const transcript = writeTranscript(owner, written, randomBytes(2).toString('hex'))
    return { provider: provider.name, results: tried.map(({ commands: _, ...result }) => result), transcript }
  } finally {
    other.close()
    context.close()
  }
}
