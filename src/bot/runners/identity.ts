/** Who a runner is: its token says so, never its body. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Log } from '../../log.ts'
import type { Store } from '../../store/port.ts'
import { prove } from '../http/connections.ts'
import { openRefusalLog } from '../http/refusal-log.ts'
import { refuse } from '../http/respond.ts'
import { bearerOf, isToken, tokenHash } from '../http/signature.ts'

export type IdentityOptions = {
  store: Store
  /** The token that AGENT_SWARM_RUNNER_TOKEN holds. It belongs to the first id that shows it. */
  sharedToken: string | null
  /** The token of the runner in this process, which no other process knows. */
  ownToken: string | null
  log: Log
}
/** `instance`: the installation that the request names; null when it names none. */
type Identify = (request: IncomingMessage, response: ServerResponse, instance: string | null) => Promise<string | null>

const addCommand = (id: string | null) => `agent-swarm bot runner add NAME${id === null ? '' : ` --as ${id}`}`

export const openIdentity = ({ store, sharedToken, ownToken, log }: IdentityOptions) => {
  const { runnerTokens } = store
  const warnUnknown = openRefusalLog(log, 'requests with a wrong runner token were refused')
  const warnAnother = openRefusalLog(log, 'a runner was refused: its token belongs to another runner')
  let ownId: string | null = null

  /** The runner that shows this token; for what it says while it says nothing of itself, see `instance`. */
  const holderOf = async (token: string, instance: string | null) => {
    if (ownToken !== null && isToken(ownToken, token)) {
      ownId ??= instance
      return ownId === null ? ({ who: 'unknown' } as const) : ({ who: 'runner', runnerId: ownId } as const)
    }
    const isShared = sharedToken !== null && isToken(sharedToken, token)
    return runnerTokens.identify(tokenHash(token), { instance, isShared })
  }

  const refuseAnother = async (
    request: IncomingMessage,
    response: ServerResponse,
    holder: string,
    instance: string | null,
  ): Promise<void> => {
    // A runner that is known under its own id keeps its tickets, unless another one has that id.
    const isFree = instance !== null && instance !== holder && (await runnerTokens.isKnown(instance))
    const remedy = `On the bot's host, make a token for this runner: ${addCommand(isFree ? instance : null)}. Set it as AGENT_SWARM_RUNNER_TOKEN here.`
    warnAnother(request, { runner: instance, remedy })
    refuse(request, response, 403, 'this token belongs to another runner', remedy)
  }

  /** The runner's id; null when it was refused, with 401 or 403. */
  const identify: Identify = async (request, response, instance) => {
    const token = bearerOf(request.headers.authorization)
    const holder = token === null ? ({ who: 'unknown' } as const) : await holderOf(token, instance)
    if (holder.who === 'runner') return holder.runnerId
    if (holder.who === 'another') await refuseAnother(request, response, holder.runnerId, instance)
    else {
      warnUnknown(request)
      const remedy = `On the bot's host, make one: ${addCommand(null)}. Set it as AGENT_SWARM_RUNNER_TOKEN here.`
      refuse(request, response, 401, 'the bot does not know this runner token', remedy)
    }
    return null
  }
  /** Whether a request may be read at all: its token is a known one. Refuses it otherwise. */
  const admit = async (request: IncomingMessage, response: ServerResponse): Promise<boolean> => {
    const token = bearerOf(request.headers.authorization)
    const isKnown =
      token !== null &&
      ([ownToken, sharedToken].some(known => known !== null && isToken(known, token)) ||
        (await runnerTokens.identify(tokenHash(token), { instance: null, isShared: false })).who === 'runner')
    if (isKnown) prove(request)
    else await identify(request, response, null)
    return isKnown
  }
  /** Whether the request comes from the runner in this process. */
  const isOwn = (request: IncomingMessage): boolean => {
    const token = bearerOf(request.headers.authorization)
    return ownToken !== null && token !== null && isToken(ownToken, token)
  }
  return { admit, identify, isOwn }
}
