/**
 * The real Claude Code and Codex from the npm registry, in a folder that stays between runs. Hundreds of megabytes each. Their
 * programs themselves, which need no Node: a machine may have none.
 */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

const uid = process.getuid?.() ?? 0
const programs = {
  claude: {
    package: '@anthropic-ai/claude-code@2.1.197',
    path: 'node_modules/@anthropic-ai/claude-code-linux-x64/claude',
  },
  codex: {
    package: '@openai/codex@0.171.0',
    path: 'node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex',
  },
} as const
type Name = keyof typeof programs

/** A folder of this user alone: what lies in it is run. */
const ownFolder = (name: Name): string => {
  const folder = `/var/tmp/agent-swarm-agents-${uid}-${name}`
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const { uid: owner, mode } = statSync(folder)
  if (owner !== uid || (mode & 0o077) !== 0) throw new Error(`${folder} is not this user's alone`)
  return folder
}

/** The path of the program; null, and a line that says why, when it cannot be had here. */
export const realAgent = async (name: Name): Promise<{ path: string } | null> => {
  const found = await find(name)
  if (typeof found !== 'string') return found
  process.stderr.write(`Left out: the real ${name}. ${found}\n`)
  return null
}

const find = async (name: Name): Promise<{ path: string } | string> => {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'It is tried on Linux on x86-64.'
  try {
    const folder = ownFolder(name)
    const path = join(folder, programs[name].path)
    if (existsSync(path)) return { path }
    writeFileSync(join(folder, 'package.json'), '{"private":true}')
    // Without a network it says so at once.
    const argv = ['install', '--no-audit', '--no-fund', '--fetch-retries=1', programs[name].package]
    await promisify(execFile)('npm', argv, { cwd: folder, timeout: 600_000 })
    return existsSync(path) ? { path } : 'Its package has another program than expected.'
  } catch (error) {
    return `It cannot be installed: ${error instanceof Error ? error.message.slice(0, 300) : error}`
  }
}
