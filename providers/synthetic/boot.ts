/** Which boot of this host it is: a synthetic machine runs until the host goes down, as a real one does. */
import { existsSync, readFileSync } from 'node:fs'
import { uptime } from 'node:os'

/** Linux's own; 128 random bits for each boot, of which these are plenty. */
const BOOT_ID = '/proc/sys/kernel/random/boot_id'
const DIGITS = 12
/** Where a boot has no id, it is known by its time. A clock that is set moves it. Seconds. */
const CLOCK_TOLERANCE = 120

/** 12 hex digits; elsewhere than on Linux, those of the time of the boot. */
export const currentBoot = (): string =>
  existsSync(BOOT_ID)
    ? readFileSync(BOOT_ID, 'utf8').replaceAll('-', '').slice(0, DIGITS)
    : Math.round(Date.now() / 1000 - uptime())
        .toString(16)
        .padStart(DIGITS, '0')

/** `byTime`: both are times. */
export const isSameBoot = (one: string, other: string, byTime = !existsSync(BOOT_ID)): boolean =>
  one === other || (byTime && Math.abs(Number.parseInt(one, 16) - Number.parseInt(other, 16)) <= CLOCK_TOLERANCE)
