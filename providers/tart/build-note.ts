/** The note of a build under way, in a file: two builds of one image would both work for an hour, and one of them for nothing. */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fail } from '../../src/errors.ts'
import { isProcessAlive } from '../../src/exec.ts'
import { createFileAtomic } from '../../src/files.ts'
import type { Context } from './context.ts'

type Home = Pick<Context, 'home'>
const folderIn = ({ home }: Home) => join(home, 'tart')
const fileOf = (context: Home, name: string) => join(folderIn(context), `building-${name}`)

const busy = (doing: string, pid: number) =>
  fail(
    'busy',
    `${doing}: another init-base is building it (process ${pid})`,
    'Wait until it ends, or end it and try again.',
  )

/** Fails with `busy` while a process of this home builds the image. */
export const failIfBuilding = (context: Home, name: string, doing: string): void => {
  const file = fileOf(context, name)
  if (!existsSync(file)) return
  const pid = Number(readFileSync(file, 'utf8'))
  if (isProcessAlive(pid)) throw busy(doing, pid)
  rmSync(file, { force: true })
}

/** Notes the build. Returns a function that removes the note. */
export const beginBuild = (context: Home, name: string): (() => void) => {
  const doing = `building ${name}`
  failIfBuilding(context, name, doing)
  mkdirSync(folderIn(context), { recursive: true, mode: 0o700 })
  const file = fileOf(context, name)
  if (!createFileAtomic(file, String(process.pid))) throw busy(doing, Number(readFileSync(file, 'utf8')))
  return () => rmSync(file, { force: true })
}
