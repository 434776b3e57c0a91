import type { Provider } from '../../../providers/provider.ts'

/** A machine that is reached without SSH is a folder of the host: an agent there would work on the owner's own system. */
export const isOwnSystem = ({ runInGuest }: Pick<Provider, 'runInGuest'>): boolean => runInGuest !== undefined
export const OWN_SYSTEM = 'its machine is a folder on the owner’s own system, where agents do not run'
