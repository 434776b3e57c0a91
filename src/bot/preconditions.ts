/** What must be true before a bot starts. */

import { chmodSync, existsSync, mkdirSync } from 'node:fs'
import { type Config, REPOSITORIES_MISSING } from '../config/config.ts'
import { storeFile } from '../config/home.ts'
import { fail } from '../errors.ts'
import { openStore } from '../store/sqlite/index.ts'
import { findBot } from './http/operator.ts'
import { knownRepositories } from './known-repositories.ts'

/** What a problem's sentence does not say: the list of repositories to paste, filled with those that are known. */
const toPaste = async (config: Config): Promise<string[]> => {
  if (!config.botProblems.includes(REPOSITORIES_MISSING)) return []
  const known = await knownRepositories(config)
  if (known.length === 0) return []
  return [
    `These are known. Remove what shall not act on tickets, and paste the line into config.yaml, or set the variable:\n      githubRepositories: [${known.join(', ')}]\n      GITHUB_REPOSITORIES=${known.join(',')}`,
  ]
}

/** Whether a runner has a token of its own in the store of this home. */
const hasRunners = async (home: string): Promise<boolean> => {
  const path = storeFile(home)
  if (!existsSync(path)) return false
  const store = openStore(path, Date.now)
  try {
    return await store.runnerTokens.hasOwn()
  } finally {
    await store.close()
  }
}

/** Throws `not-configured` with everything that is missing. `ownToken`: of the runner in this process. */
export const requireConfigured = async (config: Config, ownToken: string | null): Promise<void> => {
  const { home, botProblems, runnerToken } = config
  const canConnect = ownToken !== null || runnerToken !== null || (await hasRunners(home))
  const missing = canConnect ? [] : ['AGENT_SWARM_RUNNER_TOKEN is missing: without it, runners cannot connect.']
  const problems = [...botProblems, ...missing, ...(await toPaste(config))]
  if (problems.length === 0) return
  throw fail(
    'not-configured',
    `starting the bot:\n${problems.map(problem => `  - ${problem}`).join('\n')}`,
    botProblems.length > 0
      ? 'Set it up step by step: agent-swarm init'
      : 'Make a token for each runner: agent-swarm bot runner add NAME. Or set the same AGENT_SWARM_RUNNER_TOKEN for the bot and one runner, for example from: openssl rand -hex 32. On one host, agent-swarm up needs none.',
  )
}

/** Makes the home private, and refuses a second bot there: both would publish every message. */
export const takeHome = async (home: string, { isDryRun }: { isDryRun: boolean }): Promise<void> => {
  mkdirSync(home, { recursive: true, mode: 0o700 })
  chmodSync(home, 0o700)
  // A bot that does not answer is no reason not to start.
  if (isDryRun || (await findBot(home).catch(() => null)) === null) return
  throw fail(
    'busy',
    `starting the bot: another one runs with AGENT_SWARM_HOME ${home}`,
    'Stop that one first, or set another AGENT_SWARM_HOME for this one.',
  )
}
