/** The note of a build under way, in a file. Two builds of one image would take each other's volumes for leftovers. */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fail } from '../../src/errors.ts'
import { isProcessAlive } from '../../src/exec.ts'
import { createFileAtomic } from '../../src/files.ts'
import type { Context } from './context.ts'
import { deleteMachine } from './machines.ts'

type BuildNote = {
  pid: number
  folder: string
  /** Earlier versions noted the build's machines here; now the caller of `buildBase` journals them. */
  machines?: string[]
}

const PREFIX = 'building-'
/** The name of an image has no dot, unlike that of an unfinished file. */
const NOTE = /^building-[^.]+$/

const busy = (doing: string, pid: number) =>
  fail(
    'busy',
    `${doing}: another init-base is building it (process ${pid})`,
    'Wait until it ends, or end it and try again.',
  )

/** Notes the build, after removing what killed builds left. Returns a function that removes the note. */
export const beginBuild = async (context: Context, name: string, folder: string): Promise<() => void> => {
  const root = join(context.home, 'kvm')
  for (const file of readdirSync(root).filter(each => NOTE.test(each))) {
    const note = JSON.parse(readFileSync(join(root, file), 'utf8')) as BuildNote
    const { pid, machines = [] } = note
    if (!isProcessAlive(pid)) {
      // Their marks have no home. The note proves that they are ours.
      for (const machine of machines) await deleteMachine({ ...context, knows: id => id === machine }, machine)
      rmSync(note.folder, { recursive: true, force: true })
      rmSync(join(root, file))
    } else if (file === `${PREFIX}${name}`) throw busy(`building ${name}`, pid)
  }
  const file = join(root, `${PREFIX}${name}`)
  if (!createFileAtomic(file, JSON.stringify({ pid: process.pid, folder } satisfies BuildNote)))
    throw busy(`building ${name}`, JSON.parse(readFileSync(file, 'utf8')).pid)
  return () => rmSync(file, { force: true })
}

/** Fails with `busy` while a process of this home builds the image. */
export const failIfBuilding = ({ home }: Pick<Context, 'home'>, name: string, doing: string): void => {
  const file = join(home, 'kvm', `${PREFIX}${name}`)
  if (!existsSync(file)) return
  const { pid } = JSON.parse(readFileSync(file, 'utf8')) as BuildNote
  if (isProcessAlive(pid)) throw busy(doing, pid)
}
