/** How the pools stand, for people: what is ready of each, and what keeps it from more. */
import { poolName } from '../../domain.ts'
import { isRunnerRunning } from '../../registry/lock.ts'
import type { PoolStanding } from '../../schema/operation.ts'
import { counted } from '../../words.ts'
import type { RunnerContext } from '../context.ts'

/** Those of the settings, and those that still have machines. */
export const poolStandings = ({ config, registry }: Pick<RunnerContext, 'config' | 'registry'>): PoolStanding[] => {
  const machines = registry.poolMachines().filter(({ state }) => state !== 'claimed')
  const names = new Set([...config.pool.map(poolName), ...machines.map(({ pool }) => pool)])
  return [...names].map(pool => {
    const rule = config.pool.find(each => poolName(each) === pool)
    const own = machines.filter(machine => machine.pool === pool)
    return {
      pool,
      ready: own.filter(({ state }) => state === 'ready').length,
      wanted: rule?.ready ?? 0,
      machines: own.map(({ vmId, provider, state, hold, since }) => ({ vmId, provider, state, hold, since })),
      problem: rule === undefined ? null : (registry.poolLook(pool)?.problem ?? null),
    }
  })
}

/** How one stands, and who changes that: the runner alone makes and deletes machines of pools. */
export const standingText = (
  { home }: Pick<RunnerContext, 'home'>,
  { pool, ready, wanted, machines }: PoolStanding,
): { text: string; isStuck: boolean } => {
  const isLeft = wanted === 0
  const name = pool === '' ? 'a former pool' : pool
  const isStuck = (isLeft || ready < wanted) && !isRunnerRunning(home)
  const text = isLeft
    ? `${name}: ${counted(machines.length, 'machine')} left from earlier settings; the runner deletes ${machines.length === 1 ? 'it' : 'them'}`
    : `${name}: ${ready} of ${counted(wanted, 'machine')} ready${isStuck ? '. The runner makes them' : ''}`
  return { text: isStuck ? `${text}; it is not running: agent-swarm up` : text, isStuck }
}

/** `2 ready machines of acme/shop`. */
export const readyText = ({ pool, ready }: Pick<PoolStanding, 'pool' | 'ready'>): string =>
  `${counted(ready, 'ready machine')} of ${pool}`
