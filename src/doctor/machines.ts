/** The checks of the hypervisors: those that this home uses are diagnosed; of the others, one line says that they are not used. */
import { ANY_FILE, initBase } from '../../providers/no-such-image.ts'
import type { Provider } from '../../providers/provider.ts'
import { type Finding, failed, hasError, ok, problem, warning } from '../check.ts'
import type { Config } from '../config/config.ts'
import { type ProviderName, poolName } from '../domain.ts'
import { failureOf } from '../errors.ts'
import { amountOf, lackOf, needOf } from '../room.ts'
import type { RunnerContext } from '../runner/context.ts'
import { detectedProviders } from '../runner/detection.ts'
import { requireImage, requirePool } from '../runner/pool/pools.ts'
import { poolStandings, standingText } from '../runner/pool/standing.ts'
import { readRegistry } from '../runner/reconciler/rebuild.ts'
import { readHost, roomNow } from '../runner/room.ts'
import type { PoolStanding } from '../schema/operation.ts'
import type { Pool } from '../schema/pool.ts'
import type { DoctorFinding, Row } from './rows.ts'

/** The proof that a guest boots takes long where the processors do not work: libvirt stalls for 95 s then. */
const DEADLINE_MS = 4 * 60_000

/** Whether a machine could be created now: its base image, and room for the configured size. */
const checkCreate = async (context: RunnerContext, provider: Provider): Promise<Finding[]> => {
  const { baseImage, size } = context.config
  const images = await provider.listBaseImages?.()
  if (images === undefined) return []
  if (!images.includes(baseImage))
    return [
      warning(
        `the base image ${baseImage} does not exist${images.length === 0 ? '' : ` (there are ${images.slice(0, 5).join(', ')})`}: no machine can be created from it`,
        initBase(baseImage, provider.beginning ?? ANY_FILE),
      ),
    ]
  const exists = `the base image ${baseImage} is there`
  const host = await readHost(provider)
  if (host === null) return [ok(exists)]
  const text = `${exists}, and a machine has ${size.memoryMiB} MiB of memory and up to ${size.diskGiB} GiB of disk`
  const need = needOf(size)
  const { free } = roomNow(context, provider.name, host, { emptied: true })
  const lack = lackOf(need, free)
  return [
    lack === null
      ? ok(text)
      : warning(
          `${text}: another one needs ${amountOf(lack, need[lack])}, with ${amountOf(lack, free[lack])} free`,
          'Stop a machine (agent-swarm list --status running), or ask for less: AGENT_SWARM_MEMORY_MIB',
        ),
  ]
}

const checkPool = async (
  context: RunnerContext,
  provider: Provider,
  pool: Pool | undefined,
  standing: PoolStanding,
): Promise<Finding> => {
  const { text, isStuck } = standingText(context, standing)
  if (pool === undefined) return isStuck ? warning(text, null) : ok(text)
  try {
    requirePool(provider, pool)
    if (pool.image !== null) await requireImage(provider, pool.image)
  } catch (error) {
    return failed(failureOf(error, `looking at the pool ${standing.pool}`))
  }
  if (isStuck) return warning(text, null)
  return standing.problem === null
    ? ok(text)
    : warning(`${text}: ${standing.problem}`, 'The log of the runner has more.')
}

/** Whether the machines that the settings want ready can be made, and are there. */
const checkPools = async (context: RunnerContext, provider: Provider): Promise<Finding[]> => {
  const findings: Finding[] = []
  for (const standing of poolStandings(context)) {
    const pool = context.config.pool.find(each => poolName(each) === standing.pool)
    findings.push(await checkPool(context, provider, pool, standing))
  }
  return findings
}

const diagnose = async (context: RunnerContext, provider: Provider, signal: AbortSignal): Promise<Finding[]> => {
  if (provider.diagnose === undefined) {
    const state = await provider.available()
    if (!state.available) return [problem(state.reason, state.remedy)]
  }
  const findings: Finding[] = (await provider.diagnose?.(signal)) ?? []
  if (hasError(findings)) return findings
  const chosen = (await context.chosenProvider().catch(() => null))?.name
  const pools = chosen === provider.name ? await checkPools(context, provider) : []
  return [...findings, ...(await checkCreate(context, provider)), ...pools]
}

/** The hypervisors that this home uses: that of the settings, or those that are detected; and those of its machines. */
const usedBy = ({ config, registry }: RunnerContext, available: readonly ProviderName[]): Set<ProviderName> =>
  new Set([
    ...registry.environments().map(({ provider }) => provider),
    ...(config.provider === null ? available : [config.provider]),
  ])

type Availability = { name: ProviderName } & Awaited<ReturnType<Provider['available']>>

/** A hypervisor that this home does not use. */
const notUsed = (state: Availability, isAnyUsed: boolean, { provider, runnerToken }: Config): Finding => {
  if (state.available) return ok(`it works here, and is not used: AGENT_SWARM_PROVIDER is ${provider}`)
  if (isAnyUsed) return ok(`not used here: ${state.reason}`)
  // Runners on other hosts take the work of this bot.
  return runnerToken === null
    ? problem(`no hypervisor works here: ${state.reason}`, state.remedy)
    : ok(`not used here, so runners on other hosts create the machines: ${state.reason}`)
}

const examine = async (context: RunnerContext, signal: AbortSignal): Promise<DoctorFinding[]> => {
  const { config } = context
  const states = await Promise.all(
    detectedProviders(context.platform).map(
      async (name): Promise<Availability> => ({ name, ...(await (await context.provider(name)).available()) }),
    ),
  )
  const used = usedBy(
    context,
    states.filter(({ available }) => available).map(({ name }) => name),
  )
  const diagnosed = [...used].map(async (name): Promise<DoctorFinding[]> => {
    try {
      const findings = await diagnose(context, await context.provider(name), signal)
      return findings.map(finding => ({ ...finding, subject: name }))
    } catch (error) {
      return [{ ...failed(failureOf(error, `looking at ${name}`)), subject: name }]
    }
  })
  const others = states.filter(({ name }) => !used.has(name))
  return [
    ...(await Promise.all(diagnosed)).flat(),
    ...others.map(state => ({ ...notUsed(state, used.size > 0, config), subject: state.name })),
  ]
}

export const machineRows = (config: Config): Row[] => [
  {
    subject: 'Machines',
    doing: 'looking at the hypervisors',
    deadlineMs: DEADLINE_MS,
    run: signal => readRegistry(config, context => examine(context, signal)),
  },
]
