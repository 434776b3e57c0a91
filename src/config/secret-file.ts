/** Files that hold secrets: nobody but their owner may change them, and at most their group may read them. */
import { chmodSync, statSync } from 'node:fs'
import { shellWord } from '../shell-word.ts'

/**
 * What is wrong with the permissions of a secret file; null when nothing is. `isFinal`: the reader can correct it. A file whose
 * permissions we may not set (mounted, read-only, of another owner) is the work of whoever mounted it: it is taken.
 */
export const secretFileFault = (path: string): { text: string; isFinal: boolean } | null => {
  if (process.platform === 'win32') return null
  const mode = statSync(path).mode & 0o7777
  if ((mode & 0o027) === 0) return null
  const verb = mode & 0o022 ? 'changed' : 'read'
  const fault = `${path} holds a secret, and can be ${verb} by other users (mode ${(mode & 0o777).toString(8).padStart(4, '0')})`
  try {
    // As it is: this only finds out whether it can be set.
    chmodSync(path, mode)
  } catch {
    return {
      text: `${fault}. Its permissions cannot be changed from here; whoever provides it should narrow them.`,
      isFinal: false,
    }
  }
  return { text: `${fault}. Run: chmod ${mode & 0o007 ? 600 : 640} ${shellWord(path)}`, isFinal: true }
}
