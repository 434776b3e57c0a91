/** How a command's machine reaches its repository when no runner has the link: through a link of the command's own. */
import { openLog } from '../log.ts'
import type { RunnerContext } from './context.ts'
import { openGateway } from './gateway.ts'
import type { TokenSource } from './git-gateway/tokens.ts'
import { withLink } from './link/links.ts'
import type { LinkHandler } from './link/types.ts'
import { accessThrough, type WithProjectAccess } from './project/access.ts'

const NOTE = 'git push works while agent-swarm up runs on this host, or with your own key: ssh -A'

/** Answers for what ends with the command. */
const notNow: LinkHandler = (_machine, _request, response) => {
  response.writeHead(503, { 'content-type': 'text/plain', connection: 'close' })
  response.end('agent-swarm: the runner is away. Start it on its host: agent-swarm up\n')
}

export const commandAccess =
  (context: RunnerContext, openTokens: (signal: AbortSignal) => TokenSource): WithProjectAccess =>
  async (machine, work) => {
    const { config, registry } = context
    const row = registry.environment(machine.ticket)
    if (row === null) throw new Error(`${machine.ticket} has no machine`)
    const log = openLog(
      config.logLevel === 'debug' || config.logLevel === 'trace' ? config.logLevel : 'error',
      config.secrets,
    )
    const ended = new AbortController()
    const gateway = openGateway(context, { log, tokens: openTokens(AbortSignal.any([machine.signal, ended.signal])) })
    const services = { git: gateway.handle, model: notNow, requests: notNow }
    try {
      return await withLink({ context, row, signal: machine.signal }, services, { log }, ({ isOwn, address }) =>
        work(accessThrough(gateway, machine, address('git'), config, isOwn ? { stays: false, note: NOTE } : undefined)),
      )
    } finally {
      ended.abort()
      await gateway.close()
    }
  }
