/** How git in a machine reaches its repository, in the process that holds the links. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Config } from '../../config/config.ts'
import { fail } from '../../errors.ts'
import type { Log } from '../../log.ts'
import type { RunnerContext } from '../context.ts'
import type { GitGateway } from '../git-gateway/gateway.ts'
import { poolKey } from '../git-gateway/policy.ts'
import type { Filling } from '../pool/fill.ts'
import { accessThrough, remoteOf, type WithProjectAccess } from '../project/access.ts'
import { setGitUp } from '../project/clone.ts'
import type { LinkOptions } from './link.ts'
import { withLink } from './links.ts'
import type { Link, LinkServices, Links } from './types.ts'

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

/** How long a machine may take to take over settings of git. The link waits for it. */
const GIT_SET_UP_MS = 30_000

/**
 * Git in a machine with a project goes through its link from now on: a command that made the machine left it with the plain remote,
 * and a machine that is a part of this system has other ports each time.
 */
export const leadGitThroughLink =
  (context: RunnerContext): NonNullable<LinkOptions['beforeUp']> =>
  async (vmId, address, signal) => {
    const { config, registry } = context
    const row = registry.environmentOfMachine(vmId)
    const project = row === null ? null : registry.project(row.ticket)
    if (row === null || project === null) return
    const guest = { context, provider: await context.provider(row.provider), row }
    const access = { remote: remoteOf(config.githubApiUrl), through: `${address('git')}/` }
    const until = AbortSignal.any([signal, AbortSignal.timeout(GIT_SET_UP_MS)])
    await setGitUp(guest, { ticket: row.ticket, path: project.path }, access, until)
  }

export const linkAccess =
  (links: Pick<Links, 'of' | 'nudge'>, gateway: GitGateway, config: Config): WithProjectAccess =>
  async (machine, work) => {
    const link = await openLink(links, machine.vmId, machine.signal)
    return work(accessThrough(gateway, machine, link.address('git'), config))
  }

/** The same for a machine that has no ticket yet, over a link that lasts no longer: it may fetch this repository. */
export const pooledAccess =
  (
    context: RunnerContext,
    { gateway, services, log }: { gateway: GitGateway; services: LinkServices; log: Log },
  ): Filling['withAccess'] =>
  ({ vmId, provider, repo, signal }, work) =>
    withLink({ context, row: { vmId, provider }, signal }, services, { log }, ({ address }) =>
      work(accessThrough(gateway, { ticket: poolKey(repo), repo }, address('git'), context.config)),
    )
