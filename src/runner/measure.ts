/** How large files and folders are, and when they changed. No link is followed: it may lead to somebody else's. */
import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'

/** The files in it, at any depth. A file that disappears meanwhile is left out. */
export const filesIn = async (folder: string): Promise<{ file: string; bytes: number; changedAt: number }[]> => {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
  const files = entries.filter(entry => !entry.isDirectory()).map(entry => join(entry.parentPath, entry.name))
  const found = await Promise.all(
    files.map(async file => {
      const info = await lstat(file).catch(() => null)
      return info === null ? null : { file, bytes: info.size, changedAt: info.mtimeMs }
    }),
  )
  return found.filter(one => one !== null)
}

/** Of a file, or of all files in a folder. */
export const bytesOf = async (path: string): Promise<number> => {
  const stats = await lstat(path).catch(() => null)
  if (stats === null || !stats.isDirectory()) return stats?.size ?? 0
  return (await filesIn(path)).reduce((sum, { bytes }) => sum + bytes, 0)
}

/** When it changed last, epoch ms; a folder: when anything in it did. Null when it is gone. */
export const changedAt = async (path: string): Promise<number | null> => {
  const stats = await lstat(path).catch(() => null)
  if (stats === null || !stats.isDirectory()) return stats?.mtimeMs ?? null
  return Math.max(stats.mtimeMs, ...(await filesIn(path)).map(file => file.changedAt))
}
