/** How git in a machine reaches its repository, in the process that holds the links. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Config } from '../../config/config.ts'
import { fail } from '../../errors.ts'
import type { GitGateway } from '../git-gateway/gateway.ts'
import { accessThrough, type WithProjectAccess } from '../project/access.ts'
import type { Link, Links } from './types.ts'

/** How long a create waits for the link of its machine. */
const UP_MS = 60_000
const POLL_MS = 100

const openLink = async (links: Pick<Links, 'of' | 'nudge'>, vmId: string, signal: AbortSignal): Promise<Link> => {
  const until = performance.now() + UP_MS
  while (true) {
    const link = links.of(vmId)
    if (link?.connected() === true) return link
    signal.throwIfAborted()
    if (performance.now() > until)
      throw fail(
        'guest-unreachable',
        `opening the link to ${vmId}: it is not open within ${UP_MS / 1000} s`,
        'The log of the runner says why.',
      )
    links.nudge()
    await delay(POLL_MS)
  }
}

export const linkAccess =
  (links: Pick<Links, 'of' | 'nudge'>, gateway: GitGateway, config: Config): WithProjectAccess =>
  async (machine, work) => {
    const link = await openLink(links, machine.vmId, machine.signal)
    return work(accessThrough(gateway, machine, link.address('git'), config))
  }
