/** The files of machines: `AGENT_SWARM_HOME/hyperv/<vmId>/` holds all of one. */
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import * as v from 'valibot'
import { VM_ID } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import { writeFileAtomic } from '../../src/files.ts'

export const rootOf = (home: string): string => join(home, 'hyperv')
export const folderOf = (home: string, vmId: string): string => join(rootOf(home), vmId)
export const filesOf = (home: string, vmId: string) => {
  const folder = folderOf(home, vmId)
  return {
    folder,
    disk: join(folder, 'disk.vhdx'),
    seed: join(folder, 'seed.iso'),
    owner: join(folder, 'machine.json'),
    /** While the machine is forked. */
    export: join(folder, 'export'),
  }
}

const text = v.pipe(v.string(), v.maxLength(64))
const owner = v.object({
  home: text,
  mac: text,
  address: v.nullable(text),
  gateway: v.nullable(text),
  /** The base image below its disk. Null: it has none. */
  image: v.nullable(text),
  /**
   * While the machine is made again from its disk, and after that was interrupted: whether with the seed that it left. A seed that is
   * there beside a `new-seed` may be of another place.
   */
  recovery: v.optional(v.picklist(['old-seed', 'new-seed'])),
})
/** Whose the folder is, and what the files in it depend on. */
export type Owner = v.InferOutput<typeof owner>

export const readOwner = (home: string, vmId: string): Owner | null => {
  try {
    const read = v.safeParse(owner, JSON.parse(readFileSync(filesOf(home, vmId).owner, 'utf8')))
    return read.success ? read.output : null
  } catch {
    return null
  }
}
export const ownsFolder = ({ home, homeId }: { home: string; homeId: string }, vmId: string): boolean =>
  readOwner(home, vmId)?.home === homeId

/** Whether a machine that is not made is that of a recovery: its disk holds work, and it counts as absent until it is made. */
export const isInRecovery = (home: string, vmId: string): boolean => readOwner(home, vmId)?.recovery !== undefined

/** Makes the folder, with its owner before anything else is in it. */
export const makeFolder = (home: string, vmId: string, whose: Owner): void => {
  const { folder, owner: file } = filesOf(home, vmId)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  writeFileAtomic(file, JSON.stringify(whose))
}

/** Windows removes no file that a program has open, and security software has new files open for a moment. */
export const REMOVAL = { recursive: true, force: true, maxRetries: 10, retryDelay: 200 }

/** The owner goes last, so that a crash leaves one. */
export const removeFolder = async (home: string, vmId: string): Promise<void> => {
  const { folder, owner: file } = filesOf(home, vmId)
  if (!existsSync(folder)) return
  for (const name of await readdir(folder)) if (join(folder, name) !== file) await rm(join(folder, name), REMOVAL)
  await rm(folder, REMOVAL)
}

export const listFolders = (home: string): string[] =>
  existsSync(rootOf(home)) ? readdirSync(rootOf(home)).filter(name => VM_ID.test(name)) : []

type File = { path: string; bytes: number; changed: number }
/** Files may vanish meanwhile: Hyper-V merges disks. */
export const filesIn = async (folder: string): Promise<File[]> => {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
  const files = await Promise.all(
    entries
      .filter(entry => entry.isFile())
      .map(async ({ parentPath, name }) => {
        const path = join(parentPath, name)
        const found = await stat(path).catch(() => null)
        return found === null ? [] : [{ path, bytes: found.size, changed: found.mtimeMs }]
      }),
  )
  return files.flat()
}
/** Of all files of the machine: its disks, its checkpoints and their memory. */
export const bytesOf = async (home: string, vmId: string): Promise<number> =>
  (await filesIn(folderOf(home, vmId))).reduce((sum, { bytes }) => sum + bytes, 0)

export const isDisk = (path: string): boolean => /\.a?vhdx$/i.test(path)

/** The longest name that Hyper-V adds to the folder: `<vmId>\Virtual Machines\<GUID>.vmcx`. */
const ADDED = '\\Virtual Machines\\.VMRS'.length + 36
const LONGEST_PATH = 259

/** The same of an export: `<name>\Virtual Hard Disks\disk_<GUID>.avhdx`. */
const ADDED_TO_EXPORT = '\\Virtual Hard Disks\\disk_.avhdx'.length + 36

/** Parts of Hyper-V take no longer paths. */
const requireLength = (vmId: string, length: number): void => {
  if (length > LONGEST_PATH)
    throw fail(
      'usage',
      `creating ${vmId}: paths of its files would have ${length} characters, and Hyper-V takes ${LONGEST_PATH}`,
      'Use a shorter AGENT_SWARM_HOME: 65 characters are always short enough.',
    )
}
export const requireShortPath = (home: string, vmId: string): void =>
  requireLength(vmId, folderOf(home, vmId).length + 1 + vmId.length + ADDED)

/** `name`: of the machine or the checkpoint that is exported. */
export const requireShortExport = (home: string, vmId: string, name: string): void =>
  requireLength(vmId, filesOf(home, vmId).export.length + 1 + name.length + ADDED_TO_EXPORT)
