/** Gives actions to the runners that wait for work. */
import type { ServerResponse } from 'node:http'
import { failureOf } from '../../errors.ts'
import type { Action } from '../../schema/action.ts'
import type { Failure } from '../../schema/failure.ts'
import { ACQUIRE_WAIT_MS, type AcquireRequest, type Lease, type Offer } from '../../schema/runner-protocol.ts'
import { respond } from '../http/respond.ts'
import { failAction, type OutcomeContext } from './outcomes.ts'

export type DispatchContext = OutcomeContext & {
  /** Why the action of a fork's pull request must not run any more; null when it may. Asked just before it is handed out. */
  whyOutdated: (action: Action) => Promise<Failure | null>
}
export type Dispatcher = {
  /**
   * Answers with a lease as soon as there is one, or with 204 after ACQUIRE_WAIT_MS. A runner has one waiting request for each of
   * its slots: beyond that, the oldest one is answered with 204.
   */
  wait(request: AcquireRequest, response: ServerResponse): void
  /** There may be work. */
  dispatch(): void
  /** A waiting runner has this offer now. */
  update(runnerId: string, offer: Offer): void
  /** Answers the requests of this runner with 401: its token was revoked. */
  drop(runnerId: string): void
  /** Answers all that wait with 204. */
  close(): void
}
type Waiter = AcquireRequest & { response: ServerResponse; timer: NodeJS.Timeout }

const isGone = ({ response }: Waiter): boolean => response.destroyed || response.socket?.destroyed !== false

/** An action on a fork's commit is checked once more: the pull request may have another head by now. */
const handOut = async (context: DispatchContext, lease: Lease, response: ServerResponse): Promise<void> => {
  const { store, whyOutdated, log } = context
  const { id, token, action, correlation } = lease
  const give = async () => {
    if (!response.headersSent) return respond(response)(200, lease)
    // Its runner lost its token meanwhile.
    await store.queue.giveBack(id, token)
  }
  const end = async (failure: Failure, retry: boolean) => {
    const row = await store.queue.get(id)
    if (row !== null) await failAction(context, row, token, { failure, retry, environment: null })
    respond(response)(204)
  }
  try {
    const failure = action.onlyAt === undefined ? null : await whyOutdated(action)
    if (failure !== null) await end(failure, false)
    // The check took time: whoever lost the lease meanwhile must not get it.
    else if (action.onlyAt === undefined || (await store.queue.renew(id, token, null)) === 'ok') await give()
    else respond(response)(204)
  } catch (error) {
    const failure = failureOf(error, `${action.kind} of ${action.ticket}`)
    log.warn({ correlation }, failure.message)
    await end(failure, true)
  }
}

export const openDispatcher = (context: DispatchContext & { onLease: () => void }): Dispatcher => {
  const { store, log, onLease } = context
  const waiters = new Set<Waiter>()
  /** Those that have an action which is being checked. */
  const served = new Set<Waiter>()
  const remove = (waiter: Waiter) => {
    clearTimeout(waiter.timer)
    waiters.delete(waiter)
  }
  const claimFor = async (waiter: Waiter): Promise<void> => {
    const { runnerId, offer, response } = waiter
    // A lease for a runner that is gone would only run out.
    if (isGone(waiter)) return remove(waiter)
    const lease = await store.queue.claim(runnerId, offer)
    if (lease === null) return
    onLease()
    if (isGone(waiter) || !waiters.has(waiter)) {
      remove(waiter)
      await store.queue.giveBack(lease.id, lease.token)
      return dispatch()
    }
    remove(waiter)
    const { correlation, id, attempt } = lease
    log.debug({ correlation, action: id, attempt, runner: runnerId }, 'leased')
    served.add(waiter)
    handOut(context, lease, response)
      .catch(error => log.error({ err: error }, 'an action could not be handed out'))
      .finally(() => served.delete(waiter))
  }

  let [isRunning, again] = [false, false]
  const drain = async (): Promise<void> => {
    while (again) {
      again = false
      for (const waiter of waiters) {
        try {
          await claimFor(waiter)
        } catch (error) {
          log.error({ err: error }, 'no action could be claimed; the runner was answered with 503')
          remove(waiter)
          respond(waiter.response)(503, { error: 'the store failed; try again' })
        }
      }
    }
    isRunning = false
  }
  const dispatch = (): void => {
    again = true
    if (isRunning) return
    isRunning = true
    drain()
  }

  return {
    wait: (request, response) => {
      const earlier = [...waiters].filter(({ runnerId }) => runnerId === request.runnerId)
      for (const waiter of earlier.slice(0, Math.max(0, earlier.length + 1 - request.slots))) {
        remove(waiter)
        respond(waiter.response)(204)
      }
      const timer = setTimeout(() => {
        remove(waiter)
        respond(response)(204)
      }, ACQUIRE_WAIT_MS)
      const waiter: Waiter = { ...request, response, timer }
      response.on('close', () => remove(waiter))
      waiters.add(waiter)
      dispatch()
    },
    dispatch,
    update: (runnerId, offer) => {
      for (const waiter of waiters) if (waiter.runnerId === runnerId) waiter.offer = offer
      if (waiters.size > 0) dispatch()
    },
    drop: runnerId => {
      for (const waiter of [...waiters, ...served]) {
        if (waiter.runnerId !== runnerId) continue
        remove(waiter)
        respond(waiter.response)(401, { error: 'the token was revoked' })
      }
    },
    close: () => {
      for (const waiter of waiters) {
        remove(waiter)
        respond(waiter.response)(204)
      }
    },
  }
}
