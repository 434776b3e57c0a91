#!/usr/bin/env node
// The one JavaScript file: it must be readable by any Node, so that an older one can say what is missing.
import { readFileSync } from 'node:fs'
// Whole: a named import of what an older Node lacks would end it before it can say so.
import module from 'node:module'
import { homedir } from 'node:os'
import { join } from 'node:path'

const [major] = process.versions.node.split('.').map(Number)
if (major < 24) {
  process.stderr.write(
    `agent-swarm needs Node 24 or newer, and this is Node ${process.versions.node}. Install it from https://nodejs.org; in a checkout, "npm ci" (without --ignore-scripts) brings it for npm's scripts.\n`,
  )
  process.exit(1)
}
if (process.argv[2] === '--version' && process.argv.length === 3) {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  process.stdout.write(`${version}\n`)
} else {
  // Ours and private: a cache of code that others could write would be a way in.
  module.enableCompileCache(join(process.env.AGENT_SWARM_HOME || join(homedir(), '.agent-swarm'), 'cache', 'compile'))
  const { main } = await import('../src/cli/main.ts')
  process.exitCode = await main(process.argv.slice(2))
}
