import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { compiled } from './support/cli-processes.ts'

export default () => {
  // Its absence would go unnoticed otherwise.
  const [major] = process.versions.node.split('.').map(Number)
  if (major !== 24)
    throw new Error(
      `The tests run on Node 24, and this is ${process.versions.node}. Run npm ci without --ignore-scripts.`,
    )
  // In a new checkout dozens of processes would start at once, and each compile everything for itself.
  if (!existsSync(compiled.NODE_COMPILE_CACHE))
    execFileSync(process.execPath, [join(import.meta.dirname, 'support/compile.ts')], {
      env: { ...process.env, ...compiled },
    })
}
