/** Base images of this home that nothing uses. */
import type { BaseImage, Provider } from '../../../providers/provider.ts'
import { DAY_MS } from '../../clock.ts'
import { homeId } from '../../config/home.ts'
import { fail } from '../../errors.ts'
import type { PruneItem } from '../../schema/prune.ts'
import { counted } from '../../words.ts'
import type { RunnerContext } from '../context.ts'
import type { Prunable, Sorted } from './items.ts'

type View = { context: RunnerContext; provider: Provider; ownHome: string }

const nameSome = (names: readonly string[]): string =>
  names.length > 3 ? `${names.slice(0, 3).join(', ')} and ${names.length - 3} more` : names.join(', ')

/** Why it stays; null when it may go. */
const whyKept = ({ context, ownHome }: View, { name, manifest, machines }: BaseImage): string | null => {
  const { config, registry, clock } = context
  const { imageDays } = config.retention
  const before = clock().getTime() - imageDays * DAY_MS
  if (name === config.baseImage) return 'the configuration names it'
  if (config.pool.some(({ image }) => image === name)) return 'machines of it are kept ready (setting pool)'
  const tickets = registry.environments().filter(({ baseImage }) => baseImage === name)
  if (tickets.length > 0) return `used by ${nameSome(tickets.map(({ ticket }) => ticket))}`
  if (machines.length > 0) return `disks depend on it: ${nameSome(machines)}`
  if (manifest === null) return `it cannot be read; delete it by its name: agent-swarm init-base --delete ${name}`
  if (manifest.homeId !== ownHome) return 'this home did not build it'
  const usedAt = registry.imageUsedAt(name)
  if (Math.max(Date.parse(manifest.createdAt), usedAt === null ? 0 : Date.parse(usedAt)) > before)
    return `built or used within ${counted(imageDays, 'day')}`
  return null
}

const remove = async (view: View, name: string): Promise<null> => {
  const { provider } = view
  const image = (await provider.describeBaseImages?.())?.find(each => each.name === name)
  // Somebody deleted it meanwhile.
  if (image === undefined) return null
  // A create has its row, with the image, before its first outside command.
  const reason = whyKept(view, image)
  if (reason !== null) throw fail('refused', `deleting the base image ${name}: ${reason}`)
  await provider.deleteBaseImage?.(name)
  return null
}

export const sortImages = async (context: RunnerContext, provider: Provider): Promise<Sorted> => {
  const prunable: Prunable[] = []
  const kept: PruneItem[] = []
  if (provider.deleteBaseImage === undefined) return { prunable, kept }
  const view = { context, provider, ownHome: await homeId(context.home) }
  for (const image of (await provider.describeBaseImages?.()) ?? []) {
    const { name, manifest } = image
    const item = { kind: 'base image' as const, name, bytes: manifest?.sizeBytes ?? null }
    const reason = whyKept(view, image)
    if (reason !== null) kept.push({ ...item, reason })
    else
      prunable.push({
        ...item,
        reason: `nothing uses it, for ${counted(context.config.retention.imageDays, 'day')}`,
        remove: () => remove(view, name),
      })
  }
  return { prunable, kept }
}
