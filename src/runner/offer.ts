/** What this runner can take on, as it tells the bot with each claim and each heartbeat. */

import { is } from 'valibot'
import { providers } from '../../providers/index.ts'
import type { Provider } from '../../providers/provider.ts'
import { needOf } from '../room.ts'
import type { Action } from '../schema/action.ts'
import { imageName } from '../schema/basics.ts'
import type { Offer } from '../schema/runner-protocol.ts'
import type { RunnerContext } from './context.ts'
import { type HostReading, readHost, roomNow } from './room.ts'

/** How long an offer is reused unless something changes here: claims and heartbeats of an idle runner ask no hypervisor. */
const REUSE_MS = 30_000
/** Null when the provider does not list its images. Fails where it does not work. */
const imagesOf = async (provider: Provider): Promise<string[] | null> =>
  (await provider.listBaseImages?.())?.filter(name => is(imageName, name)) ?? null

type Reading = { offer: Offer; host: HostReading | null }

const readOffer = async (context: RunnerContext): Promise<Reading> => {
  const { baseImage, size, limits } = context.config
  const chosen = await context.chosenProvider().catch(() => null)
  const [rows, host] = await Promise.all([
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
    chosen === null ? null : readHost(chosen).catch(() => null),
  ])
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
  return {
    read: async (): Promise<Offer> => {
      if (last === null || performance.now() - last.at >= REUSE_MS)
        last = { at: performance.now(), reading: readOffer(context) }
      const { offer, host } = await last.reading
      const provider = offer.defaults.provider
      if (host === null || provider === null) return offer
      return { ...offer, room: roomNow(context, provider, host, { expected: expectedBy(context, running) }) }
    },
    /** The next read asks the host again. */
    refresh: () => {
      last = null
    },
  }
}
