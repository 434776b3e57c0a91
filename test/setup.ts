/** Runs once before the tests of a project. */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { compiled } from './support/cli-processes.ts'

export default ({ name }: TestProject) => {
  const [major] = process.versions.node.split('.').map(Number)
  if (major !== 24)
    throw new Error(
      `The tests run on Node 24, and this is ${process.versions.node}. Run npm ci without --ignore-scripts.`,
    )
  // In a new checkout dozens of processes would start at once, and each would compile everything for itself.
  if (name !== 'unit' && !existsSync(compiled.NODE_COMPILE_CACHE))
    execFileSync(process.execPath, [join(import.meta.dirname, 'support/compile.ts')], {
      env: { ...process.env, ...compiled },
    })
}
