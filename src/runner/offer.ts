/** What this runner can take on, as it tells the bot with each claim and each heartbeat. */

import { is } from 'valibot'
import { providers } from '../../providers/index.ts'
import type { Provider } from '../../providers/provider.ts'
import { atMost } from '../clock.ts'
import { needOf } from '../room.ts'
import type { Action } from '../schema/action.ts'
import { imageName } from '../schema/basics.ts'
import type { Offer } from '../schema/runner-protocol.ts'
import type { RunnerContext } from './context.ts'
import { isForeign } from './detection.ts'
import { type HostReading, readHost, roomNow } from './room.ts'

/** How long an offer is reused unless something changes here, while actions wait for it, and while none do. */
const REUSE_MS = 30_000
const IDLE_REUSE_MS = 5 * 60_000
/** How long a heartbeat waits for a new offer before it has the one before. */
const SOON_MS = 1_000

/** Null when the provider does not list its images. Fails where it does not work. */
const imagesOf = async (provider: Provider): Promise<string[] | null> =>
  (await provider.listBaseImages?.())?.filter(name => is(imageName, name)) ?? null

type Reading = { offer: Offer; host: HostReading | null }

const readOffer = async (context: RunnerContext): Promise<Reading> => {
  const { baseImage, size, limits } = context.config
  const chosen = await context.chosenProvider().catch(() => null)
  // The images of the others are nobody's business, and asking may be slow.
  const [images, host] =
    chosen === null
      ? [null, null]
      : await Promise.all([imagesOf(chosen).catch(() => null), readHost(chosen).catch(() => null)])
  const rows = providers
    .filter(row => row.open !== null && (!isForeign(row, context.platform) || row.name === chosen?.name))
    .map(({ name, label, live }) => ({ name, label, live, images: name === chosen?.name ? images : null }))
  const defaults = { provider: chosen?.name ?? null, baseImage, size }
  return { offer: { providers: rows, defaults, limits, room: null }, host }
}

/** What creates will reserve that were given to this runner just now. */
const expectedBy = ({ config }: RunnerContext, running: ReadonlySet<Action>) =>
  [...running].flatMap(action =>
    action.kind === 'create' ? [{ ticket: action.ticket, ...needOf({ ...config.size, ...action.machine }) }] : [],
  )

export type OfferSource = ReturnType<typeof openOffer>

/** `running`: the actions that are being worked on. */
export const openOffer = (context: RunnerContext, running: ReadonlySet<Action>) => {
  let last: { at: number; reading: Promise<Reading> } | null = null
  let known: { reading: Reading; of: Promise<Reading> } | null = null
  let isNeeded = false
  const isOld = () => last === null || performance.now() - last.at >= (isNeeded ? REUSE_MS : IDLE_REUSE_MS)
  const reading = (): Promise<Reading> => {
    if (last === null || isOld()) last = { at: performance.now(), reading: readOffer(context) }
    return last.reading
  }
  const withRoom = ({ offer, host }: Reading): Offer => {
    const { provider } = offer.defaults
    if (host === null || provider === null) return offer
    return {
      ...offer,
      room: roomNow(context, provider, host, { expected: expectedBy(context, running), emptied: true }),
    }
  }
  return {
    read: async (): Promise<Offer> => withRoom(await reading()),
    /** A host that hangs delays no heartbeat, but for the first. */
    soon: async (): Promise<Offer> => {
      const of = reading()
      const remember = of.then(read => {
        known = { reading: read, of }
      })
      if (known === null) await remember
      else if (known.of !== of) await atMost(SOON_MS, [remember])
      return withRoom(known?.reading ?? (await of))
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
