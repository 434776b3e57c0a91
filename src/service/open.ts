/** The service of this host: what it starts, and the system that keeps it running. */
import { findPackageJSON } from 'node:module'
import { homedir, userInfo } from 'node:os'
import { dirname, isAbsolute, join } from 'node:path'
import { fail } from '../errors.ts'
import { openLaunchd } from './launchd.ts'
import { stableNodePath } from './node-path.ts'
import type { Host, Launch, ServiceName, ServiceSystem, User } from './system.ts'
import { openSystemd } from './systemd.ts'
import { openTaskScheduler } from './task-scheduler.ts'

/** `user`, `home`: of a system unit that is another user's. */
export type Wanted = { name: ServiceName; system: boolean; user: string | null; home: string | null }

/** In a package this file lies one folder deeper than in a checkout. */
const entryPath = (): string => {
  const entry = join(dirname(findPackageJSON(import.meta.url) ?? '.'), 'bin', 'agent-swarm.js')
  if (/[/\\]_npx[/\\]/.test(entry))
    throw fail(
      'refused',
      `making a service: this copy of agent-swarm lies in a cache of npx, ${entry}`,
      'Install the package first: docs/install.md',
    )
  return entry
}

const caller = ({ environment, platform }: Host): User => {
  // On Windows, HOME is Git's or the company's, and not where agent-swarm's own home is.
  const home = (platform === 'win32' ? environment.USERPROFILE : environment.HOME) || homedir()
  try {
    const { username, uid } = userInfo()
    return { name: username, uid, home }
  } catch {
    throw fail(
      'unsupported',
      'making a service: the user id of this process has no name',
      'Run it as a user of this system.',
    )
  }
}

/** Of another user: `name:password:uid:gid:comment:home:shell`, as getent prints it. */
const userNamed = async ({ run }: Host, name: string): Promise<User> => {
  const doing = `looking for the user ${name}`
  const { stdout } = await run('getent', ['passwd', '--', name], { doing, answers: [2] })
  const [found, , uid, , , home] = stdout.trim().split(':')
  if (found === undefined || found === '' || home === undefined || !/^\d+$/.test(uid ?? ''))
    throw fail('usage', `${doing}: this system has none`, 'Make it first: useradd --system --create-home NAME')
  return { name: found, uid: Number(uid), home }
}

const refuseSystem = (label: string, why: string) =>
  fail('unsupported', `--system: ${label} keeps only a service of your own. ${why}`, 'Leave out --system.')

export const openService = async (host: Host, { name, system, user, home }: Wanted): Promise<ServiceSystem> => {
  const own = caller(host)
  if (!system && own.uid === 0 && (host.environment.SUDO_UID ?? '') !== '')
    throw fail(
      'refused',
      'making a service with sudo: it would be one of root, with the settings of root',
      'For one of your own, run it without sudo. For a unit of the system, on Linux: add --system, and --user NAME.',
    )
  const launch = async (): Promise<Launch> => {
    const owner = user === null || user === own.name ? own : await userNamed(host, user)
    const folder = home ?? (owner === own ? host.environment.AGENT_SWARM_HOME : undefined) ?? ''
    const absolute = folder === '' ? join(owner.home, '.agent-swarm') : folder
    if (!isAbsolute(absolute)) throw fail('usage', `The home must be an absolute path, not "${absolute}".`)
    return { name, node: stableNodePath(process.execPath), entry: entryPath(), home: absolute, user: owner }
  }
  if (!system && (user !== null || home !== null))
    throw fail('usage', '--user and --user-home are for a unit of the system.', 'Add --system, as root.')
  if (host.platform === 'darwin') {
    if (system) throw refuseSystem('launchd', 'Tart starts machines only in your log-in.')
    return openLaunchd(host, await launch())
  }
  if (host.platform === 'win32') {
    if (system) throw refuseSystem('the Task Scheduler', 'It runs without a log-in all the same.')
    return openTaskScheduler(host, await launch())
  }
  return openSystemd(host, { ...(await launch()), scope: system ? 'system' : 'user' })
}
