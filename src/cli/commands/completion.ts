import { readFileSync } from 'node:fs'
import { findPackageJSON } from 'node:module'
import { dirname, join } from 'node:path'
import { fail } from '../../errors.ts'
import { answer, shells } from '../complete.ts'
import type { RunCommand } from '../terminal/output.ts'

export const run: RunCommand = async ({ words: [name = '', ...given] }) => {
  if (!Object.hasOwn(shells, name))
    throw fail('usage', `there is no completion for "${name}"`, `The shells: ${Object.keys(shells).join(', ')}.`)
  const shell = name as keyof typeof shells
  if (given.length > 0) {
    // Somebody is typing: whatever is wrong, nothing is said.
    process.stdout.write(await answer(shell, given).catch(() => ''))
    return 0
  }
  const folder = dirname(findPackageJSON(import.meta.url) ?? '.')
  process.stdout.write(readFileSync(join(folder, 'completions', shells[shell].script), 'utf8'))
  return 0
}
