/** Addresses that guests report. */
import { parseAddress } from '../ipv4.ts'

/** A guest's address among those that it or the host reports: IPv4, and not one that it gave itself. */
export const usableAddress = (texts: readonly string[]): string | null =>
  texts.find(text => parseAddress(text) !== null && !/^(?:169\.254|0|127)\./.test(text)) ?? null
