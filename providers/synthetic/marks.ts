/**
 * The mark of a synthetic machine is the name of an empty file, `home/synthetic-state/<vmId>.<ticket>.<home>.<status>`, with
 * `-` for no ticket: one rename changes it, and one look at the folder lists a thousand. Earlier versions left the home out.
 */
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isTicket, type Ticket, VM_ID } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import type { Tools } from '../provider.ts'

export type Mark = { vmId: string; ticket: Ticket | null; status: 'running' | 'stopped' }
export type Marks = { folder: string } & Pick<Tools<unknown>, 'homeId' | 'knows'>

const NO_TICKET = '-'

type MarkFile = Mark & { file: string; home: string | null }
const parseFile = (file: string): MarkFile[] => {
  const parts = file.split('.')
  const [vmId = '', ticket = '', home = ''] = parts
  const status = parts.at(-1)
  if (!VM_ID.test(vmId) || (ticket !== NO_TICKET && !isTicket(ticket))) return []
  if (status !== 'running' && status !== 'stopped') return []
  return [{ file, vmId, ticket: ticket === NO_TICKET ? null : ticket, home: parts.length === 4 ? home : null, status }]
}
const fileOf = ({ homeId }: Marks, { vmId, ticket, status }: Mark): string => {
  // It becomes part of a path.
  if (ticket !== null && !isTicket(ticket)) throw fail('usage', `"${ticket}" is not a ticket`)
  return `${vmId}.${ticket ?? NO_TICKET}.${homeId}.${status}`
}

const ifMissing = (error: NodeJS.ErrnoException): string[] => {
  if (error.code === 'ENOENT') return []
  throw error
}
const readFiles = async ({ folder }: Marks): Promise<MarkFile[]> =>
  (await readdir(folder).catch(ifMissing)).flatMap(parseFile)

const isOurs = ({ homeId, knows }: Marks, { home, vmId }: MarkFile): boolean =>
  home === null ? knows(vmId) : home === homeId

const complete = async (marks: Marks, { vmId, ticket, status, home, file }: MarkFile): Promise<Mark> => {
  const mark = { vmId, ticket, status }
  if (home === null)
    // Another look, of this process or another one, may complete it at the same time.
    await rename(join(marks.folder, file), join(marks.folder, fileOf(marks, mark))).catch(ifMissing)
  return mark
}

/** The marks of our machines. */
export const listMarks = async (marks: Marks): Promise<Mark[]> => {
  const files = await readFiles(marks)
  return Promise.all(files.filter(file => isOurs(marks, file)).map(file => complete(marks, file)))
}

/** Null when there is no such machine. Fails with `not-ours` when it is another home's. */
export const readMark = async (marks: Marks, vmId: string): Promise<Mark | null> => {
  const file = (await readFiles(marks)).find(each => each.vmId === vmId)
  if (file === undefined) return null
  if (!isOurs(marks, file)) throw fail('not-ours', `${vmId} belongs to another AGENT_SWARM_HOME`)
  return complete(marks, file)
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
