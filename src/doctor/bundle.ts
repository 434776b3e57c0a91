/**
 * What a support bundle holds: facts that help to find a fault, chosen one by one. Bodies of deliveries and comments, names of
 * people, addresses and secrets are not among them; each text is searched for every secret of this host besides.
 */

import {
  closeSync,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { version as kernel, release } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { Config } from '../config/config.ts'
import { storeFile } from '../config/home.ts'
import { failureOf } from '../errors.ts'
import { openRun, type Run } from '../exec.ts'
import { createFileAtomic } from '../files.ts'
import { openHide } from '../log.ts'
import { listEnvironments } from '../runner/context.ts'
import { readRegistry } from '../runner/reconciler/rebuild.ts'
import { SERVICE_NAMES } from '../service/system.ts'
import { lookAtStore } from '../store/sqlite/look.ts'
import { systemName } from '../system-name.ts'
import { examine } from './doctor.ts'
import { knownSecrets } from './secrets.ts'
import { shownSettings } from './shown-settings.ts'

/** Operations of the journal. */
const JOURNAL = 200
/** Bytes of the end of each log, and logs. */
const LOG_BYTES = 256 * 1024
const LOGS = 50
const LOG_LINES = '2000'
const MAX_BYTES = 64 * 1024 ** 2
const COMMAND_MS = 15_000

type Part = {
  /** The file in the bundle; of several, their folder. */
  name: string
  /** For people: what it holds. */
  holds: string
  /** Text of each file, by its name. Values that are no text become JSON. */
  collect(): Promise<unknown> | unknown
}
type Context = { config: Config; version: string; signal: AbortSignal; run: Run }

export const LEFT_OUT = [
  'credentials, keys and tokens, also inside texts',
  'environment variables',
  'bodies of deliveries and comments, and who asked for what',
  'files of machines, rescued work, and transcripts of agents',
] as const

/** What is in there, and may be nobody else's business. */
export const NAMED =
  'It names tickets, repositories, hosts, folders and the accounts of the bot, and quotes machines where something failed in them.'

// ── Versions and machines ──

const versionsOf = ({ version }: Context) => ({
  agentSwarm: version,
  node: process.version,
  platform: process.platform,
  arch: process.arch,
  kernel: `${release()} ${kernel()}`,
  system: systemName(),
  collectedAt: new Date().toISOString(),
})

const machinesOf = ({ config }: Context) =>
  readRegistry(config, async context => {
    const { environments, unread } = await listEnvironments(context, { usage: false })
    return {
      machines: environments.map(({ ticket, provider, vmId, baseImage, status, paused, createdAt, checkpoints }) => ({
        ...{ ticket, provider, vmId, baseImage, status, paused, createdAt },
        desired: context.registry.environment(ticket)?.desired ?? null,
        checkpoints: checkpoints.map(({ name, withMemory, sizeBytes }) => ({ name, withMemory, sizeBytes })),
      })),
      unread,
    }
  })

/** Who asked is left out. A failure may quote what a machine wrote. */
const journalOf = ({ config }: Context) =>
  readRegistry(config, async ({ registry }) =>
    registry
      .journalTail(JOURNAL)
      .map(({ id, ticket, vmId, kind, by, startedAt, endedAt, phases, result, outcome }) => ({
        ...{ id, ticket, vmId, kind, via: by.via, startedAt, endedAt, phases, result },
        failure: outcome?.result === 'failed' ? outcome.failure : null,
      })),
  )

// ── The bot ──

const storeOf = ({ config }: Context) => {
  const path = storeFile(config.home)
  if (!existsSync(path)) return null
  const look = lookAtStore(path)
  if (look === null) return { unread: 'it was written by another version' }
  return {
    ...look,
    // The reason of another verdict may quote what somebody wrote.
    deliveries: look.deliveries.map(({ reason, ...row }) =>
      row.verdict === null || row.verdict === 'failed' ? { ...row, reason: reason ?? null } : row,
    ),
    endedActions: look.endedActions.map(({ message, ...row }) => (row.result === 'failed' ? { ...row, message } : row)),
  }
}

// ── Logs ──

/** The end of a key whose beginning was cut off. */
const END_OF_KEY = /^(?:(?!-----BEGIN )[\s\S])*?-----END [A-Z ]*PRIVATE KEY-----/

const tailOf = (path: string): string => {
  const file = openSync(path, 'r')
  try {
    const { size } = fstatSync(file)
    const bytes = Buffer.alloc(Math.min(size, LOG_BYTES))
    readSync(file, bytes, 0, bytes.length, Math.max(0, size - bytes.length))
    const text = bytes.toString('utf8')
    // The first line may be half a secret, and the first lines half a key.
    return size > LOG_BYTES ? text.slice(text.indexOf('\n') + 1).replace(END_OF_KEY, '[redacted]') : text
  } finally {
    closeSync(file)
  }
}

/** Of commands in the background; and of services, where no journal keeps them (`up.log`, and `up.log.1` before it). */
const logsIn = ({ config }: Context, name: 'logs' | 'service'): Record<string, string> => {
  const folder = join(config.home, name)
  const names = existsSync(folder)
    ? readdirSync(folder).filter(name => /^[A-Za-z0-9~_-]+\.log(?:\.1)?$/.test(name))
    : []
  const files = names.map(name => ({ name, path: join(folder, name), stats: lstatSync(join(folder, name)) }))
  return Object.fromEntries(
    files
      .filter(({ stats }) => stats.isFile())
      .sort((a, b) => b.stats.mtimeMs - a.stats.mtimeMs)
      .slice(0, LOGS)
      .map(({ name, path }) => [name, tailOf(path)]),
  )
}

/** Of `agent-swarm service install`, and the one that people wrote themselves. A pattern that matches none would fail. */
const UNITS = ['agent-swarm', ...SERVICE_NAMES.map(name => `agent-swarm-${name}`)].map(name => `${name}.service`)

/** Where systemd keeps services: those of the system, as far as this user may read them, and of this user. */
const serviceLog = async ({ run, signal }: Context): Promise<string | null> => {
  if (process.platform !== 'linux') return null
  const units = UNITS.flatMap(unit => [`--unit=${unit}`, `--user-unit=${unit}`])
  const argv = [...units, `--lines=${LOG_LINES}`, '--output=short-iso', '--no-pager', '--quiet']
  const { stdout } = await run('journalctl', argv, {
    deadline: COMMAND_MS,
    signal,
    doing: 'reading the log of the service',
  })
  return stdout
}

const partsOf = (context: Context): Part[] => [
  { name: 'versions.json', holds: 'versions of agent-swarm, Node and the system', collect: () => versionsOf(context) },
  {
    name: 'doctor.json',
    holds: 'what agent-swarm doctor says, with the versions of the hypervisor',
    collect: async () => ({ checks: await examine(context.config, context.signal) }),
  },
  {
    name: 'settings.json',
    holds: 'some settings; of all others whether they are set',
    collect: () => shownSettings(context.config),
  },
  { name: 'machines.json', holds: 'machines and their checkpoints', collect: () => machinesOf(context) },
  { name: 'journal.json', holds: `the last ${JOURNAL} operations on machines`, collect: () => journalOf(context) },
  {
    name: 'bot.json',
    holds: 'counts and rows of inbox, queue and outbox, without bodies',
    collect: () => storeOf(context),
  },
  { name: 'logs', holds: 'ends of the logs of commands in the background', collect: () => logsIn(context, 'logs') },
  { name: 'service', holds: 'ends of the log files of services', collect: () => logsIn(context, 'service') },
  { name: 'service.log', holds: 'the end of what the journal has of services', collect: () => serviceLog(context) },
]

// ── The file ──

type Written = { name: string; holds: string; bytes: number }
export type Bundle = { file: string; bytes: number; contents: Written[]; missing: { name: string; why: string }[] }

const readme = ({ contents, missing }: Pick<Bundle, 'contents' | 'missing'>): string =>
  [
    'Collected by agent-swarm support-bundle.',
    '',
    ...contents.map(({ name, holds }) => `${name}: ${holds}`),
    ...missing.map(({ name, why }) => `${name}: not here, because ${why}`),
    '',
    `Not in here: ${LEFT_OUT.join('; ')}.`,
    `${NAMED} Look through it before you send it.`,
    '',
  ].join('\n')

const asFiles = (name: string, value: unknown): [name: string, text: string][] => {
  if (value === null || value === '') return []
  if (typeof value === 'string') return [[name, value]]
  if (name.endsWith('.json')) return [[name, `${JSON.stringify(value, null, 2)}\n`]]
  return Object.entries(value as Record<string, string>).map(([file, text]) => [join(name, file), text])
}

/** Fills the folder. What cannot be collected keeps nothing else out. */
const fill = async (context: Context, folder: string): Promise<Pick<Bundle, 'contents' | 'missing'>> => {
  const hide = openHide(knownSecrets(context.config))
  const contents: Written[] = []
  const missing: Bundle['missing'] = []
  const write = (name: string, text: string): number => {
    mkdirSync(join(folder, name, '..'), { recursive: true, mode: 0o700 })
    const clean = hide(text)
    writeFileSync(join(folder, name), clean, { mode: 0o600 })
    return Buffer.byteLength(clean)
  }
  for (const { name, holds, collect } of partsOf(context)) {
    try {
      const files = asFiles(name, await collect())
      const bytes = files.reduce((sum, [file, text]) => sum + write(file, text), 0)
      if (files.length > 0) contents.push({ name, holds, bytes })
    } catch (error) {
      context.signal.throwIfAborted()
      missing.push({ name, why: hide(failureOf(error, `collecting ${name}`).message) })
    }
  }
  write('README.txt', readme({ contents, missing }))
  return { contents, missing }
}

/** Writes `file`, for its owner alone; false when it exists. `name`: of the folder inside. */
export const writeBundle = async (
  config: Config,
  { file, name, version, signal }: { file: string; name: string; version: string; signal: AbortSignal },
): Promise<Bundle | null> => {
  const run = openRun(config.environment, { interrupt: signal })
  const root = mkdtempSync(join(config.home, 'support-'))
  try {
    const collected = await fill({ config, version, signal, run }, join(root, name))
    const tar = join(root, 'bundle.tar')
    await run('tar', ['-cf', '-', '-C', root, name], {
      into: { file: tar, limit: MAX_BYTES },
      signal,
      doing: 'packing the support bundle',
    })
    const packed = gzipSync(readFileSync(tar))
    return createFileAtomic(file, packed) ? { file, bytes: packed.length, ...collected } : null
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}
