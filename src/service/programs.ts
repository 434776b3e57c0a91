/** The programs of a unit of the system: root starts what they hold, and its user must be able to read them. */
import { realpathSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { fail } from '../errors.ts'
import type { User } from './system.ts'

/** The file and every folder above it. */
const pathsTo = (path: string): string[] => (dirname(path) === path ? [path] : [...pathsTo(dirname(path)), path])

/** Throws `refused` when somebody else than root and the user may replace a program, or the user may not read it. */
export const checkPrograms = (user: User, programs: readonly string[]): void => {
  for (const program of programs)
    for (const path of pathsTo(realpathSync(program))) {
      const { uid, mode } = statSync(path)
      const isOwn = uid === user.uid
      // In a folder like /tmp, only its owner replaces a file.
      const isOpen = (mode & 0o002) !== 0 && (mode & 0o1000) === 0
      const why =
        uid !== 0 && !isOwn
          ? `belongs to the user ${uid}, who could replace it`
          : isOpen
            ? 'is open for writing to every user'
            : (mode & 0o055) === 0 && !isOwn && user.uid !== 0
              ? `is closed to ${user.name}`
              : null
      if (why === null) continue
      throw fail(
        'refused',
        `making a unit of the system for ${user.name}, which starts ${program}: ${path} ${why}`,
        'Install Node and agent-swarm for all users of this host, as root, for example below /usr/local (docs/install.md).',
      )
    }
}
