import { readFileSync } from 'node:fs'
import { findPackageJSON } from 'node:module'
import { dirname, join } from 'node:path'
import { fail } from '../../errors.ts'
import type { CommandTable } from '../command.ts'
import { answer, shells } from '../complete.ts'
import type { RunCommand } from '../terminal/output.ts'

export const completionOf =
  (table: CommandTable): RunCommand =>
  async ({ words: [name = '', ...typed], terminal: { stdout, env } }) => {
    if (!Object.hasOwn(shells, name))
      throw fail('usage', `No completion for "${name}".`, `Shells: ${Object.keys(shells).join(', ')}.`)
    const shell = name as keyof typeof shells
    if (typed.length > 0) {
      // A person is typing: print nothing when something is wrong.
      stdout.write(await answer(table, shell, typed, env).catch(() => ''))
      return 0
    }
    const folder = dirname(findPackageJSON(import.meta.url) ?? '.')
    stdout.write(readFileSync(join(folder, 'completions', shells[shell].script), 'utf8'))
    return 0
  }
