/** Looks follow each other at once: an EC2 of ours counts looks, not seconds. In place of `node:timers/promises`. */
const next = () => new Promise<void>(resolve => setImmediate(resolve))
export const noPauses = () => ({ setTimeout: next, setImmediate: next })
