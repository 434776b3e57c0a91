/** Files of this home that nobody needs any more. Only names that agent-swarm gives itself are looked at. */
import { existsSync, rmSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { DAY_MS } from '../../clock.ts'
import { keyOfFileName, VM_ID } from '../../domain.ts'
import { fail } from '../../errors.ts'
import { ifUnlocked } from '../../registry/lock.ts'
import type { PruneItem } from '../../schema/prune.ts'
import { counted } from '../../words.ts'
import { sweepTranscripts } from '../agent/transcript.ts'
import type { RunnerContext } from '../context.ts'
import { listMirrors, mirrorPath, removeMirror } from '../git-gateway/mirrors.ts'
import { listDownloads, removeDownload } from '../images/download.ts'
import { bytesOf, changedAt } from '../measure.ts'
import { removeRescue, rescueFolders } from '../rescue/list.ts'
import { forgetHostKey, knownHostsFile, pinnedMachines } from '../ssh/keys.ts'
import { isFile, isFolder, namesIn, type Prunable, type Sorted } from './items.ts'

const beforeOf = ({ clock }: RunnerContext, days: number): number => clock().getTime() - days * DAY_MS
const busy = (what: string) => fail('busy', `removing ${what}: it is in use`, 'Try again later: agent-swarm prune')
const sorted = (kind: PruneItem['kind'], name: string, linked: boolean, prunable: Prunable[]): Sorted => ({
  prunable,
  kept: linked ? [{ kind, name, bytes: null, reason: 'it is a link, which is not followed' }] : [],
})

/** `exists`: machines of any kind that some hypervisor has. */
export const sortKeys = ({ home, registry }: RunnerContext, exists: ReadonlySet<string>): Sorted => {
  const { linked } = namesIn(home, 'ssh')
  return sorted(
    ...(['host key', 'ssh', linked] as const),
    (linked ? [] : pinnedMachines(home).sort())
      .filter(vmId => !exists.has(vmId) && !registry.knowsMachine(vmId))
      .map(vmId => ({
        ...{ kind: 'host key', name: vmId, bytes: null, reason: 'its machine does not exist' },
        remove: async () => {
          // A machine gets its row before its key.
          if (registry.knowsMachine(vmId)) throw fail('refused', `removing the host key of ${vmId}: it exists again`)
          if (isFile(knownHostsFile(home, vmId))) forgetHostKey(home, vmId)
          return null
        },
      })),
  )
}

export const sortRescued = async (context: RunnerContext): Promise<Sorted> => {
  const { home, config } = context
  const { rescuedDays } = config.retention
  const { linked } = namesIn(home, 'rescued')
  const kind = 'rescued work'
  const prunable: Prunable[] = []
  const young: number[] = []
  for (const { name, ticket, folder, savedAt } of linked ? [] : await rescueFolders(home)) {
    if (!isFolder(folder)) continue
    const bytes = await bytesOf(folder)
    if (Date.parse(savedAt) >= beforeOf(context, rescuedDays)) young.push(bytes)
    else
      prunable.push({
        ...{ kind, name, bytes, reason: `saved more than ${counted(rescuedDays, 'day')} ago` },
        remove: async () => {
          // With the ticket's lock nobody brings it back at this moment.
          const done = await ifUnlocked(home, ticket, async () => {
            await removeRescue(home, { name, ticket })
            return true
          })
          if (done === null) throw busy(name)
          return null
        },
      })
  }
  const { kept } = sorted(kind, 'rescued', linked, [])
  if (young.length > 0)
    kept.push({
      ...{ kind, name: `${young.length} in rescued/`, bytes: young.reduce((sum, bytes) => sum + bytes, 0) },
      reason: `saved within ${counted(rescuedDays, 'day')}; see: agent-swarm rescued list`,
    })
  return { prunable, kept }
}

/** Of commands in the background. One that runs writes into its own. */
export const sortLogs = async (context: RunnerContext): Promise<Sorted> => {
  const { home, config } = context
  const { logDays } = config.retention
  const { names, linked } = namesIn(home, 'logs')
  const prunable: Prunable[] = []
  for (const name of names) {
    const path = join(home, 'logs', name)
    if (!name.endsWith('.log') || keyOfFileName(name.slice(0, -'.log'.length)) === null || !isFile(path)) continue
    const isOld = async () => ((await changedAt(path)) ?? 0) < beforeOf(context, logDays)
    if (!(await isOld())) continue
    prunable.push({
      ...{ kind: 'log', name, bytes: await bytesOf(path), reason: `written more than ${counted(logDays, 'day')} ago` },
      remove: async () => {
        if (!(await isOld())) throw busy(name)
        rmSync(path, { force: true })
        return null
      },
    })
  }
  return sorted('log', 'logs', linked, prunable)
}

export const sortTranscripts = async (context: RunnerContext): Promise<Sorted> => {
  const { home, registry, config } = context
  const { logDays } = config.retention
  const { names, linked } = namesIn(home, 'transcripts')
  const prunable: Prunable[] = []
  for (const name of names) {
    const path = join(home, 'transcripts', name)
    if (!VM_ID.test(name) || !isFolder(path) || registry.environmentOfMachine(name) !== null) continue
    if (((await changedAt(path)) ?? 0) >= beforeOf(context, logDays)) continue
    prunable.push({
      ...{ kind: 'transcript', name, bytes: await bytesOf(path) },
      reason: `${name} does not exist any more, and its agent wrote it more than ${counted(logDays, 'day')} ago`,
      remove: async () => {
        const exists = (vmId: string) => vmId !== name || registry.environmentOfMachine(vmId) !== null
        sweepTranscripts(home, exists, beforeOf(context, logDays))
        if (existsSync(path)) throw busy(`the transcripts of ${name}`)
        return null
      },
    })
  }
  return sorted('transcript', 'transcripts', linked, prunable)
}

export const sortMirrors = async ({ home, registry, clock }: RunnerContext): Promise<Sorted> => {
  const { linked } = namesIn(home, 'mirrors')
  const used = () =>
    new Set([...registry.projectsByTicket().values()].flatMap(({ project }) => project?.repo.toLowerCase() ?? []))
  const prunable: Prunable[] = []
  for (const repo of linked ? [] : await listMirrors(home)) {
    const [owner = ''] = repo.split('/')
    if (used().has(repo) || namesIn(home, 'mirrors', owner).linked || !isFolder(mirrorPath(home, repo))) continue
    prunable.push({
      ...{ kind: 'mirror', name: repo, bytes: await bytesOf(mirrorPath(home, repo)) },
      reason: 'no machine uses the repository',
      remove: async () => {
        if (!(await removeMirror(home, repo, { now: clock().getTime(), isUsed: () => used().has(repo) })))
          throw busy(`the mirror of ${repo}`)
        return null
      },
    })
  }
  return sorted('mirror', 'mirrors', linked, prunable)
}

export const sortDownloads = async ({ home }: RunnerContext): Promise<Sorted> => {
  const { linked } = namesIn(home, 'downloads')
  const prunable = (linked ? [] : listDownloads(home)).map(
    async ({ name, path }): Promise<Prunable> => ({
      ...{ kind: 'download', name, bytes: await bytesOf(path), reason: 'no download goes on with it now' },
      remove: async () => {
        if (!removeDownload(home, name)) throw busy(`the download ${name}`)
        return null
      },
    }),
  )
  return sorted('download', 'downloads', linked, await Promise.all(prunable))
}

/** Of other versions of Node. */
export const sortCompiled = async ({ home }: RunnerContext): Promise<Sorted> => {
  const { names, linked } = namesIn(home, 'cache', 'compile')
  const own = `${process.version}-${process.arch}-`
  const others = names.filter(name => /^v\d+\.\d+\.\d+-/.test(name) && !name.startsWith(own))
  const prunable = others
    .map(name => ({ name, path: join(home, 'cache', 'compile', name) }))
    .filter(({ path }) => isFolder(path))
    .map(
      async ({ name, path }): Promise<Prunable> => ({
        ...{ kind: 'compiled code', name, bytes: await bytesOf(path), reason: `this is Node ${process.version}` },
        remove: async () => {
          await rm(path, { recursive: true, force: true })
          return null
        },
      }),
    )
  return sorted('compiled code', 'cache', linked, await Promise.all(prunable))
}

const DAMAGED = /^(?:bot|registry)\.db\.damaged-(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)(?:-wal|-shm)?$/
/** What a process that was killed left, by the names of its folders: a rebuild of the registry, a support bundle. */
const UNFINISHED = [
  ['unfinished rebuild', /^rebuild-[A-Za-z0-9]{6}$/],
  ['unfinished bundle', /^support-[A-Za-z0-9]{6}$/],
] as const

/** In the home itself. */
export const sortHome = async (context: RunnerContext): Promise<Sorted> => {
  const { home, config } = context
  const { logDays } = config.retention
  const prunable: Prunable[] = []
  const add = async (kind: PruneItem['kind'], name: string, reason: string) => {
    const path = join(home, name)
    const remove = async () => {
      await rm(path, { recursive: true, force: true })
      return null
    }
    prunable.push({ kind, name, bytes: await bytesOf(path), reason, remove })
  }
  for (const name of namesIn(home).names) {
    const path = join(home, name)
    const [, year, month, day, hour, minute, second] = DAMAGED.exec(name) ?? []
    const replacedAt = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`)
    if (replacedAt < beforeOf(context, logDays) && isFile(path))
      await add('damaged database', name, `replaced more than ${counted(logDays, 'day')} ago; nothing reads it`)
    const [kind] = UNFINISHED.find(([, pattern]) => pattern.test(name)) ?? []
    if (kind !== undefined && isFolder(path) && ((await changedAt(path)) ?? 0) < beforeOf(context, 1))
      await add(kind, name, 'the process that made it is gone')
  }
  return { prunable, kept: [] }
}
