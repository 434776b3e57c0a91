/** The store of a dry run. */
import type { Store } from './port.ts'

/** Everything happens to the copy. What is delivered is on disk in the real store as well, before it is answered. */
export const storeBeside = (real: Store, copy: Store): Store => ({
  ...copy,
  inbox: {
    ...copy.inbox,
    accept: async deliveries => {
      await real.inbox.accept(deliveries)
      return copy.inbox.accept(deliveries)
    },
  },
  probe: real.probe,
  close: async () => {
    await copy.close()
    await real.close()
  },
})
