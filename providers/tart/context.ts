/** What the functions of this provider work with, the one way to call Tart, and the one way to look at a machine. */
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { VM_ID } from '../../src/domain.ts'
import { fail, isFailure } from '../../src/errors.ts'
import type { RunOptions } from '../../src/exec.ts'
import type { Tools } from '../provider.ts'
import { explainTart, INSTALL_TART } from './explain.ts'
import { type CheckpointMark, type MachineMark, type MachinePart, type Mark, parseVmName, vmName } from './marks.ts'
import { type ListedVm, parseList } from './parse.ts'
import type { TartSettings } from './settings.ts'

/** What tests replace: macOS' own paths, and how long a guest may take. */
export type Host = {
  /** Where Homebrew installs on Apple silicon; launchd's PATH lacks it. */
  homebrew: string
  /** The leases of macOS' DHCP server. */
  leases: string
  /** Milliseconds after which a guest that has not shut down is powered off. */
  graceMs: number
}
export const THIS_MAC: Host = { homebrew: '/opt/homebrew/bin', leases: '/var/db/dhcpd_leases', graceMs: 60_000 }

export type Context = Tools<TartSettings> & { host: Host }

/** Where Tart keeps everything. */
export const tartHome = ({ settings }: Pick<Context, 'settings'>): string =>
  settings.tartHome ?? join(homedir(), '.tart')
/** Tart's own layout: what is missing there is unknown. */
export const vmFile = (context: Context, name: string, file: 'config.json' | 'disk.img'): string =>
  join(tartHome(context), 'vms', name, file)

/**
 * Set to anything, it keeps a clone from deleting images of the cache. The folder may come from config.yaml; without it, Tart has
 * its own default.
 */
export const tartEnvironment = ({ settings }: Context): Record<string, string> => ({
  TART_NO_AUTO_PRUNE: '1',
  ...(settings.tartHome === null ? {} : { TART_HOME: settings.tartHome }),
})

/** Runs `tart`. Where PATH lacks it, that of Homebrew. */
export const runTart = async (context: Context, argv: readonly string[], options: RunOptions = {}): Promise<string> => {
  const { run, host } = context
  const given: RunOptions = { explain: explainTart, ...options, env: tartEnvironment(context) }
  const begin = async (program: string) => (await run(program, argv, given)).stdout
  return begin('tart').catch(error => {
    if (!isFailure(error) || error.failure.kind !== 'provider-missing') throw error
    const program = join(host.homebrew, 'tart')
    if (existsSync(program)) return begin(program)
    throw fail('provider-missing', error.failure.message, INSTALL_TART, error)
  })
}

// ── Look ──

const LIST = ['list', '--source', 'local', '--format', 'json']
/** A VM that vanishes meanwhile fails the whole list. */
const LIST_TRIES = 3

export type Vm = ListedVm & { mark: Mark | null }
export type VmOf<Kind extends Mark> = ListedVm & { mark: Kind }

/** All local VMs, of anybody. */
export const listAll = async (context: Context, doing = 'listing the machines'): Promise<Vm[]> => {
  for (let tries = 1; ; tries += 1) {
    try {
      const vms = parseList(await runTart(context, LIST, { doing }))
      if (vms === null) throw fail('unknown', `${doing}: tart printed something else than a list`)
      return vms.map(vm => ({ ...vm, mark: parseVmName(vm.name) }))
    } catch (error) {
      const isFinal = isFailure(error) && ['provider-missing', 'cancelled', 'timeout'].includes(error.failure.kind)
      if (isFinal || tries >= LIST_TRIES) throw error
    }
  }
}

const hasKind = <Kind extends Mark['kind']>(vm: Vm, kind: Kind): vm is VmOf<Extract<Mark, { kind: Kind }>> =>
  vm.mark?.kind === kind
export const ofKind = <Kind extends Mark['kind']>(vms: readonly Vm[], kind: Kind) => vms.filter(vm => hasKind(vm, kind))

export type Machine = VmOf<MachineMark>
export type Look = {
  /** Null: there is none. One whose restore was interrupted is what that restore brings back. */
  machine: Machine | null
  /** Oldest first. */
  checkpoints: VmOf<CheckpointMark>[]
  /** Everything of this machine, with what was interrupted. */
  all: Vm[]
  /** Every VM of this Mac. */
  others: readonly Vm[]
}

const partOf = ({ mark }: Vm): MachinePart | null => (mark === null || mark.kind === 'image' ? null : mark)

/** The machine of the id in a list of all VMs. Fails with `not-ours`, also when only the name is like ours. */
const lookIn = (context: Context, id: string, vms: readonly Vm[]): Look => {
  if (!VM_ID.test(id)) throw fail('not-ours', `"${id}" is not a machine of agent-swarm`)
  const named = vms.filter(({ name }) => name === id || name.startsWith(`${id}.`))
  const all = named.filter(vm => partOf(vm)?.home === context.homeId)
  const [other] = named
  if (all.length === 0 && other !== undefined)
    throw partOf(other) === null
      ? fail(
          'not-ours',
          `${other.name} has a name like our machines, but not our mark: agent-swarm did not make it`,
          'It is left alone. Rename it if it is in the way: tart rename',
        )
      : fail(
          'not-ours',
          `${id} belongs to another AGENT_SWARM_HOME`,
          'Use agent-swarm with that home. It is left alone here.',
        )
  const [machine, second] = ofKind(all, 'machine')
  if (machine !== undefined && second !== undefined)
    throw fail(
      'not-ours',
      `two VMs have the mark of ${id}: ${machine.name} and ${second.name}`,
      'agent-swarm made one of them. Rename or delete the other one: tart rename, tart delete',
    )
  const checkpoints = ofKind(all, 'checkpoint').sort((a, b) => a.mark.order - b.mark.order)
  return { machine: machine ?? ofKind(all, 'restored')[0] ?? null, checkpoints, all, others: vms }
}

export const look = async (context: Context, id: string, doing?: string): Promise<Look> => {
  if (!VM_ID.test(id)) throw fail('not-ours', `"${id}" is not a machine of agent-swarm`)
  return lookIn(context, id, await listAll(context, doing))
}

/** Fails with `no-such-vm`. */
export const requireMachine = async (
  context: Context,
  id: string,
  doing = `looking for ${id}`,
): Promise<Look & { machine: Machine }> => {
  const found = await look(context, id, doing)
  if (found.machine === null) throw fail('no-such-vm', `${doing}: tart has no such machine`)
  return { ...found, machine: found.machine }
}

/** Precedes a change: ends a restore that was interrupted after it had deleted the machine, and removes what another one left. */
export const requireSettled = async (context: Context, id: string, doing: string) => {
  const found = await requireMachine(context, id, doing)
  if (found.machine.mark.kind === 'machine') {
    // Killed before it had deleted the machine: left there, it would count as the machine once this one is gone.
    await deleteVms(
      context,
      ofKind(found.all, 'restored').map(({ name }) => name),
      doing,
    )
    return found
  }
  const mark: MachineMark = { ...found.machine.mark, kind: 'machine' }
  const name = vmName(mark)
  await renameVm(context, found.machine.name, name)
  return { ...found, machine: { ...found.machine, name, mark } }
}

// ── Change ──

/** Of a clone, a disk or an image that is copied where the file system cannot share blocks, and of a registry. */
export const COPY_DEADLINE_MS = 30 * 60_000

/** The new name MUST be free: Tart 2.35.0 replaces a VM that has it, and newer versions refuse. */
export const cloneVm = (context: Context, from: string, to: string, doing: string): Promise<string> =>
  runTart(context, ['clone', from, to], { deadline: COPY_DEADLINE_MS, doing })

export const renameVm = (context: Context, from: string, to: string): Promise<string> =>
  runTart(context, ['rename', from, to])

/** They must be stopped. */
export const deleteVms = async (context: Context, names: readonly string[], doing?: string): Promise<void> => {
  if (names.length > 0) await runTart(context, ['delete', ...names], doing === undefined ? {} : { doing })
}

/** The VM of a machine without a ticket. */
export const machineName = ({ homeId }: Context, vmId: string): string =>
  vmName({ kind: 'machine', vmId, ticket: null, home: homeId })

// ── Our own files ──

export const rootOf = ({ home }: Pick<Context, 'home'>): string => join(home, 'tart')
export const folderOf = (context: Pick<Context, 'home'>, id: string): string => join(rootOf(context), 'machines', id)
export const seedFile = (context: Pick<Context, 'home'>, id: string): string => join(folderOf(context, id), 'seed.iso')
/** What `tart run` prints. */
export const outputFile = (context: Pick<Context, 'home'>, id: string): string => join(folderOf(context, id), 'run.log')
