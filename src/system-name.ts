/** The system of this host, for people who read a report of it. */
import { existsSync, readFileSync } from 'node:fs'

const OS_RELEASE = '/etc/os-release'

/** `Debian GNU/Linux 13 (trixie)`; null where no file names it. */
export const systemName = (): string | null => {
  const text = existsSync(OS_RELEASE) ? readFileSync(OS_RELEASE, 'utf8') : ''
  return /^PRETTY_NAME="?([^"\n]*)/m.exec(text)?.[1] ?? null
}
