/**
 * The hosts in a person's own ssh configuration. An install writes our file into their `.ssh`, and one line into their
 * `config` that includes it. Our file is written again after every operation that changed it; nothing else there is touched.
 */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { fail } from '../../errors.ts'
import { writeFileAtomic } from '../../files.ts'
import type { InstalledSshConfig } from '../../registry/meta.ts'
import type { Registry } from '../../registry/registry.ts'
import { hostOf, hostsText } from './config-text.ts'
import { printable } from './options.ts'

type Context = {
  home: string
  registry: Pick<Registry, 'environments' | 'idlenessByTicket' | 'sshConfig' | 'setSshConfig' | 'exclusively'>
}

const USE_OWN_FILE = 'Or write a file of your own: agent-swarm ssh --config > FILE, and use ssh -F FILE.'

// ── Our file ──

const ourFile = (folder: string) => join(folder, 'agent-swarm.config')
const HEADER = /^# agent-swarm keeps this file, for its home (.+)\n/

const ourText = ({ home, registry }: Context) => {
  const idleness = registry.idlenessByTicket()
  return [
    printable(`# agent-swarm keeps this file, for its home ${home}`),
    '# It is written again after each change. Remove it with: agent-swarm ssh --config --uninstall',
    '',
    hostsText(
      home,
      registry.environments().map(row => hostOf(row, idleness.get(row.ticket))),
    ),
  ].join('\n')
}

/** The text of our file; null when there is none. Throws for a file of somebody else or of another home. */
const readOurFile = (folder: string, home: string): string | null => {
  const path = ourFile(folder)
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (stats === undefined) return null
  const text = stats.isFile() ? readFileSync(path, 'utf8') : ''
  const [, owner] = text.match(HEADER) ?? []
  if (owner === undefined)
    throw fail('not-ours', `${path} exists and was not written by agent-swarm`, 'Move or rename it first.')
  // A home that was deleted keeps no file.
  if (owner !== home && existsSync(owner))
    throw fail(
      'already-exists',
      `${path} belongs to another home of agent-swarm, ${owner}`,
      `Remove it first: AGENT_SWARM_HOME=${owner} agent-swarm ssh --config --uninstall. ${USE_OWN_FILE}`,
    )
  return text
}

// ── The person's configuration ──

/** Bytes as characters, one each, so that text in any encoding survives. */
const asBytes = (text: string) => Buffer.from(text, 'utf8').toString('latin1')
const readBytes = (path: string) => (existsSync(path) ? readFileSync(path, 'latin1') : '')

const includeLine = (folder: string): string => {
  if (/["\\%$*?[\]{}\p{C}\p{Zl}\p{Zp}]/u.test(folder))
    throw fail('not-configured', `ssh cannot include a file from the folder "${folder}"`, USE_OWN_FILE.slice(3))
  return `Include "${ourFile(folder)}"`
}

/** Whether a line before the first `Host` or `Match`, where it counts for every host, includes our file. */
const isIncluded = (config: string, folder: string): boolean => {
  const ours = [ourFile(folder), 'agent-swarm.config', '~/.ssh/agent-swarm.config'].map(asBytes)
  for (const line of config.split('\n')) {
    const [keyword = '', ...words] = [...line.matchAll(/"([^"]*)"|([^\s="]+)/g)].map(
      match => match[1] ?? match[2] ?? '',
    )
    if (/^(host|match)$/i.test(keyword)) return false
    if (/^include$/i.test(keyword) && words.some(word => ours.includes(word))) return true
  }
  return false
}

/** The file that a link leads to: some people keep their configuration in another folder. */
const resolveLinks = (path: string): string => {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return path
  const target = existsSync(path) ? realpathSync(path) : null
  if (target !== null && statSync(target).isFile()) return target
  throw fail(
    'refused',
    `${path} is not a file`,
    target === null ? 'It is a link that leads nowhere: remove it first.' : 'Move it away first.',
  )
}

/** Writes in place where no file can be made beside it, or where it is a mount of its own. */
const write = (path: string, bytes: string): void => {
  const content = Buffer.from(bytes, 'latin1')
  // A person who removed the folder does not get it back.
  if (!existsSync(dirname(path)))
    throw fail(
      'unknown',
      `writing ${path}: ENOENT: its folder does not exist`,
      'Remove the hosts: agent-swarm ssh --config --uninstall',
    )
  try {
    writeFileAtomic(path, content)
  } catch (error) {
    const cause = error instanceof Error ? error.cause : null
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : ''
    if (!existsSync(path) || !['EACCES', 'EPERM', 'EBUSY', 'EXDEV'].includes(code)) throw error
    try {
      writeFileSync(path, content)
    } catch {
      throw error
    }
  }
}

// ── Install, uninstall, refresh ──

/** `description`: an imperative sentence without a full stop. */
type Step = { description: string; run: () => void }
/** `text`: the content of our file afterwards. */
type Plan = InstalledSshConfig & { steps: Step[]; text: string | null }

/** What an install did. When the registry was lost, our file still shows that it is installed for this home. */
const findInstalled = ({ home, registry }: Context, folder: string): InstalledSshConfig | null =>
  registry.sshConfig() ?? (readOurFile(folder, home) === null ? null : { folder, made: ['include'] })

const planInstall = (context: Context, folder: string): Plan => {
  const before = findInstalled(context, folder)
  if (before !== null && before.folder !== folder && existsSync(ourFile(before.folder)))
    throw fail(
      'already-exists',
      `this home of agent-swarm already keeps ${ourFile(before.folder)}`,
      'Remove that first: agent-swarm ssh --config --uninstall',
    )
  const made = new Set(before?.folder === folder ? before.made : [])
  const text = ourText(context)
  const steps: Step[] = []
  if (!existsSync(folder)) {
    made.add('folder')
    steps.push({ description: `make ${folder}`, run: () => mkdirSync(folder, { recursive: true, mode: 0o700 }) })
  }
  const ours = ourFile(folder)
  if (readOurFile(folder, context.home) !== text)
    steps.push({ description: `write ${ours}`, run: () => write(ours, asBytes(text)) })
  const path = resolveLinks(join(folder, 'config'))
  const config = readBytes(path)
  const line = includeLine(folder)
  if (!existsSync(path)) made.add('config')
  if (!isIncluded(config, folder)) {
    made.add('include')
    const lineEnd = config.includes('\r\n') ? '\r\n' : '\n'
    steps.push({
      description: `add one line at the top of ${path}: ${line}`,
      run: () => write(path, `${asBytes(line)}${lineEnd}${config}`),
    })
  }
  return { folder, made: [...made], steps, text }
}

const removal = (path: string): Step => ({
  description: `remove ${path}`,
  run: () => {
    try {
      rmSync(path, { force: true })
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      throw fail('permission', `removing ${path}: ${message}`, 'Check who may write in its folder.', error)
    }
  },
})

const planUninstall = (context: Context, requested: string): Plan => {
  const { folder, made } = findInstalled(context, requested) ?? { folder: requested, made: [] }
  const steps: Step[] = []
  const path = resolveLinks(join(folder, 'config'))
  const lines = readBytes(path).split(/(?<=\n)/)
  const line = includeLine(folder)
  const index = made.includes('include') ? lines.findIndex(text => text.replace(/\r?\n$/, '') === asBytes(line)) : -1
  if (index !== -1) {
    const rest = lines.toSpliced(index, 1).join('')
    steps.push(
      rest === '' && made.includes('config')
        ? removal(path)
        : { description: `remove one line from ${path}: ${line}`, run: () => write(path, rest) },
    )
  }
  const ours = ourFile(folder)
  if (readOurFile(folder, context.home) !== null) steps.push(removal(ours))
  if (made.includes('folder')) {
    const isEmpty = () => existsSync(folder) && readdirSync(folder).length === 0
    steps.push({ description: `remove ${folder} if it is empty`, run: () => isEmpty() && rmdirSync(folder) })
  }
  return { folder, made, steps, text: null }
}

/** `folder`: the person's `.ssh`. `dryRun`: return the plan, and change nothing. */
type Request = { folder: string; dryRun: boolean }

/** Plans and writes in one transaction of the registry: of several processes, the last one to write has read the newest state. */
const carryOut =
  (makePlan: (context: Context, folder: string) => Plan) =>
  (context: Context, { folder, dryRun }: Request): Plan =>
    context.registry.exclusively(() => {
      const plan = makePlan(context, folder)
      if (dryRun) return plan
      for (const step of plan.steps) step.run()
      context.registry.setSshConfig(plan.text === null ? null : { folder, made: plan.made })
      return plan
    })

/** Has no steps when everything is installed already. */
export const installSshConfig = carryOut(planInstall)
/** Has no steps when nothing is installed. */
export const uninstallSshConfig = carryOut(planUninstall)

/** Brings our file up to date with the registry. Costs one read of the registry when nothing is installed. */
export const refreshSshConfig = (context: Context): void => {
  if (context.registry.sshConfig() === null) return
  context.registry.exclusively(() => {
    const installed = context.registry.sshConfig()
    if (installed === null) return
    const text = ourText(context)
    if (readOurFile(installed.folder, context.home) !== text) write(ourFile(installed.folder), asBytes(text))
  })
}
