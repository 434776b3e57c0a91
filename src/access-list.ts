/** Who may read a folder on Windows, by its access list. Names of users are in the system's language, so that ids are used. */
import { existsSync, mkdirSync, rmdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { isAbsolute } from 'node:path'
import { fail } from './errors.ts'
import type { Run } from './exec.ts'

const DEADLINE_MS = 15_000
const SID = /"(S-1-\d+(?:-\d+){1,14})"/
/** The system itself and administrators, who may read everything anyway: OpenSSH takes keys that they can read. */
const SYSTEM = ['S-1-5-18', 'S-1-5-32-544']
/** The same in the short form, and whoever owns a file. */
const SHORT = ['SY', 'BA', 'CO', 'OW']

const ownId = async (run: Run, doing: string): Promise<string> => {
  const { stdout } = await run('whoami', ['/user', '/fo', 'csv', '/nh'], { deadline: DEADLINE_MS, doing })
  const sid = SID.exec(stdout)?.[1]
  if (sid === undefined) throw fail('unknown', `${doing}: whoami names no id of this user`)
  return sid
}

const narrowing = (folder: string, sid: string): string[] => [
  ...[folder, '/inheritance:r', '/grant:r'],
  ...[sid, ...SYSTEM].map(who => `*${who}:(OI)(CI)F`),
]

/**
 * Takes a folder, with what will be made in it, from everybody but this user and the system. Elsewhere than on Windows, the mode of
 * a file does this.
 */
export const keepPrivate = async (
  run: Run,
  folder: string,
  platform: NodeJS.Platform = process.platform,
): Promise<void> => {
  if (platform !== 'win32') return
  const doing = `keeping ${folder} from other users`
  await run('icacls', narrowing(folder, await ownId(run, doing)), { deadline: DEADLINE_MS, doing })
}

/** Makes a home that Windows would not keep from other users: one outside of the profile. What is in it inherits its list. */
export const makePrivateHome = async (
  run: Run,
  home: string,
  { platform = process.platform, profile = homedir() } = {},
): Promise<void> => {
  const isWithin = `${home.toLowerCase()}\\`.startsWith(`${profile.toLowerCase()}\\`)
  if (platform !== 'win32' || isWithin || !isAbsolute(home) || existsSync(home)) return
  mkdirSync(home, { recursive: true })
  try {
    await keepPrivate(run, home, platform)
  } catch (error) {
    rmdirSync(home)
    throw error
  }
}

/** Whom an access list in Windows' text form (SDDL) lets in besides this user and the system. */
export const othersIn = (sddl: string, sid: string): string[] => {
  const list = /D:[A-Z_]*((?:\([^)]*\))*)/.exec(sddl)?.[1]
  // Without a list, everybody may do everything.
  if (list === undefined || /D:[A-Z_]*NO_ACCESS_CONTROL/.test(sddl)) return ['everybody']
  const known = [sid, ...SYSTEM, ...SHORT]
  const allowed = [...list.matchAll(/\(X?A;[^;]*;[^;]*;[^;]*;[^;]*;([^;)]+)/g)].map(([, who = '']) => who)
  // S-1-5-83: Hyper-V and its machines.
  return [...new Set(allowed)].filter(who => !known.includes(who) && !who.startsWith('S-1-5-83-'))
}

/** Whom a folder's access list lets in besides this user and the system, and the command that closes it, for both shells. */
export const openTo = async (run: Run, folder: string): Promise<{ others: string[]; remedy: string }> => {
  const doing = `reading who may read ${folder}`
  const sid = await ownId(run, doing)
  const command = '(Microsoft.PowerShell.Security\\Get-Acl -LiteralPath $env:AGENT_SWARM_FOLDER).Sddl'
  const { stdout } = await run('powershell.exe', ['-NoLogo', '-NoProfile', '-NonInteractive', '-Command', command], {
    ...{ deadline: 2 * DEADLINE_MS, doing, env: { AGENT_SWARM_FOLDER: folder } },
  })
  const [path = '', inheritance = '', grant = '', ...who] = narrowing(folder, sid)
  const words = [`"${path}"`, inheritance, grant, ...who.map(each => `"${each}"`)]
  return { others: othersIn(stdout, sid), remedy: `icacls ${words.join(' ')}` }
}
