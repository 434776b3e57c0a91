/** The operator's own steps of a base image: shell scripts that run after the set-up, as root in the machine. */
import { existsSync, lstatSync, readdirSync, readFileSync, type Stats } from 'node:fs'
import { join } from 'node:path'
import { fail } from '../../errors.ts'
import { shellWord } from '../../shell-word.ts'

export type Step = { name: string; text: string }

const NAME = /^[a-z0-9][a-z0-9._-]{0,36}\.sh$/
const MOST_STEPS = 100
const MAX_BYTES = 256 * 1024

/** Whoever can write a step is root in every machine of the image. */
const checkOwner = (path: string, stats: Stats): void => {
  const uid = process.geteuid?.()
  if (uid === undefined) return
  const doing = `reading the step ${path}`
  if (stats.uid !== uid && stats.uid !== 0)
    throw fail(
      'refused',
      `${doing}: it belongs to another user (${stats.uid}), who would be root in the machines`,
      `Read it, then make it yours: sudo chown ${uid} ${shellWord(path)}`,
    )
  if ((stats.mode & 0o022) !== 0)
    throw fail(
      'refused',
      `${doing}: other users can change it (mode ${(stats.mode & 0o777).toString(8).padStart(4, '0')})`,
      `Read it, then run: chmod go-w ${shellWord(path)}`,
    )
}

const readStep = (folder: string, file: string): Step => {
  const path = join(folder, file)
  if (!NAME.test(file))
    throw fail(
      'usage',
      `reading the step ${JSON.stringify(path)}: its name is not like 10-maven.sh`,
      'Use lower-case letters, digits, dots, hyphens and underscores, at most 37 characters before .sh.',
    )
  const stats = lstatSync(path)
  if (!stats.isFile())
    throw fail('refused', `reading the step ${path}: it is not a regular file`, 'Copy the script there.')
  checkOwner(path, stats)
  if (stats.size > MAX_BYTES) throw fail('usage', `reading the step ${path}: it has more than ${MAX_BYTES / 1024} KiB`)
  return { name: file.slice(0, -'.sh'.length), text: readFileSync(path, 'utf8') }
}

/** The scripts `*.sh` in the folder, in the order of their names. `required`: a folder that is missing is a mistake. */
export const readSteps = (folder: string, { required }: { required: boolean }): Step[] => {
  if (!existsSync(folder)) {
    if (!required) return []
    throw fail('usage', `reading the steps in ${folder}: there is no such folder`)
  }
  const stats = lstatSync(folder)
  if (!stats.isDirectory())
    throw fail(
      'usage',
      `reading the steps in ${folder}: it is not a folder`,
      'Name the folder itself, not a link to it.',
    )
  const files = readdirSync(folder)
    .filter(name => name.endsWith('.sh'))
    .sort()
  if (files.length > 0) checkOwner(folder, stats)
  if (files.length > MOST_STEPS) throw fail('usage', `reading the steps in ${folder}: it has more than ${MOST_STEPS}`)
  return files.map(file => readStep(folder, file))
}
