/** Housekeeping: what nobody needs any more is shown, and removed when a person says so. */
import { join } from 'node:path'
import { providers } from '../../../providers/index.ts'
import type { Leftover, Provider, VmInfo } from '../../../providers/provider.ts'
import type { ProviderName } from '../../domain.ts'
import { failureOf } from '../../errors.ts'
import type { Failure } from '../../schema/failure.ts'
import type { PruneItem } from '../../schema/prune.ts'
import type { RunnerContext } from '../context.ts'
import { type Unread, usedProviders } from '../reconciler/look.ts'
import { sortLeftovers } from './disks.ts'
import {
  sortCompiled,
  sortDownloads,
  sortHome,
  sortKeys,
  sortLogs,
  sortMirrors,
  sortRescued,
  sortTranscripts,
} from './home-files.ts'
import { sortImages } from './images.ts'
import { isFolder, type Prunable, type Removing, type Sorted } from './items.ts'

export type PrunePlan = Sorted & { unread: Unread[] }
/** `rescued`: a clause about the work that was saved first. */
export type Pruned = {
  removed: (PruneItem & { rescued: string | null })[]
  failed: (PruneItem & { failure: Failure })[]
}

type Read = { provider: Provider; vms: readonly VmInfo[]; leftovers: readonly Leftover[] }

/** Those that this home uses, or has files of: without a registry, these alone tell where something was left. */
const providersToAsk = async (context: RunnerContext): Promise<ProviderName[]> => {
  const used = await usedProviders(context)
  return providers
    .filter(({ name, open }) => open !== null && (used.includes(name) || isFolder(join(context.home, name))))
    .map(({ name }) => name)
}

/** First what is left: a machine that is made in between is among the machines. */
const readProvider = async (provider: Provider): Promise<Read> => {
  const leftovers = (await provider.leftovers?.()) ?? []
  return { provider, leftovers, vms: await provider.listVms() }
}

const readAll = async (context: RunnerContext): Promise<{ read: Read[]; unread: Unread[] }> => {
  const read: Read[] = []
  const unread: Unread[] = []
  for (const name of await providersToAsk(context)) {
    try {
      read.push(await readProvider(await context.provider(name)))
    } catch (error) {
      unread.push({ provider: name, message: failureOf(error, `listing the machines of ${name}`).message })
    }
  }
  return { read, unread }
}

const sortRead = async (context: RunnerContext, { provider, leftovers }: Read): Promise<Sorted[]> => [
  sortLeftovers(context, provider, leftovers),
  await sortImages(context, provider),
]

/** Reads, and changes nothing. */
export const planPrune = async (context: RunnerContext): Promise<PrunePlan> => {
  const { read, unread } = await readAll(context)
  const exists = new Set(read.flatMap(({ vms, leftovers }) => [...vms, ...leftovers].map(({ vmId }) => vmId)))
  const all: Sorted[] = []
  for (const each of read) all.push(...(await sortRead(context, each)))
  // Of a hypervisor that does not answer, the machines are not known.
  if (unread.length === 0) all.push(sortKeys(context, exists))
  for (const sort of [sortRescued, sortLogs, sortTranscripts, sortMirrors, sortDownloads, sortCompiled, sortHome])
    all.push(await sort(context))
  return {
    unread,
    prunable: all.flatMap(({ prunable }) => prunable),
    kept: all.flatMap(({ kept }) => kept),
  }
}

const toItem = ({ kind, name, bytes, reason }: Prunable): PruneItem => ({ kind, name, bytes, reason })

/** One after the other. What stays, and why, is in `failed`. What is gone already counts as removed. */
export const prune = async (prunable: readonly Prunable[], removing: Removing): Promise<Pruned> => {
  const pruned: Pruned = { removed: [], failed: [] }
  for (const each of prunable) {
    const item = toItem(each)
    try {
      removing.signal.throwIfAborted()
      pruned.removed.push({ ...item, rescued: await each.remove(removing) })
    } catch (error) {
      pruned.failed.push({ ...item, failure: failureOf(error, `removing ${item.kind} ${item.name}`) })
    }
  }
  return pruned
}
