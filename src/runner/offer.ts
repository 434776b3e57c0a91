/** What this runner can take on, as it tells the bot with each claim and each heartbeat. */

import { is } from 'valibot'
import { providers } from '../../providers/index.ts'
import type { Provider } from '../../providers/provider.ts'
import { atMost } from '../clock.ts'
import type { Action } from '../schema/action.ts'
import { imageName } from '../schema/basics.ts'
import type { Offer } from '../schema/runner-protocol.ts'
import type { RunnerContext } from './context.ts'

/** How long an offer is reused unless something changes here, while actions wait for it, and while none do. */
const REUSE_MS = 30_000
const IDLE_REUSE_MS = 5 * 60_000
/** How long a heartbeat waits for a new offer before it has the one before. */
const SOON_MS = 1_000
const MIB = 1024 ** 2
const GIB = 1024 ** 3

type Room = NonNullable<Offer['room']>

/** Null when the provider does not list its images. Fails where it does not work. */
const imagesOf = async (provider: Provider): Promise<string[] | null> =>
  (await provider.listBaseImages?.())?.filter(name => is(imageName, name)) ?? null

const roomOf = async (provider: Provider | null): Promise<Room | null> => {
  const capacity = await provider?.capacity?.()
  if (capacity === undefined) return null
  const { memoryBytes: memory, diskBytes: disk } = capacity
  // A hypervisor that could not tell: without room, every create would be rejected.
  if (memory.total === 0) return null
  const room = (memoryBytes: number, diskBytes: number) => ({
    memoryMiB: Math.max(0, Math.floor(memoryBytes / MIB)),
    diskGiB: Math.max(0, Math.floor(diskBytes / GIB)),
  })
  return { free: room(memory.available, disk.available), empty: room(memory.total, disk.total) }
}

const readOffer = async (context: RunnerContext): Promise<Offer> => {
  const { baseImage, size, limits } = context.config
  const chosen = await context.chosenProvider().catch(() => null)
  const [rows, room] = await Promise.all([
    Promise.all(
      providers
        .filter(({ open }) => open !== null)
        .map(async ({ name, label, live }) => ({
          ...{ name, label, live },
          images: await context
            .provider(name)
            .then(imagesOf)
            .catch(() => null),
        })),
    ),
    roomOf(chosen).catch(() => null),
  ])
  return { providers: rows, defaults: { provider: chosen?.name ?? null, baseImage, size }, limits, room }
}

/** Memory for machines that are being created, which the host may not report as used yet. */
const pendingMemoryMiB = ({ config }: RunnerContext, running: ReadonlySet<Action>): number =>
  [...running]
    .filter(action => action.kind === 'create')
    .reduce((sum, { machine }) => sum + (machine?.memoryMiB ?? config.size.memoryMiB), 0)

export type OfferSource = ReturnType<typeof openOffer>

/** `running`: the actions that are being worked on. */
export const openOffer = (context: RunnerContext, running: ReadonlySet<Action>) => {
  let last: { at: number; offer: Promise<Offer> } | null = null
  let known: { offer: Offer; of: Promise<Offer> } | null = null
  let isNeeded = false
  const isOld = () => last === null || performance.now() - last.at >= (isNeeded ? REUSE_MS : IDLE_REUSE_MS)
  const reading = (): Promise<Offer> => {
    if (last === null || isOld()) last = { at: performance.now(), offer: readOffer(context) }
    return last.offer
  }
  const withPending = (offer: Offer): Offer => {
    if (offer.room === null) return offer
    const { free, empty } = offer.room
    const memoryMiB = Math.max(0, free.memoryMiB - pendingMemoryMiB(context, running))
    return { ...offer, room: { free: { ...free, memoryMiB }, empty } }
  }
  return {
    read: async (): Promise<Offer> => withPending(await reading()),
    /** A host that hangs delays no heartbeat, but for the first. */
    soon: async (): Promise<Offer> => {
      const of = reading()
      const remember = of.then(offer => {
        known = { offer, of }
      })
      if (known === null) await remember
      else if (known.of !== of) await atMost(SOON_MS, [remember])
      return withPending(known?.offer ?? (await of))
    },
    /** Whether actions wait for a runner. True when the bot's knowledge of this one is too old for them. */
    needed: (isWaitedFor: boolean): boolean => {
      isNeeded = isWaitedFor
      return isOld()
    },
    /** The next read asks the host again. */
    refresh: () => {
      last = null
    },
  }
}
