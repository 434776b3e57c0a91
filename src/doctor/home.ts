/** The checks of AGENT_SWARM_HOME: who may read it, its databases and their backups, and other homes on this host. */

import { existsSync, lstatSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { openTo } from '../access-list.ts'
import { listBackups } from '../backups.ts'
import { type Finding, ok, problem, warning } from '../check.ts'
import { DAY_MS } from '../clock.ts'
import type { Config } from '../config/config.ts'
import { registryFile, storeFile } from '../config/home.ts'
import { damaged, damageOf } from '../damage.ts'
import { openRun, type Run } from '../exec.ts'
import { listOtherHomes, readRegistry } from '../runner/reconciler/rebuild.ts'
import { peopleKeys } from '../runner/ssh/people-keys.ts'
import { shellWord } from '../shell-word.ts'
import { counted } from '../words.ts'
import type { Row } from './rows.ts'

/** With keys, tokens, ways to them, or what people and machines wrote. Images, downloads and empty files of locks are left out. */
const PRIVATE_FOLDERS = [
  ...['backups', 'files', 'links', 'logs', 'mirrors', 'model-keys', 'proven', 'rescued', 'ssh', 'transcripts'],
]
const PRIVATE_NAMES = [
  ...[/^config\.yaml$/, /\.pem$/, /^operator\.json$/],
  ...[/\.db(-wal|-shm)?$/, /\.db\.damaged-/, /^(rebuild|support)-/],
]
const isPrivate = (name: string): boolean =>
  PRIVATE_FOLDERS.includes(name) || PRIVATE_NAMES.some(pattern => pattern.test(name))
/** Files of `ssh/` that are looked at. */
const MOST = 10_000

const isOpen = (path: string): boolean => {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  return stats !== undefined && !stats.isSymbolicLink() && (stats.mode & 0o077) !== 0
}

/** By its access list: what is in it inherits that. */
export const checkWindowsHome = async (run: Run, home: string): Promise<Finding> => {
  const { others, remedy } = await openTo(run, home)
  return others.length === 0
    ? ok(`${home} is for its user alone`)
    : warning(`other users of this computer may read ${home}: ${others.slice(0, 5).join(', ')}`, remedy)
}

/** `secureHome` narrowed the home itself before any command began. */
const checkModes = async ({ home, environment }: Config): Promise<Finding> => {
  if (process.platform === 'win32') return checkWindowsHome(openRun(environment), home)
  const keys = join(home, 'ssh')
  const paths = [
    ...readdirSync(home).filter(isPrivate),
    ...(existsSync(keys) ? readdirSync(keys).filter(name => !name.endsWith('.pub')) : [])
      .slice(0, MOST)
      .map(name => join('ssh', name)),
  ].map(name => join(home, name))
  const open = paths.filter(isOpen)
  if (open.length === 0) return ok(`${home} is for its user alone`)
  const words = open.slice(0, 10).map(shellWord).join(' ')
  return warning(
    `other users may read ${open.length === 1 ? 'a file' : `${open.length} files`} in it, and only the closed home keeps them out: ${open[0]}`,
    `chmod go= ${words}`,
  )
}

const checkDatabase = (path: string): Finding | null => {
  const what = damageOf(path)
  if (what !== null) {
    const { message, remedy } = damaged('reading', path, what).failure
    return problem(message, remedy)
  }
  return existsSync(path) ? ok(`${path} is whole`) : null
}

const checkBackups = (path: string): Finding | null => {
  if (!existsSync(path)) return null
  const now = Date.now()
  const [newest] = listBackups(path, now)
  const start = 'A server that runs makes one a day: agent-swarm up'
  if (newest === undefined)
    return now - statSync(path).birthtimeMs < DAY_MS
      ? ok(`${path} is less than a day old, and has no backup yet`)
      : warning(`${path} has no backup yet`, start)
  const days = (now - newest.madeAt) / DAY_MS
  const text = `the newest backup of ${path} is of ${new Date(newest.madeAt).toISOString()}`
  if (days < 0) return warning(`${text}, which is still to come: a clock is or was wrong`, start)
  return days < 2 ? ok(text) : warning(`${text}, ${Math.floor(days)} days ago`, start)
}

/** Also when the registry is damaged or lost. */
const checkOtherHomes = (config: Config): Promise<Finding[]> =>
  readRegistry(config, async context =>
    (await listOtherHomes(context)).map(({ homeId, machines }) => {
      const names = machines.slice(0, 5).map(({ vmId, ticket }) => (ticket === null ? vmId : `${ticket} (${vmId})`))
      const more = machines.length > 5 ? `, and ${machines.length - 5} more` : ''
      const isOne = machines.length === 1
      const count = counted(machines.length, 'machine')
      return homeId === null
        ? warning(`${count} on this host ${isOne ? 'names' : 'name'} no home: ${names.join(', ')}${more}`)
        : warning(
            `${count} on this host ${isOne ? 'belongs' : 'belong'} to the home ${homeId}: ${names.join(', ')}${more}`,
            `Only if that home is lost, take them over: agent-swarm doctor --rebuild-registry --home-id ${homeId}`,
          )
    }),
  )

/** A file of keys that cannot be read keeps them out of machines, which work without them. */
const checkPeopleKeys = (config: Config): Finding | null => {
  const keys = peopleKeys(config)
  return keys === null ? null : ok(`${counted(keys.length, 'key')} of people for machines (authorizedKeys)`)
}

export const homeRows = (config: Config): Row[] => {
  const { home } = config
  if (!existsSync(home)) return []
  const row = (doing: string, run: Row['run'], more: Partial<Row> = {}): Row => ({
    subject: 'Home',
    doing,
    run,
    ...more,
  })
  const paths = [registryFile(home), storeFile(home)]
  return [
    row('looking at who may read the home', () => checkModes(config)),
    ...paths.map(path => row(`reading ${path}`, () => checkDatabase(path))),
    ...paths.map(path => row(`looking for backups of ${path}`, () => checkBackups(path))),
    row('reading the keys of people', () => checkPeopleKeys(config)),
    row('looking for machines of other homes', () => checkOtherHomes(config), { deadlineMs: 60_000 }),
  ]
}
