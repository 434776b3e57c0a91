/** The note of a build under way, in a file: two builds of one image would take each other's parts for leftovers. */
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fail } from '../../src/errors.ts'
import { isProcessAlive } from '../../src/exec.ts'
import { createFileAtomic } from '../../src/files.ts'
import { folderOf } from './aws.ts'
import type { Context } from './context.ts'

const fileOf = (context: Context, name: string) => join(folderOf(context), `building-${name}`)

/** Fails with `busy` while a process of this home builds the image. */
export const failIfBuilding = (context: Context, name: string, doing: string): void => {
  const file = fileOf(context, name)
  if (!existsSync(file)) return
  const pid = Number(readFileSync(file, 'utf8'))
  if (isProcessAlive(pid))
    throw fail(
      'busy',
      `${doing}: another init-base is building it (process ${pid})`,
      'Wait until it ends, or end it and try again.',
    )
  rmSync(file, { force: true })
}

/** Notes the build. Returns a function that removes the note. */
export const beginBuild = (context: Context, name: string): (() => void) => {
  const doing = `building ${name}`
  failIfBuilding(context, name, doing)
  const file = fileOf(context, name)
  if (!createFileAtomic(file, String(process.pid))) failIfBuilding(context, name, doing)
  return () => rmSync(file, { force: true })
}
