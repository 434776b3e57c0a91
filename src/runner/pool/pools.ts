/** The pools of the settings: what their machines are made of now, and which of them are of use. */
import { createHash } from 'node:crypto'
import type { Provider, VmInfo } from '../../../providers/provider.ts'
import { DAY_MS } from '../../clock.ts'
import { poolName } from '../../domain.ts'
import { fail } from '../../errors.ts'
import type { FailedClaims, MadeOf, PoolMachine } from '../../registry/registry.ts'
import type { MachineSize } from '../../schema/basics.ts'
import type { Pool } from '../../schema/pool.ts'
import { MAX_REPOSITORY_FILE, REPOSITORY_FILE, readProjectFile } from '../../schema/repository-file.ts'
import type { RunnerContext } from '../context.ts'
import type { GitGateway } from '../git-gateway/gateway.ts'
import { poolKey } from '../git-gateway/policy.ts'
import { operatorWorkspace } from '../project/project.ts'

/** A machine that was ready for longer is made anew: what it has was fetched a day ago. */
const MOST_MS = DAY_MS

/** Throws `unsupported` where the provider cannot keep such machines. */
export const requirePool = (provider: Provider, pool: Pool): void => {
  const lacks =
    provider.assign === undefined
      ? 'give a machine its ticket later'
      : pool.hold === 'memory' && provider.suspend === undefined
        ? 'suspend a machine'
        : pool.hold === 'disk' && provider.save === undefined
          ? "save a machine's memory"
          : null
  if (lacks === null) return
  const other = pool.hold === 'memory' && provider.save !== undefined && provider.assign !== undefined
  throw fail(
    'unsupported',
    `keeping machines of ${poolName(pool)} ready: ${provider.name} cannot ${lacks}`,
    other ? 'Set hold: disk for this pool in config.yaml.' : 'Remove it from `pool` in config.yaml.',
  )
}

/** Throws `no-such-image` when the provider lists its images, and not this one. */
export const requireImage = async (provider: Provider, image: string): Promise<void> => {
  const images = await provider.listBaseImages?.()
  if (images === undefined || images.includes(image)) return
  throw fail(
    'no-such-image',
    `keeping machines of ${image} ready: ${provider.name} has no base image ${image}${images.length === 0 ? '' : `; it has ${images.slice(0, 5).join(', ')}`}`,
    `Make it (agent-swarm init-base), or correct \`pool\` in config.yaml.`,
  )
}

/** What the repository asks for, within this runner's limits. */
const sizeOf = ({ config }: RunnerContext, repo: string, asked: Partial<MachineSize>): MachineSize => {
  const size = { ...config.size, ...asked }
  for (const name of ['cpus', 'memoryMiB', 'diskGiB'] as const)
    if (asked[name] !== undefined && size[name] > config.limits[name])
      throw fail(
        'refused',
        `keeping machines of ${repo} ready: its ${REPOSITORY_FILE} asks for more than this runner allows (${name}: ${size[name]}, at most ${config.limits[name]})`,
      )
  return size
}

const workspaceOf = (context: RunnerContext, repo: string): string | null => {
  const workspace = operatorWorkspace({ context }, repo)
  return workspace === undefined ? null : createHash('sha256').update(JSON.stringify(workspace)).digest('hex')
}

type Git = Pick<GitGateway, 'headOf' | 'readFile'>

/** Asks the repository and the hypervisor. Throws why no machine of this pool can be made now. */
export const madeOfNow = async (context: RunnerContext, provider: Provider, pool: Pool, git: Git): Promise<MadeOf> => {
  requirePool(provider, pool)
  const versions = (await provider.versions?.()) ?? null
  const { image, repository } = pool
  if (repository === null) {
    const named = image ?? context.config.baseImage
    await requireImage(provider, named)
    return { ...context.config.size, image: named, repository: null, commit: null, workspace: null, versions }
  }
  const repo = repository.toLowerCase()
  const asking = { ticket: poolKey(repo), repo }
  const commit = await git.headOf(asking)
  if (commit === null)
    throw fail('refused', `keeping machines of ${repository} ready: its default branch has no commit yet`)
  const file = await git.readFile({ ...asking, path: REPOSITORY_FILE, most: MAX_REPOSITORY_FILE })
  const { baseImage = context.config.baseImage, size = {} } = await readProjectFile(file ?? '')
  await requireImage(provider, baseImage)
  return {
    ...sizeOf(context, repository, size),
    image: baseImage,
    repository: repo,
    commit,
    workspace: workspaceOf(context, repo),
    versions,
  }
}

export const isSame = (one: MadeOf, other: MadeOf): boolean =>
  (Object.keys(one) as (keyof MadeOf)[]).every(name => one[name] === other[name])

/**
 * Whether a create may take it: a machine of a former commit is brought up to date, and set up again, when it is taken. Until one of
 * the present commit is ready, that is still less work than a boot.
 */
export const isOfUse = (one: MadeOf, now: MadeOf): boolean => isSame({ ...one, commit: now.commit }, now)

/** Whether it stands still, with its memory where its pool holds it, and nobody's. `vm`: as the hypervisor lists it. */
export const isHeld = ({ hold }: Pick<PoolMachine, 'hold'>, vm: VmInfo | undefined): boolean =>
  vm?.ticket === null && (hold === 'memory' ? vm.pauseCause === 'asked' : vm.status === 'stopped' && vm.saved === true)

/** Failed claims in a row after which machines that are as old are not taken any more. */
const MOST_FAILED = 2
/** Whether machines like it could not be taken, one after the other. One that was made since may be better. */
export const isDoubtful = (
  { since }: Pick<PoolMachine, 'since'>,
  { failed, now }: { failed: FailedClaims | null; now: Date },
): boolean => {
  if (failed === null || failed.count < MOST_FAILED) return false
  const at = Date.parse(failed.at)
  // A time from the future says nothing of which machines are older.
  return Date.parse(since) <= at && at <= now.getTime()
}

export const isTooOld = ({ since }: Pick<PoolMachine, 'since'>, now: Date): boolean =>
  Math.abs(now.getTime() - Date.parse(since)) > MOST_MS

/** `madeOf` null: nobody knows what it should be. */
type Expected = {
  pool: Pool | undefined
  madeOf: MadeOf | null
  failed: FailedClaims | null
  vm: VmInfo | undefined
  now: Date
}
/** Why a machine that is ready, or a template, is of no use any more; null when it is. */
export const whyUseless = (machine: PoolMachine, { pool, madeOf, failed, vm, now }: Expected): string | null => {
  if (pool === undefined) return 'config.yaml has no such pool'
  if (pool.hold !== machine.hold)
    return `its memory is to be held ${pool.hold === 'disk' ? 'on disk' : 'in memory'} now`
  if (vm === undefined) return 'it no longer exists'
  if (vm.ticket !== null) return `its mark names ${vm.ticket}`
  if (madeOf !== null && !isOfUse(machine.madeOf, madeOf))
    return 'its image, size, workspace or hypervisor is not that of now'
  if (isDoubtful(machine, { failed, now })) return 'creates could not take machines like it'
  if (isTooOld(machine, now)) return 'it is more than a day old'
  if (machine.state === 'ready' && !isHeld(machine, vm)) return `it is ${vm.paused ?? vm.status}`
  return null
}
