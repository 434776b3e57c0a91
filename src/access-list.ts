/** Who may read a folder on Windows, by its access list. */
import { fail } from './errors.ts'
import type { Run } from './exec.ts'

const DEADLINE_MS = 15_000
const SID = /"(S-1-\d+(?:-\d+){1,14})"/
/** The system itself and administrators, who may read everything anyway: OpenSSH takes keys that they can read. */
const SYSTEM = ['*S-1-5-18', '*S-1-5-32-544']

/**
 * Takes a folder, with what will be made in it, from everybody but this user and the system. Elsewhere than on Windows, the mode of
 * a file does this. Names of users are in the system's language, so that ids are used.
 */
export const keepPrivate = async (
  run: Run,
  folder: string,
  platform: NodeJS.Platform = process.platform,
): Promise<void> => {
  if (platform !== 'win32') return
  const doing = `keeping ${folder} from other users`
  const { stdout } = await run('whoami', ['/user', '/fo', 'csv', '/nh'], { deadline: DEADLINE_MS, doing })
  const sid = SID.exec(stdout)?.[1]
  if (sid === undefined) throw fail('unknown', `${doing}: whoami names no id of this user`)
  const grants = [`*${sid}`, ...SYSTEM].map(who => `${who}:(OI)(CI)F`)
  await run('icacls', [folder, '/inheritance:r', '/grant:r', ...grants], { deadline: DEADLINE_MS, doing })
}
