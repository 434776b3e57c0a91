/**
 * The mark of a synthetic machine is the name of an empty file, `home/synthetic-state/<vmId>.<ticket>.<home>.<boot>.running`, `….<boot>.suspended`,
 * `….<home>.saved` or `….<home>.stopped`, with `-` for no ticket and `DROP-1_2` for an attempt: one rename changes it, and one look at the folder lists
 * a thousand. A machine runs, or is suspended, in the boot of the host that its mark names, and is stopped after it. Earlier versions
 * left the home and the boot out; a machine without a boot runs.
 */
import { existsSync, readdirSync } from 'node:fs'
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileNameOf, isEnvironmentKey, KEY_FILE_NAME, keyOfFileName, type Ticket, VM_ID } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import type { ForeignMachine, Tools } from '../provider.ts'
import { isSameBoot } from './boot.ts'

/** `suspended`: it is in memory, and stands still. `saved`: its memory is on the disk, and stays there after a reboot. */
export type Mark = { vmId: string; ticket: Ticket | null; status: 'running' | 'suspended' | 'saved' | 'stopped' }
/** `boot`: the one of now. */
export type Marks = { folder: string; boot: string } & Pick<Tools<unknown>, 'homeId' | 'knows'>

const NO_TICKET = '-'

/** `state`: the end of its name. */
type MarkFile = Mark & { file: string; home: string | null; state: string }
const unanchored = ({ source }: RegExp) => source.slice(1, -1)
/** One expression for the whole name: there may be a thousand. */
const MARK = new RegExp(
  `^(${unanchored(VM_ID)})\\.(?:-|(${unanchored(KEY_FILE_NAME)}))\\.(?:([0-9a-f]{16})\\.)?((?:([0-9a-f]{12})\\.)?(running|suspended|saved|stopped))$`,
)
const parseFile = (file: string, { boot: now }: Marks): MarkFile | null => {
  const parts = MARK.exec(file)
  if (parts === null) return null
  const [, vmId = '', ticket = null, home = null, state = '', boot = now, status] = parts
  const isOn = (status === 'running' || status === 'suspended') && isSameBoot(boot, now)
  return {
    ...{ file, vmId, home, state },
    ticket: ticket === null ? null : keyOfFileName(ticket),
    status: isOn || status === 'saved' ? status : 'stopped',
  }
}
const fileOf = ({ homeId }: Marks, { vmId, ticket }: Mark, state: string): string => {
  // It becomes part of a path.
  if (ticket !== null && !isEnvironmentKey(ticket)) throw fail('usage', `"${ticket}" is not a ticket`)
  return `${vmId}.${ticket === null ? NO_TICKET : fileNameOf(ticket)}.${homeId}.${state}`
}

const ifMissing = (error: NodeJS.ErrnoException): void => {
  if (error.code !== 'ENOENT') throw error
}
/** Synchronous: an asynchronous look takes longer than the rest of a list of a thousand. */
const readFiles = (marks: Marks): MarkFile[] => {
  const { folder } = marks
  const files: MarkFile[] = []
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    const file = parseFile(name, marks)
    if (file !== null) files.push(file)
  }
  return files
}

const isOurs = ({ homeId, knows }: Marks, { home, vmId }: MarkFile): boolean =>
  home === null ? knows(vmId) : home === homeId

/**
 * Gives the mark of an earlier version the home, and returns the name that it has now. Another look, of this process or another
 * one, may do so at the same time.
 */
const complete = async (marks: Marks, mark: MarkFile): Promise<string> => {
  if (mark.home !== null) return mark.file
  const file = fileOf(marks, mark, mark.state)
  await rename(join(marks.folder, mark.file), join(marks.folder, file)).catch(ifMissing)
  return file
}

/** Machines of other homes. */
export const listForeignMarks = (marks: Marks): ForeignMachine[] =>
  readFiles(marks)
    .filter(file => !isOurs(marks, file))
    .map(({ vmId, ticket, home }) => ({ vmId, ticket, homeId: home }))

/** The machines of any home. */
export const allMarked = (marks: Marks): string[] => readFiles(marks).map(({ vmId }) => vmId)

/** The marks of our machines. */
export const listMarks = async (marks: Marks): Promise<readonly Mark[]> => {
  const ours = readFiles(marks).filter(file => isOurs(marks, file))
  await Promise.all(ours.filter(({ home }) => home === null).map(file => complete(marks, file)))
  return ours
}

/** Null when there is no such machine. Fails with `not-ours` when it is another home's. */
const readFile = async (marks: Marks, vmId: string): Promise<MarkFile | null> => {
  const file = readFiles(marks).find(each => each.vmId === vmId)
  if (file === undefined) return null
  if (!isOurs(marks, file)) throw fail('not-ours', `${vmId} belongs to another AGENT_SWARM_HOME`)
  return { ...file, file: await complete(marks, file) }
}
export const readMark: (marks: Marks, vmId: string) => Promise<Mark | null> = readFile

export const writeMark = async (marks: Marks, mark: Mark): Promise<void> => {
  const { folder, boot } = marks
  const from = (await readFile(marks, mark.vmId))?.file
  const isOn = mark.status === 'running' || mark.status === 'suspended'
  const to = fileOf(marks, mark, isOn ? `${boot}.${mark.status}` : mark.status)
  if (from === to) return
  if (from !== undefined) return rename(join(folder, from), join(folder, to))
  await mkdir(folder, { recursive: true, mode: 0o700 })
  await writeFile(join(folder, to), '', { mode: 0o600 })
}

export const removeMark = async (marks: Marks, vmId: string): Promise<void> => {
  const mark = await readFile(marks, vmId)
  if (mark !== null) await rm(join(marks.folder, mark.file), { force: true })
}
