/** The command that ssh runs for its connection to a machine: this installation, by absolute paths, since an editor does not have our PATH. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { EnvironmentKey } from '../../domain.ts'
import { checkName, fail } from '../../errors.ts'
import { printable } from './options.ts'

/** In a checkout, and in the package, whose compiled scripts are one folder deeper. */
const ENTRY = ['../../../bin/agent-swarm.js', '../../../../bin/agent-swarm.js']
  .map(path => join(import.meta.dirname, path))
  .find(path => existsSync(path))

/**
 * A word of the command line in ssh's configuration. ssh gives the line to the user's shell, or on Windows to the system; a `%` is its
 * own escape.
 */
export const commandWord = (word: string, platform = process.platform): string => {
  const text = printable(word).replaceAll('%', '%%')
  // ssh itself reads a backslash before a quote as an escape, so that none stands within quotes.
  if (platform !== 'win32') return `'${text.replaceAll(/['\\]/g, "'\\$&'")}'`
  if (!text.includes('"')) return `"${text.replace(/\\+$/, '$&$&')}"`
  throw fail('not-configured', `ssh cannot be given the path ${JSON.stringify(word)}`, 'Use a path without quotes.')
}

/** `node`: the program that runs us. */
export const proxyCommand = (
  home: string,
  ticket: EnvironmentKey,
  { node = process.execPath, entry = ENTRY ?? '', platform = process.platform } = {},
): string => {
  const quoted = (word: string) => commandWord(word, platform)
  return `${quoted(node)} ${quoted(entry)} ssh --stdio ${checkName('environment', ticket)} --home ${quoted(home)}`
}
