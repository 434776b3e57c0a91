/** The real Claude Code and Codex from the npm registry, in a folder that stays between runs. Hundreds of megabytes. */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

const FOLDER = '/var/tmp/agent-swarm-agents'
const PACKAGES = ['@anthropic-ai/claude-code@2.1.197', '@openai/codex@0.171.0']

const programs = {
  claude: join(FOLDER, 'node_modules/@anthropic-ai/claude-code-linux-x64/claude'),
  codex: join(FOLDER, 'node_modules/.bin/codex'),
}

/** Their programs; a sentence when they cannot be had here. */
export const realAgents = async (): Promise<typeof programs | string> => {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'the agents are tried on Linux on x86-64'
  if (Object.values(programs).every(existsSync)) return programs
  try {
    mkdirSync(FOLDER, { recursive: true })
    writeFileSync(join(FOLDER, 'package.json'), '{"private":true}')
    await promisify(execFile)('npm', ['install', '--no-audit', '--no-fund', ...PACKAGES], {
      cwd: FOLDER,
      timeout: 600_000,
    })
  } catch (error) {
    return `the agents cannot be installed: ${error instanceof Error ? error.message.slice(0, 300) : error}`
  }
  return Object.values(programs).every(existsSync) ? programs : 'the packages have other programs than expected'
}
