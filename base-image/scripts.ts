/** The shell scripts beside this file, as text: what a guest runs to become a base image. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export const baseScript = (file: 'setup-base.sh' | 'contents.sh' | 'seal.sh'): string =>
  readFileSync(join(import.meta.dirname, file), 'utf8')
