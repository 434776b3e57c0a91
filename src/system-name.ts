/** The system of this host, for people who read a report of it. */
import { readFileSync, statSync } from 'node:fs'
import { version } from 'node:os'

const OS_RELEASE = '/etc/os-release'
const SYSTEM_VERSION = '/System/Library/CoreServices/SystemVersion.plist'

const readText = (path: string): string =>
  statSync(path, { throwIfNoEntry: false })?.isFile() === true ? readFileSync(path, 'utf8') : ''

type Host = { platform: NodeJS.Platform; read: (path: string) => string; version: () => string }
const thisHost: Host = { platform: process.platform, read: readText, version }

/** `Debian GNU/Linux 13 (trixie)`, `macOS 15.1`, `Windows 11 Pro`; null where nothing names it. */
export const systemName = ({ platform, read, version }: Host = thisHost): string | null => {
  // Node: "a string identifying the kernel version", on Windows the name of the edition.
  if (platform === 'win32') return version() || null
  if (platform === 'darwin') {
    const number = /<key>ProductVersion<\/key>\s*<string>([\d.]+)</.exec(read(SYSTEM_VERSION))?.[1]
    return number === undefined ? null : `macOS ${number}`
  }
  return /^PRETTY_NAME="?([^"\n]*)/m.exec(read(OS_RELEASE))?.[1] ?? null
}
