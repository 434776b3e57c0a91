/** What the functions of this provider work with, and the survey of all machines, which is one process. */
import { statfsSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { VM_ID } from '../../src/domain.ts'
import { fail, isFailure } from '../../src/errors.ts'
import type { Tools } from '../provider.ts'
import { FREE_DISK_SPACE } from './explain.ts'
import { folderOf, ownsFolder } from './folders.ts'
import { type Mark, parseMark } from './marks.ts'
import { type Host, hostAnswer, machinesAnswer, type Row } from './parse.ts'
import type { Script } from './powershell.ts'
import type { HypervSettings } from './settings.ts'

export type Context = Tools<HypervSettings> & { script: Script; survey: Survey }

/** What every script about one machine gets: whose it must be. */
export const aboutMachine = ({ home, homeId }: Pick<Context, 'home' | 'homeId'>, id: string) => {
  if (!VM_ID.test(id)) throw fail('not-ours', `"${id}" is not a machine of agent-swarm`)
  return { vmId: id, homeId, folder: folderOf(home, id), ownsFolder: ownsFolder({ home, homeId }, id) }
}

/** A VM whose name is a vmId. Its mark is null when agent-swarm did not make it, or did not come to marking it. */
export type Machine = { vmId: string; mark: Mark | null; row: Row }

export const machinesIn = ({ machines }: Pick<Host, 'machines'>): Machine[] =>
  machines.flatMap(row => {
    if (!VM_ID.test(row.name)) return []
    const mark = parseMark(row.notes)
    return [{ vmId: row.name, mark: mark?.vmId === row.name ? mark : null, row }]
  })

/** Also a machine whose making was interrupted before it got its mark: it lies in its folder of this home. */
export const isOurs = (context: Pick<Context, 'home' | 'homeId'>, { vmId, mark, row }: Machine): boolean =>
  mark === null
    ? row.notes === '' &&
      ownsFolder(context, vmId) &&
      row.path.toLowerCase().startsWith(folderOf(context.home, vmId).toLowerCase())
    : mark.home === context.homeId

type Machines = Pick<Host, 'machines'>
export type Survey = { machines(): Promise<Machines>; host(): Promise<Host> }

const lookAtMachines = (script: Script): Promise<Machines> =>
  script('survey', { host: false }, machinesAnswer, { doing: 'looking at the machines of Hyper-V' })

const lookAtHost = (script: Script, signal?: AbortSignal): Promise<Host> =>
  script('survey', { host: true }, hostAnswer, { doing: 'looking at Hyper-V', ...(signal && { signal }) })

/**
 * Looks that are asked for at the same moment are one process, as for `list`, which asks for machines and their figures. It begins
 * after all of them were asked for, so that none gets what was before.
 */
export const openSurvey = (script: Script): Survey => {
  let moment: { begun: Promise<void>; needsHost: boolean; host?: Promise<Host>; machines?: Promise<Machines> } | null =
    null
  const join = () => {
    moment ??= {
      needsHost: false,
      begun: setImmediate().then(() => {
        moment = null
      }),
    }
    return moment
  }
  return {
    machines: async () => {
      const its = join()
      await its.begun
      if (its.needsHost) {
        its.host ??= lookAtHost(script)
        return its.host
      }
      its.machines ??= lookAtMachines(script)
      return its.machines
    },
    host: async () => {
      const its = join()
      its.needsHost = true
      await its.begun
      its.host ??= lookAtHost(script)
      return its.host
    },
  }
}

export const surveyMachines = async ({ survey }: Context): Promise<Machine[]> => machinesIn(await survey.machines())

/** One that can be ended is a process of its own. */
export const surveyHost = ({ script, survey }: Context, signal?: AbortSignal): Promise<Host> =>
  signal === undefined ? survey.host() : lookAtHost(script, signal)

/** Bytes. */
export const freeSpace = ({ home }: Pick<Context, 'home'>): { available: number; total: number } => {
  const { bavail, blocks, bsize } = statfsSync(home)
  return { available: bavail * bsize, total: blocks * bsize }
}

const mib = (bytes: number): number => Math.ceil(bytes / 1024 ** 2)

export const requireSpace = (context: Pick<Context, 'home'>, doing: string, bytes: number): void => {
  const { available } = freeSpace(context)
  if (available < bytes)
    throw fail(
      'disk-full',
      `${doing}: it needs ${mib(bytes)} MiB, but ${context.home} has ${mib(available)} MiB free`,
      FREE_DISK_SPACE,
    )
}

/** Less than this is a full disk: Hyper-V pauses machines before it is quite full. */
export const FULL_BYTES = 256 * 1024 ** 2

/** Fails with `disk-full` where the memory of a running machine, written to the disk, would fill it: every machine on it pauses then. */
export const requireRoomForMemory = async (context: Context, id: string, doing: string): Promise<void> => {
  const machine = (await surveyMachines(context)).find(each => each.vmId === id && isOurs(context, each))
  const bytes = machine?.row.assigned ?? 0
  if (bytes > 0) requireSpace(context, doing, bytes + FULL_BYTES)
}

/** For `.catch()`. Hyper-V's message about a full disk is in the system's language: free space tells. */
export const orDiskFull =
  (context: Pick<Context, 'home'>, doing: string) =>
  (error: unknown): never => {
    if (isFailure(error) && error.failure.kind === 'unknown') requireSpace(context, doing, FULL_BYTES)
    throw error
  }
