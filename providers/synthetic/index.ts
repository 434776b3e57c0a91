/**
 * Directories with state instead of machines: the whole system runs with them on any computer. Nothing is isolated, and there
 * is no SSH. Never detected automatically.
 *
 * One machine is `home/synthetic/<vmId>/`: `disk/` (its files) and `checkpoints/<name>/`. Its mark (marks.ts) says that it
 * exists, and holds its status. After a reboot of the host it is stopped, unless it was saved. A change of many files is made beside
 * them and renamed into place, so that kill -9 leaves the old or the new state.
 */
import { existsSync } from 'node:fs'
import { access, constants, cp, mkdir, readdir, readFile, rename, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type CheckpointName, parseCheckpointName, type Ticket, VM_ID } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import { roomLeft, runDiagnosis } from '../diagnosis.ts'
import type { Diagnosis, ForkTarget, Leftover, Provider, RestoreOptions, Tools, VmInfo } from '../provider.ts'
import { currentBoot } from './boot.ts'
import {
  allMarked,
  listForeignMarks,
  listMarks,
  type Mark,
  type Marks,
  readMark,
  removeMark,
  writeMark,
} from './marks.ts'
import type { SyntheticSettings } from './settings.ts'

type Context = { root: string; marks: Marks }
type Checkpoint = { name: CheckpointName; createdAt: string; order: number; status: Mark['status'] }

/** Only names that match our own pattern become paths. */
const folderOf = ({ root }: Context, id: string, ...rest: string[]): string => {
  if (!VM_ID.test(id)) throw fail('not-ours', `"${id}" is not a synthetic machine of agent-swarm`)
  return join(root, id, ...rest)
}
const checkpointFolder = (context: Context, id: string, name: string): string => {
  if (parseCheckpointName(name) !== name) throw fail('usage', `"${name}" is not a checkpoint name`)
  return folderOf(context, id, 'checkpoints', name)
}

const requireMark = async (context: Context, id: string): Promise<Mark> => {
  folderOf(context, id)
  const mark = await readMark(context.marks, id)
  // Somebody may have removed the folder and left the mark.
  if (mark === null || !existsSync(folderOf(context, id)))
    throw fail('no-such-vm', `the synthetic machine ${id} does not exist`)
  return mark
}
const requireRunning = async (context: Context, id: string): Promise<string> => {
  const { status } = await requireMark(context, id)
  if (status !== 'running') throw fail('not-running', `${id} is ${status}`)
  return folderOf(context, id, 'disk')
}

const setStatus = async (context: Context, id: string, status: Mark['status']): Promise<void> =>
  writeMark(context.marks, { ...(await requireMark(context, id)), status })

/** As a hypervisor lists it: one that is suspended runs, and stands still; one that is saved is off. */
const infoOf = ({ vmId, ticket, status }: Mark): VmInfo => {
  const machine = { vmId, ticket, ip: null }
  if (status === 'suspended') return { ...machine, status: 'running', paused: 'suspended', pauseCause: 'asked' }
  return status === 'saved' ? { ...machine, status: 'stopped', saved: true } : { ...machine, status }
}

const isOff = ({ status }: Mark): boolean => status === 'stopped' || status === 'saved'

const suspend = async (context: Context, id: string): Promise<void> => {
  await settle(context, id)
  if (isOff(await requireMark(context, id))) throw fail('not-running', `suspending ${id}: it is stopped`)
  await setStatus(context, id, 'suspended')
}

const save = async (context: Context, id: string): Promise<void> => {
  await settle(context, id)
  if (!isOff(await requireMark(context, id))) await setStatus(context, id, 'saved')
}

const create = async (context: Context, vmId: string, ticket: string | null): Promise<VmInfo> => {
  folderOf(context, vmId)
  const existing = await readMark(context.marks, vmId)
  await mkdir(folderOf(context, vmId, 'disk'), { recursive: true, mode: 0o700 })
  await mkdir(folderOf(context, vmId, 'checkpoints'), { recursive: true, mode: 0o700 })
  const mark = existing ?? { vmId, ticket, status: 'stopped' as const }
  await writeMark(context.marks, mark)
  return infoOf(mark)
}

const remove = async (context: Context, id: string): Promise<void> => {
  const folder = folderOf(context, id)
  // The mark goes first: what an interrupted delete leaves is not a machine any more.
  await removeMark(context.marks, id)
  await rm(folder, { recursive: true, force: true })
}

const copyDisk = (from: string, to: string) =>
  cp(from, to, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })

const readCheckpoints = async (context: Context, id: string): Promise<Checkpoint[]> => {
  await requireMark(context, id)
  const names = (await readdir(folderOf(context, id, 'checkpoints'))).filter(name => parseCheckpointName(name) === name)
  const checkpoints = await Promise.all(
    names.map(async name => {
      const text = await readFile(join(checkpointFolder(context, id, name), 'taken.json'), 'utf8')
      return { ...(JSON.parse(text) as Checkpoint), name }
    }),
  )
  return checkpoints.sort((a, b) => a.order - b.order)
}

const UNFINISHED = /^(?:new-.*|disk\.new|disk\.old)$/
/** Removes what a process that was killed left of a checkpoint or restore. The caller is about to change the machine: nobody else does. */
const settle = async (context: Context, id: string): Promise<void> => {
  await requireMark(context, id)
  const folder = folderOf(context, id)
  // A restore that was killed between its two renames.
  if (!existsSync(join(folder, 'disk')) && existsSync(join(folder, 'disk.old')))
    await rename(join(folder, 'disk.old'), join(folder, 'disk'))
  for (const name of await readdir(folder))
    if (UNFINISHED.test(name)) await rm(join(folder, name), { recursive: true, force: true })
}

const makeCheckpoint = async (context: Context, id: string, name: string) => {
  await settle(context, id)
  const { status } = await requireMark(context, id)
  const earlier = await readCheckpoints(context, id)
  if (earlier.some(checkpoint => checkpoint.name === name))
    throw fail('already-exists', `${id} already has a checkpoint ${name}`)
  const folder = checkpointFolder(context, id, name)
  const unfinished = folderOf(context, id, `new-${name}`)
  await mkdir(unfinished, { mode: 0o700 })
  await copyDisk(folderOf(context, id, 'disk'), join(unfinished, 'disk'))
  const order = (earlier.at(-1)?.order ?? 0) + 1
  const checkpoint: Checkpoint = { name, createdAt: new Date().toISOString(), order, status }
  await writeFile(join(unfinished, 'taken.json'), JSON.stringify(checkpoint), { mode: 0o600 })
  await rename(unfinished, folder)
  return { sizeBytes: null, ...(status === 'running' ? { livePauseMs: 0 } : {}) }
}

const restore = async (context: Context, id: string, name: string, { cold = false }: RestoreOptions): Promise<void> => {
  await settle(context, id)
  const checkpoint = (await readCheckpoints(context, id)).find(each => each.name === name)
  if (checkpoint === undefined) throw fail('no-such-checkpoint', `${id} has no checkpoint ${name}`)
  const disk = folderOf(context, id, 'disk')
  const unfinished = folderOf(context, id, 'disk.new')
  const former = folderOf(context, id, 'disk.old')
  await copyDisk(join(checkpointFolder(context, id, name), 'disk'), unfinished)
  await rename(disk, former)
  await rename(unfinished, disk)
  await rm(former, { recursive: true, force: true })
  await setStatus(context, id, cold ? 'stopped' : checkpoint.status)
}

/**
 * Copies of one moment: the first from the machine, the others from the first. A mark comes when its disk is there, since it makes
 * the machine.
 */
const fork = async (
  context: Context,
  id: string,
  name: CheckpointName | null,
  targets: readonly ForkTarget[],
): Promise<void> => {
  await settle(context, id)
  if (name !== null && !(await readCheckpoints(context, id)).some(checkpoint => checkpoint.name === name))
    throw fail('no-such-checkpoint', `${id} has no checkpoint ${name}`)
  let from = name === null ? folderOf(context, id, 'disk') : join(checkpointFolder(context, id, name), 'disk')
  try {
    for (const { vmId, ticket } of targets) {
      await remove(context, vmId)
      const disk = folderOf(context, vmId, 'disk')
      await mkdir(folderOf(context, vmId), { recursive: true, mode: 0o700 })
      await copyDisk(from, disk)
      await create(context, vmId, ticket)
      from = disk
    }
  } catch (error) {
    for (const { vmId } of targets) await remove(context, vmId)
    throw error
  }
}

// ── What is left of machines without a mark ──

const listFolders = async ({ root }: Context): Promise<string[]> =>
  existsSync(root) ? (await readdir(root)).filter(name => VM_ID.test(name)) : []

const bytesIn = async (folder: string): Promise<number> => {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const sizes = entries
    .filter(entry => entry.isFile())
    .map(async entry => (await stat(join(entry.parentPath, entry.name))).size)
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
}

const listLeftovers = async (context: Context): Promise<Leftover[]> => {
  const folders = await listFolders(context)
  const machines = new Set(allMarked(context.marks))
  return Promise.all(
    folders
      .filter(vmId => !machines.has(vmId))
      .map(async vmId => ({
        vmId,
        hasDisk: existsSync(folderOf(context, vmId, 'disk')),
        bytes: await bytesIn(folderOf(context, vmId)),
      })),
  )
}

const recover = async (context: Context, vmId: string, ticket: Ticket | null): Promise<null> => {
  if ((await readMark(context.marks, vmId)) !== null) return null
  if (!existsSync(folderOf(context, vmId, 'disk')))
    throw fail('no-such-vm', `making ${vmId} again from its disk: no disk of it is left`)
  await create(context, vmId, ticket)
  return null
}

const ANY_EXIT_CODE = Array.from({ length: 255 }, (_, code) => code + 1)

/** Its own system-wide configuration of git, which leads through the gateway. */
const guestEnvironment = (disk: string) => ({ HOME: disk, GIT_CONFIG_SYSTEM: join(disk, 'etc', 'gitconfig') })

/** Runs in the machine's folder with the folder as HOME. This does not confine the script. */
const runInGuest =
  (context: Context, run: Tools<unknown>['run']): NonNullable<Provider['runInGuest']> =>
  async (id, script, options = {}) => {
    const disk = await requireRunning(context, id)
    const { stdout, stderr, exitCode } = await run('/bin/sh', ['-c', 'cd "$HOME" && exec /bin/sh -s'], {
      ...options,
      input: script,
      env: { ...guestEnvironment(disk), AGENT_SWARM_GUEST_ROOTS: disk },
      doing: `running a script in ${id}`,
      answers: ANY_EXIT_CODE,
    })
    return { stdout, stderr, exitCode }
  }

const shellInGuest =
  (context: Context): NonNullable<Provider['shellInGuest']> =>
  async (id, command) => {
    const disk = await requireRunning(context, id)
    // Git of this machine, which leads through the runner.
    return {
      program: '/bin/sh',
      argv: ['-c', `cd "$HOME" && ${command === null ? 'exec /bin/sh -i' : 'eval "$GUEST_COMMAND"'}`],
      env: { ...guestEnvironment(disk), PWD: disk, ...(command === null ? {} : { GUEST_COMMAND: command }) },
    }
  }

/** No disk of it ever fills up. */
const capacityWith = async (memoryMiB: number) => {
  const memory = memoryMiB * 1024 ** 2
  const disk = 16 * 1024 ** 4
  return {
    cpus: 64,
    memoryBytes: { total: memory, available: memory },
    diskBytes: { total: disk, available: disk },
  }
}

/** Machines need the room of their files alone. */
const checkRoom = async (home: string): Promise<Diagnosis> => {
  await access(home, constants.W_OK)
  const { bavail, blocks, bsize } = await statfs(home)
  return roomLeft(home, { available: bavail * bsize, total: blocks * bsize }, null)
}

/** `boot`: of the host, 12 hex digits. */
type Opened = Omit<Tools<SyntheticSettings>, 'settings'> & { settings?: SyntheticSettings; boot?: string }

export const openSynthetic = (tools: Opened): Provider => {
  const { run, home, homeId, knows, settings = {}, boot = currentBoot() } = tools
  const memoryMiB = settings.syntheticMemoryMiB ?? null
  const context: Context = {
    root: join(home, 'synthetic'),
    marks: { folder: join(home, 'synthetic-state'), boot, homeId, knows },
  }
  return {
    name: 'synthetic',
    ownSystem: true,
    ...(memoryMiB === null ? {} : { capacity: () => capacityWith(memoryMiB) }),
    liveCheckpoints: true,
    coldRestores: true,
    available: async () => ({ available: true }),
    diagnose: () => runDiagnosis([[`looking for room in ${home}`, () => checkRoom(home)]]),
    createVm: async (ticket, _baseImage, { vmId }, onPhase = () => {}) => {
      onPhase('disk')
      return create(context, vmId, ticket)
    },
    assign: async (id, ticket) => {
      await settle(context, id)
      await writeMark(context.marks, { ...(await requireMark(context, id)), ticket })
    },
    startVm: async id => {
      await settle(context, id)
      await setStatus(context, id, 'running')
    },
    stopVm: async id => {
      await settle(context, id)
      await setStatus(context, id, 'stopped')
    },
    suspend: id => suspend(context, id),
    save: id => save(context, id),
    deleteVm: id => remove(context, id),
    hasLeftDisk: async id => existsSync(folderOf(context, id, 'disk')),
    listForeign: async () => listForeignMarks(context.marks),
    leftovers: () => listLeftovers(context),
    recoverVm: (id, ticket) => recover(context, id, ticket),
    sshInfo: async id => {
      await requireMark(context, id)
      throw fail(
        'unsupported',
        `${id} is synthetic: a folder, without SSH`,
        'Run commands in its folder: agent-swarm ssh <TICKET> -- COMMAND',
      )
    },
    status: async id => infoOf(await requireMark(context, id)).status,
    listVms: async () => {
      const folders = new Set(await listFolders(context))
      const marks = (await listMarks(context.marks)).filter(({ vmId }) => folders.has(vmId))
      return marks.map(infoOf)
    },
    checkpoint: (id, name) => makeCheckpoint(context, id, name),
    restore: (id, name, options = {}) => restore(context, id, name, options),
    listCheckpoints: async id => (await readCheckpoints(context, id)).map(({ name }) => name),
    deleteCheckpoint: async (id, name) => {
      await requireMark(context, id)
      await rm(checkpointFolder(context, id, name), { recursive: true, force: true })
    },
    fork: (id, name, targets) => fork(context, id, name, targets),
    runInGuest: runInGuest(context, run),
    shellInGuest: shellInGuest(context),
  }
}
