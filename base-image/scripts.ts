/** The text of the shell scripts beside this file, which turn a machine into a base image. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export const baseScript = (file: 'setup-base.sh' | 'contents.sh' | 'seal.sh'): string =>
  readFileSync(join(import.meta.dirname, file), 'utf8')
