/** IPv4 addresses and ranges. */
import { check, pipe, string } from 'valibot'

/** A range of addresses. One address has 32 bits. */
export type Range = { base: number; bits: number }

const ADDRESS = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/

export const parseAddress = (text: string): number | null => {
  const parts = text.match(ADDRESS)?.slice(1).map(Number)
  if (parts === undefined || parts.some(part => part > 255)) return null
  return parts.reduce((sum, part) => sum * 256 + part, 0)
}
export const addressText = (address: number): string =>
  [24, 16, 8, 0].map(shift => Math.floor(address / 2 ** shift) % 256).join('.')

/** `10.1.0.0/16`; null when it is not a range: an address inside one is not (`10.1.2.3/16`). */
export const parseRange = (text: string): Range | null => {
  const [address = '', length = ''] = text.split('/')
  const [base, bits] = [parseAddress(address), Number(length)]
  if (base === null || !/^\d{1,2}$/.test(length) || bits > 32) return null
  return base % 2 ** (32 - bits) === 0 ? { base, bits } : null
}
export const rangeOf = (address: number, bits: number): Range => ({
  base: address - (address % 2 ** (32 - bits)),
  bits,
})
export const rangeText = ({ base, bits }: Range): string => `${addressText(base)}/${bits}`

export const covers = (outer: Range, inner: Range): boolean =>
  outer.bits <= inner.bits && rangeOf(inner.base, outer.bits).base === outer.base
export const overlap = (a: Range, b: Range): boolean => covers(a, b) || covers(b, a)
export const isIn = (address: number, range: Range): boolean => covers(range, { base: address, bits: 32 })

const RANGE_MESSAGE = 'is not a range of IPv4 addresses (write 10.1.0.0/16; one address is 10.1.0.5/32)'
/** A range that an operator opens to machines: a /8 at most, since what is larger is no private network. */
export const openedRange = pipe(
  string(RANGE_MESSAGE),
  check(text => (parseRange(text)?.bits ?? 0) >= 8, RANGE_MESSAGE),
)
