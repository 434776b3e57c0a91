/** AGENT_SWARM_HOME: whose it is, its file of settings, and its id. */
import {
  chmodSync,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  type Stats,
  statSync,
} from 'node:fs'
import { homedir, userInfo } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { fail } from '../errors.ts'

/** AGENT_SWARM_HOME. Reads and makes nothing. */
export const homeIn = (environment: Readonly<Record<string, string | undefined>>): string =>
  environment.AGENT_SWARM_HOME || join(homedir(), '.agent-swarm')

/** The bot's database, and the runner's. */
export const storeFile = (home: string): string => join(home, 'bot.db')
export const registryFile = (home: string): string => join(home, 'registry.db')

/** Null on Windows, where a profile is private by its access list. */
const ourId = (): number | null => process.geteuid?.() ?? null
const octal = (mode: number) => mode.toString(8).padStart(4, '0')

/** Undefined: it does not exist yet. */
const look = (home: string): Stats | undefined => {
  try {
    return statSync(home, { throwIfNoEntry: false })
  } catch (error) {
    throw fail(
      'permission',
      `using AGENT_SWARM_HOME: ${error instanceof Error ? error.message : error}`,
      wayOn(`with a user who may enter ${home}`, home),
    )
  }
}
const wayOn = (who: string, home: string) => {
  const own = join(userInfo().homedir, '.agent-swarm')
  return `Run it ${who}. Or use a home of your own: AGENT_SWARM_HOME=${own === home ? '/a/private/folder' : own}`
}

/** Whether what is in it was written by us alone, so that it may be read before anything is checked. */
export const isOurs = (home: string): boolean => {
  try {
    return isAbsolute(home) && (ourId() === null || statSync(home).uid === ourId())
  } catch {
    return false
  }
}

/**
 * Makes sure that the home is for its owner alone: it holds keys and tokens, and code that we run. One of another user is
 * refused, also for root, who would leave files there that the owner cannot use, and run what the owner wrote; and so is another
 * user's link to our folder. Our own home, when it is open to others, is narrowed, and the returned sentence says so. Makes
 * nothing.
 */
export const secureHome = (home: string): string | null => {
  const [uid, stats] = [ourId(), isAbsolute(home) ? look(home) : undefined]
  if (uid === null || !stats?.isDirectory()) return null
  if (stats.uid !== uid)
    throw fail(
      'refused',
      `using AGENT_SWARM_HOME ${home}: it belongs to another user (${stats.uid})`,
      wayOn(`as that user: sudo -u '#${stats.uid}' agent-swarm …`, home),
    )
  const { uid: maker } = lstatSync(home)
  if (maker !== uid && maker !== 0)
    throw fail(
      'refused',
      `using AGENT_SWARM_HOME ${home}: it is a link that another user (${maker}) made`,
      `Use the folder itself: AGENT_SWARM_HOME=${realpathSync(home)}`,
    )
  const mode = stats.mode & 0o777
  if ((mode & 0o077) === 0) return null
  const mayPlant = (mode & 0o022) !== 0
  const foreign = mayPlant ? readdirSync(home).find(name => lstatSync(join(home, name)).uid !== uid) : undefined
  if (foreign !== undefined)
    throw fail(
      'refused',
      `using AGENT_SWARM_HOME ${home}: other users could write there (mode ${octal(mode)}), and ${JSON.stringify(foreign)} in it is not yours`,
      `Remove what is not yours, then: chmod 700 '${home.replaceAll("'", `'\\''`)}'`,
    )
  chmodSync(home, 0o700)
  // It holds compiled code, which others could have put there.
  if (mayPlant) rmSync(join(home, 'cache'), { recursive: true, force: true })
  return `AGENT_SWARM_HOME ${home} was open to other users (mode ${octal(mode)}). It is now for you alone (0700).`
}

/** The path of the file of settings, whether or not it exists. */
export const configFileIn = (home: string): string => join(home, 'config.yaml')
/** The most characters that the file of settings may have. */
export const MAX_CONFIG_FILE = 100_000

const HOME_ID = /^[0-9a-f]{16}$/
/** The global, since importing node:crypto takes a fifth of Node's own start, and a home gets its id once. */
const newHomeId = () => Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString('hex')

/** The home's id, which the marks of its machines hold: 16 random hex digits, made at the first use. */
export const homeId = async (home: string): Promise<string> => {
  const path = join(home, 'id')
  if (!existsSync(path)) (await import('../files.ts')).createFileAtomic(path, `${newHomeId()}\n`)
  const id = readFileSync(path, 'utf8').trim()
  if (!HOME_ID.test(id))
    throw fail(
      'not-configured',
      `reading ${path}: it does not hold 16 hex digits`,
      "Restore it from a backup: the marks of all machines hold this id. Without it, delete the file; the machines then count as another home's.",
    )
  return id
}
