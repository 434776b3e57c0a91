/**
 * The hosts in a person's own ssh configuration. An install writes our file into their `.ssh`, and one line into their
 * `config` that includes it. Our file is written again after every operation that changed it; nothing else there is touched.
 */
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs'
import { fail } from '../../errors.ts'
import type { InstalledSshConfig } from '../../registry/meta.ts'
import type { Registry } from '../../registry/registry.ts'
import { hostOf, hostsText } from './config-text.ts'
import { printable } from './options.ts'
import {
  asBytes,
  excludeSteps,
  includeSteps,
  ownHostsFile,
  removal,
  type Step,
  USE_OWN_FILE,
  write,
} from './person-config.ts'

type Context = {
  home: string
  registry: Pick<Registry, 'environments' | 'idlenessByTicket' | 'sshConfig' | 'setSshConfig' | 'exclusively'>
}

// ── Our file ──

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
  const path = ownHostsFile(folder)
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

// ── Install, uninstall, refresh ──

/** `text`: the content of our file afterwards. */
type Plan = InstalledSshConfig & { steps: Step[]; text: string | null }

/** What an install did. When the registry was lost, our file still shows that it is installed for this home. */
const findInstalled = ({ home, registry }: Context, folder: string): InstalledSshConfig | null =>
  registry.sshConfig() ?? (readOurFile(folder, home) === null ? null : { folder, made: ['include'] })

const planInstall = (context: Context, folder: string): Plan => {
  const before = findInstalled(context, folder)
  if (before !== null && before.folder !== folder && existsSync(ownHostsFile(before.folder)))
    throw fail(
      'already-exists',
      `this home of agent-swarm already keeps ${ownHostsFile(before.folder)}`,
      'Remove that first: agent-swarm ssh --config --uninstall',
    )
  const made = new Set(before?.folder === folder ? before.made : [])
  const text = ourText(context)
  const steps: Step[] = []
  if (!existsSync(folder)) {
    made.add('folder')
    steps.push({ description: `make ${folder}`, run: () => mkdirSync(folder, { recursive: true, mode: 0o700 }) })
  }
  const ours = ownHostsFile(folder)
  if (readOurFile(folder, context.home) !== text)
    steps.push({ description: `write ${ours}`, run: () => write(ours, asBytes(text)) })
  const included = includeSteps(ours)
  for (const each of included.made) made.add(each)
  return { folder, made: [...made], steps: [...steps, ...included.steps], text }
}

const planUninstall = (context: Context, requested: string): Plan => {
  const { folder, made } = findInstalled(context, requested) ?? { folder: requested, made: [] }
  const ours = ownHostsFile(folder)
  const steps = made.includes('include') ? excludeSteps(ours, made.includes('config')) : []
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
    if (readOurFile(installed.folder, context.home) !== text) write(ownHostsFile(installed.folder), asBytes(text))
  })
}
