import type { Listing } from '../runner/context.ts'

/** The hypervisor's reason why the machine is paused; null when it is not. No provider reports one yet. */
export const pausedOf = (_listed: Listing['environments'][number]): string | null => null
