/**
 * Machines as hosts of OpenSSH's own configuration, so that ssh, scp, rsync and editors reach them by their tickets. Once
 * installed, one file beside the person's configuration holds them, and one line in it includes that file. It is written
 * anew at the end of every operation that changed it. Nothing else in that folder is touched.
 */
import {
  closeSync,
  existsSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { type FailureError, fail, isFailure } from '../../errors.ts'
import type { InstalledSshConfig } from '../../registry/registry.ts'
import type { Environment, EnvironmentStatus } from '../../schema/environment.ts'
import type { RunnerContext } from '../context.ts'
import { sshOptions } from './guest.ts'

type Host = Pick<Environment, 'ticket' | 'provider' | 'vmId' | 'status' | 'ssh'>
type Kept = Pick<RunnerContext, 'home' | 'registry'>

// ── What it says ───────────────────────────────────────────────────────────────────────────────────────────────────

const noHostBecause = {
  running: ({ provider }: Host) => `runs on ${provider} and has no SSH address`,
  creating: () => 'is being made',
  stopped: ({ ticket }: Host) => `is stopped; to start it: agent-swarm start ${ticket}`,
  deleting: () => 'is being deleted',
  failed: ({ ticket }: Host) => `could not be made; to make it anew: agent-swarm create ${ticket}`,
  lost: ({ ticket }: Host) => `has lost its machine; to make a new one: agent-swarm create ${ticket}`,
} satisfies Record<EnvironmentStatus, (host: Host) => string>

/** Why it is no host, as a sentence about it without a full stop; null when it is one. */
export const noHostReason = (host: Host): string | null =>
  host.status === 'running' && host.ssh !== null ? null : `${host.ticket} ${noHostBecause[host.status](host)}`

/** The names that it goes by and what ssh is to do for them; null where it is no host. */
export const toHost = (home: string, host: Host): { names: string[]; options: [string, string][] } | null => {
  const { ticket, vmId, ssh } = host
  if (noHostReason(host) !== null || ssh === null) return null
  const address: [string, string] = ['HostName', ssh.host.replaceAll('%', '%%')]
  return { names: [ticket, ticket.toLowerCase()], options: [address, ...sshOptions(home, vmId, ssh)] }
}

/** Each environment as a block of an ssh configuration, or as a comment that says why it is none. */
export const hostsText = (home: string, hosts: readonly Host[]): string =>
  hosts
    .map(one => {
      const host = toHost(home, one)
      if (host === null) return `# ${noHostReason(one)}\n`
      return [`Host ${host.names.join(' ')}`, ...host.options.map(words => `  ${words.join(' ')}`), ''].join('\n')
    })
    .join('\n')

// ── The file that we keep ──────────────────────────────────────────────────────────────────────────────────────────

const keptIn = (folder: string) => join(folder, 'agent-swarm.config')
const KEPT_FOR = /^# agent-swarm keeps this file, for its home (.+)\n/

const keptText = ({ home, registry }: Kept) =>
  [
    `# agent-swarm keeps this file, for its home ${home}`,
    '# It is written anew at each change. To take it away: agent-swarm ssh --config --uninstall',
    '',
    hostsText(home, registry.environments()),
  ].join('\n')

/** The text of our file, or null where there is none. One that is not ours, or of another home, is refused. */
const readKept = (folder: string, home: string): string | null => {
  const path = keptIn(folder)
  const there = lstatSync(path, { throwIfNoEntry: false })
  if (there === undefined) return null
  const text = there.isFile() ? readFileSync(path, 'utf8') : ''
  const [, owner] = text.match(KEPT_FOR) ?? []
  if (owner === undefined)
    throw fail(
      'not-ours',
      `${path} is there and was not written by agent-swarm`,
      'Move it away, or give it another name.',
    )
  // A home that is gone keeps nothing.
  if (owner !== home && existsSync(owner))
    throw fail(
      'already-exists',
      `${path} is kept for another home of agent-swarm, ${owner}`,
      `Take that away first: AGENT_SWARM_HOME=${owner} agent-swarm ssh --config --uninstall. Or keep a file of your own: agent-swarm ssh --config > FILE, and ssh -F FILE.`,
    )
  return text
}

// ── The person's configuration ─────────────────────────────────────────────────────────────────────────────────────

/** Bytes as characters, one each: what we do not understand stays as it is. */
const asBytes = (text: string) => Buffer.from(text, 'utf8').toString('latin1')
const readBytes = (path: string) => (existsSync(path) ? readFileSync(path, 'latin1') : '')

const includeLine = (folder: string): string => {
  if (/["\\%$*?[\]{}\r\n]/.test(folder))
    throw fail(
      'not-configured',
      `ssh cannot be told to include a file in "${folder}"`,
      'Keep a file of your own: agent-swarm ssh --config > FILE, and ssh -F FILE.',
    )
  return `Include "${keptIn(folder)}"`
}

/** Whether our file is included already, where that holds for every host. */
const isIncluded = (config: string, folder: string): boolean => {
  const ours = [keptIn(folder), 'agent-swarm.config', '~/.ssh/agent-swarm.config'].map(asBytes)
  for (const line of config.split('\n')) {
    const [keyword = '', ...words] = [...line.matchAll(/"([^"]*)"|([^\s="]+)/g)].map(
      found => found[1] ?? found[2] ?? '',
    )
    if (/^(host|match)$/i.test(keyword)) return false
    if (/^include$/i.test(keyword) && words.some(word => ours.includes(word))) return true
  }
  return false
}

/** The file itself, where a link leads to it: some keep their configuration in another folder. */
const behindLinks = (path: string): string => {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return path
  const found = existsSync(path) ? realpathSync(path) : null
  if (found !== null && statSync(found).isFile()) return found
  throw fail('refused', `${path} is no file`, found === null ? 'It is a link to nothing.' : 'Move it away first.')
}

// ── Writing ────────────────────────────────────────────────────────────────────────────────────────────────────────

const errorCode = (error: unknown) => (error instanceof Error && 'code' in error ? String(error.code) : '')

const explained = (path: string, error: unknown): FailureError => {
  if (isFailure(error)) return error
  const code = errorCode(error)
  const said = error instanceof Error ? error.message : String(error)
  if (code === 'ENOSPC' || code === 'EDQUOT') return fail('disk-full', `writing ${path}: ${said}`, null, error)
  return ['EACCES', 'EPERM', 'EROFS'].includes(code)
    ? fail('permission', `writing ${path}: ${said}`, null, error)
    : fail('unknown', `writing ${path}: ${said}`, null, error)
}

/** A new file beside it that takes its place, with its mode and owner. */
const replace = (path: string, bytes: string): void => {
  const beside = `${path}.agent-swarm-new`
  // What an earlier write left that was killed.
  rmSync(beside, { force: true })
  const old = statSync(path, { throwIfNoEntry: false })
  const handle = openSync(beside, 'wx', 0o600)
  try {
    try {
      if (old !== undefined) {
        if (old.uid !== process.getuid?.() || old.gid !== process.getgid?.()) fchownSync(handle, old.uid, old.gid)
        fchmodSync(handle, old.mode & 0o7777)
      }
      writeFileSync(handle, bytes, 'latin1')
      fsyncSync(handle)
    } finally {
      closeSync(handle)
    }
    renameSync(beside, path)
  } catch (error) {
    rmSync(beside, { force: true })
    throw error
  }
}

/** Null takes the file away. Where nothing can be made beside it, or it is mounted by itself, it is written in place. */
const write = (path: string, bytes: string | null): void => {
  try {
    if (bytes === null) rmSync(path, { force: true })
    else replace(path, bytes)
  } catch (error) {
    if (bytes === null || !existsSync(path) || !['EACCES', 'EPERM', 'EBUSY', 'EXDEV'].includes(errorCode(error)))
      throw explained(path, error)
    try {
      writeFileSync(path, bytes, 'latin1')
    } catch (inPlace) {
      throw explained(path, inPlace)
    }
  }
}

// ── Install, keep, uninstall ───────────────────────────────────────────────────────────────────────────────────────

/** What it does, as a sentence without a subject. */
type Step = { says: string; does: () => void }
/** `text` is what our file then holds. */
type Plan = InstalledSshConfig & { steps: Step[]; text: string | null }

const writing = (says: string, path: string, bytes: string | null): Step => ({ says, does: () => write(path, bytes) })

/** What was installed, and what of it is ours. A registry that was lost does not know; our file tells whose it is. */
const installedFor = ({ home, registry }: Kept, folder: string): InstalledSshConfig | null =>
  registry.sshConfig() ?? (readKept(folder, home) === null ? null : { folder, made: ['include'] })

const planInstall = (world: Kept, folder: string): Plan => {
  const before = installedFor(world, folder)
  if (before !== null && before.folder !== folder && existsSync(keptIn(before.folder)))
    throw fail(
      'already-exists',
      `this home of agent-swarm keeps ${keptIn(before.folder)} already`,
      'Take that away first: agent-swarm ssh --config --uninstall',
    )
  const made = new Set(before?.folder === folder ? before.made : [])
  const text = keptText(world)
  const steps: Step[] = []
  if (!existsSync(folder)) {
    made.add('folder')
    steps.push({ says: `make ${folder}`, does: () => mkdirSync(folder, { recursive: true, mode: 0o700 }) })
  }
  const kept = keptIn(folder)
  if (readKept(folder, world.home) !== text) steps.push(writing(`write ${kept}`, kept, asBytes(text)))
  const path = behindLinks(join(folder, 'config'))
  const config = readBytes(path)
  const line = includeLine(folder)
  if (!existsSync(path)) made.add('config')
  if (!isIncluded(config, folder)) {
    made.add('include')
    const end = config.includes('\r\n') ? '\r\n' : '\n'
    steps.push(writing(`put one line at the top of ${path}: ${line}`, path, `${asBytes(line)}${end}${config}`))
  }
  return { folder, made: [...made], steps, text }
}

const planUninstall = (world: Kept, here: string): Plan => {
  const { folder, made } = installedFor(world, here) ?? { folder: here, made: [] }
  const steps: Step[] = []
  const path = behindLinks(join(folder, 'config'))
  const lines = readBytes(path).split(/(?<=\n)/)
  const line = includeLine(folder)
  const at = made.includes('include') ? lines.findIndex(one => one.replace(/\r?\n$/, '') === asBytes(line)) : -1
  if (at !== -1) {
    const rest = lines.toSpliced(at, 1).join('')
    steps.push(
      rest === '' && made.includes('config')
        ? writing(`remove ${path}`, path, null)
        : writing(`take one line out of ${path}: ${line}`, path, rest),
    )
  }
  const kept = keptIn(folder)
  if (readKept(folder, world.home) !== null) steps.push(writing(`remove ${kept}`, kept, null))
  if (made.includes('folder')) {
    const alone = () => existsSync(folder) && readdirSync(folder).length === 0
    steps.push({ says: `remove ${folder} if nothing else is in it`, does: () => alone() && rmdirSync(folder) })
  }
  return { folder, made, steps, text: null }
}

/** Held while files are read and written: of several processes, the last to write has seen the newest. */
const carryOut = (world: Kept, dryRun: boolean, plan: () => Plan, afterwards: (plan: Plan) => void): Plan =>
  world.registry.exclusively(() => {
    const planned = plan()
    if (dryRun) return planned
    for (const { does } of planned.steps) does()
    afterwards(planned)
    return planned
  })

type Asked = { folder: string; dryRun: boolean }

/** `folder` is the person's `.ssh`. Done twice, it changes nothing. */
export const installSshConfig = (world: Kept, { folder, dryRun }: Asked): Plan =>
  carryOut(
    world,
    dryRun,
    () => planInstall(world, folder),
    ({ made }) => world.registry.setSshConfig({ folder, made }),
  )

/** Without steps where nothing is installed. */
export const uninstallSshConfig = (world: Kept, { folder, dryRun }: Asked): Plan =>
  carryOut(
    world,
    dryRun,
    () => planUninstall(world, folder),
    () => world.registry.setSshConfig(null),
  )

/** Brings our file up to date with the registry. Where none is installed, this is one look into the registry. */
export const refreshSshConfig = (world: Kept): void => {
  if (world.registry.sshConfig() === null) return
  world.registry.exclusively(() => {
    const installed = world.registry.sshConfig()
    if (installed === null) return
    const text = keptText(world)
    if (readKept(installed.folder, world.home) !== text) write(keptIn(installed.folder), asBytes(text))
  })
}
