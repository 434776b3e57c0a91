/** A person's own ssh configuration: one line at its top includes our file, and everything else there stays as it is. */
import { existsSync, lstatSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fail } from '../../errors.ts'
import { writeFileAtomic } from '../../files.ts'
import { sshPath } from './options.ts'

export const USE_OWN_FILE = 'Or write a file of your own: agent-swarm ssh --config > FILE, and use ssh -F FILE.'

/** `description`: an imperative sentence without a full stop. */
export type Step = { description: string; run: () => void }

/** Our file for the machines of this host, in a person's `.ssh`. */
export const ownHostsFile = (folder: string): string => join(folder, 'agent-swarm.config')

/** Bytes as characters, one each, so that text in any encoding survives. */
export const asBytes = (text: string) => Buffer.from(text, 'utf8').toString('latin1')
const readBytes = (path: string) => (existsSync(path) ? readFileSync(path, 'latin1') : '')

export const includeLine = (path: string, platform: NodeJS.Platform = process.platform): string => {
  const file = sshPath(path, platform)
  if (/["\\%$*?[\]{}\p{C}\p{Zl}\p{Zp}]/u.test(file))
    throw fail('not-configured', `ssh cannot include a file from the folder "${dirname(file)}"`, USE_OWN_FILE.slice(3))
  return `Include "${file}"`
}

/** The first line before any `Host` or `Match`, where it counts for every host, that includes our file; -1 when there is none. */
const includedAt = (lines: readonly string[], file: string): number => {
  const ours = [sshPath(file), basename(file), `~/.ssh/${basename(file)}`].map(asBytes)
  for (const [index, line] of lines.entries()) {
    const [keyword = '', ...words] = [...line.matchAll(/"([^"]*)"|([^\s="]+)/g)].map(
      match => match[1] ?? match[2] ?? '',
    )
    if (/^(host|match)$/i.test(keyword)) return -1
    if (/^include$/i.test(keyword) && words.some(word => ours.includes(word))) return index
  }
  return -1
}
const linesOf = (config: string): string[] => config.split(/(?<=\n)/)
const isLine = (text: string | undefined, line: string) => text?.replace(/\r?\n$/, '') === asBytes(line)

/** The file that a link leads to: some people keep their configuration in another folder. */
const resolveLinks = (path: string): string => {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return path
  const target = existsSync(path) ? realpathSync(path) : null
  if (target !== null && statSync(target).isFile()) return target
  throw fail(
    'refused',
    `${path} is not a file`,
    target === null ? 'It is a link that leads nowhere: remove it first.' : 'Move it away first.',
  )
}

/** Writes in place where no file can be made beside it, or where it is a mount of its own. */
export const write = (path: string, bytes: string): void => {
  const content = Buffer.from(bytes, 'latin1')
  // A person who removed the folder does not get it back.
  if (!existsSync(dirname(path)))
    throw fail(
      'unknown',
      `writing ${path}: ENOENT: its folder does not exist`,
      'Remove the hosts: agent-swarm ssh --config --uninstall',
    )
  try {
    writeFileAtomic(path, content)
  } catch (error) {
    const cause = error instanceof Error ? error.cause : null
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : ''
    if (!existsSync(path) || !['EACCES', 'EPERM', 'EBUSY', 'EXDEV'].includes(code)) throw error
    try {
      writeFileSync(path, content)
    } catch {
      throw error
    }
  }
}

export const removal = (path: string): Step => ({
  description: `remove ${path}`,
  run: () => {
    try {
      rmSync(path, { force: true })
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      throw fail('permission', `removing ${path}: ${message}`, 'Check who may write in its folder.', error)
    }
  },
})

/**
 * Includes `file`, which lies in the folder of the configuration: at its top, or below the line that includes our other file,
 * which ssh then reads first. `made`: what was not there before.
 */
export const includeSteps = (
  file: string,
  { below = null }: { below?: string | null } = {},
): { made: ('config' | 'include')[]; steps: Step[] } => {
  const path = resolveLinks(join(dirname(file), 'config'))
  const config = readBytes(path)
  const line = includeLine(file)
  const made = existsSync(path) ? [] : ['config' as const]
  const lines = linesOf(config)
  const [at, above] = [includedAt(lines, file), below === null ? -1 : includedAt(lines, below)]
  // A line that a person wrote stays where it is.
  if (at > above || (at !== -1 && !isLine(lines[at], line))) return { made, steps: [] }
  const lineEnd = config.includes('\r\n') ? '\r\n' : '\n'
  const before = lines.slice(0, above + 1).filter((_, index) => index !== at)
  const text = [
    ...before.map(text => (text.endsWith('\n') ? text : `${text}${lineEnd}`)),
    asBytes(line),
    lineEnd,
    ...lines.slice(above + 1),
  ].join('')
  const place = above === -1 ? `at the top of ${path}` : `to ${path}, below that of this host`
  const step = {
    description: `${at === -1 ? 'add one line' : 'move one line'} ${place}: ${line}`,
    run: () => write(path, text),
  }
  return { made: [...made, 'include'], steps: [step] }
}

/** `isOurConfig`: a configuration that is empty then goes, too. */
export const excludeSteps = (file: string, isOurConfig: boolean): Step[] => {
  const path = resolveLinks(join(dirname(file), 'config'))
  const lines = linesOf(readBytes(path))
  const line = includeLine(file)
  const index = lines.findIndex(text => isLine(text, line))
  if (index === -1) return []
  const rest = lines.toSpliced(index, 1).join('')
  return [
    rest === '' && isOurConfig
      ? removal(path)
      : { description: `remove one line from ${path}: ${line}`, run: () => write(path, rest) },
  ]
}
