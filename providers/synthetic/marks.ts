/**
 * The mark of a synthetic machine is the name of an empty file, `home/synthetic-state/<vmId>.<ticket>.<home>.<status>`, with
 * `-` for no ticket: one rename changes it, and one look at the folder lists a thousand. Earlier versions left the home out.
 */
import { existsSync, readdirSync } from 'node:fs'
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isTicket, TICKET, type Ticket, VM_ID } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import type { ForeignMachine, Tools } from '../provider.ts'

export type Mark = { vmId: string; ticket: Ticket | null; status: 'running' | 'stopped' }
export type Marks = { folder: string } & Pick<Tools<unknown>, 'homeId' | 'knows'>

const NO_TICKET = '-'

type MarkFile = Mark & { file: string; home: string | null }
const unanchored = ({ source }: RegExp) => source.slice(1, -1)
/** One expression for the whole name: there may be a thousand. */
const MARK = new RegExp(
  `^(${unanchored(VM_ID)})\\.(?:-|(${unanchored(TICKET)}))\\.(?:([0-9a-f]{16})\\.)?(running|stopped)$`,
)
const parseFile = (file: string): MarkFile | null => {
  const parts = MARK.exec(file)
  if (parts === null) return null
  return {
    file,
    vmId: parts[1] ?? '',
    ticket: parts[2] ?? null,
    home: parts[3] ?? null,
    status: parts[4] as Mark['status'],
  }
}
const fileOf = ({ homeId }: Marks, { vmId, ticket, status }: Mark): string => {
  // It becomes part of a path.
  if (ticket !== null && !isTicket(ticket)) throw fail('usage', `"${ticket}" is not a ticket`)
  return `${vmId}.${ticket ?? NO_TICKET}.${homeId}.${status}`
}

const ifMissing = (error: NodeJS.ErrnoException): void => {
  if (error.code !== 'ENOENT') throw error
}
/** Synchronous: an asynchronous look takes longer than the rest of a list of a thousand. */
const readFiles = ({ folder }: Marks): MarkFile[] => {
  const files: MarkFile[] = []
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    const file = parseFile(name)
    if (file !== null) files.push(file)
  }
  return files
}

const isOurs = ({ homeId, knows }: Marks, { home, vmId }: MarkFile): boolean =>
  home === null ? knows(vmId) : home === homeId

/** Gives the mark of an earlier version the home. Another look, of this process or another one, may do so at the same time. */
const complete = async (marks: Marks, mark: MarkFile): Promise<void> => {
  if (mark.home !== null) return
  await rename(join(marks.folder, mark.file), join(marks.folder, fileOf(marks, mark))).catch(ifMissing)
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
export const readMark = async (marks: Marks, vmId: string): Promise<Mark | null> => {
  const file = readFiles(marks).find(each => each.vmId === vmId)
  if (file === undefined) return null
  if (!isOurs(marks, file)) throw fail('not-ours', `${vmId} belongs to another AGENT_SWARM_HOME`)
  await complete(marks, file)
  return file
}

export const writeMark = async (marks: Marks, mark: Mark): Promise<void> => {
  const { folder } = marks
  const old = await readMark(marks, mark.vmId)
  const [from, to] = [old === null ? null : fileOf(marks, old), fileOf(marks, mark)]
  if (from === to) return
  if (from !== null) return rename(join(folder, from), join(folder, to))
  await mkdir(folder, { recursive: true, mode: 0o700 })
  await writeFile(join(folder, to), '', { mode: 0o600 })
}

export const removeMark = async (marks: Marks, vmId: string): Promise<void> => {
  const mark = await readMark(marks, vmId)
  if (mark !== null) await rm(join(marks.folder, fileOf(marks, mark)), { force: true })
}
