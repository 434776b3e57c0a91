/**
 * Everything around a ticket that moves: stand-ins for GitHub, Jira and the model, a git server with tokens, and `agent-swarm up` as
 * a process, with real machines. It has a home of its own.
 */
import { execFileSync, spawn } from 'node:child_process'
import { appendFileSync, createReadStream, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { openRegistry } from '../../src/registry/registry.ts'
import { gitEnvironment, startGitServer } from '../support/git-server.ts'
import { startGitHub } from '../support/github.ts'
import { startGitHubWithGit } from '../support/github-address.ts'
import { startJira } from '../support/jira.ts'
import { openModelServer, type Reply } from '../support/model-server.ts'
import { until } from '../support/wait.ts'
import { entry, home as sharedHome, succeed, swarmEnvironment, swarmWith } from './cli.ts'

export const REPO = 'acme/shop'
export const MODEL_KEY = 'sk-canary-0123456789abcdef0123456789'
/** Boots take a minute or two under software emulation. */
export const PATIENCE = { within: 10 * 60_000, every: 250 }

type Options = {
  issues: Record<string, string>
  /** The text of config.yaml, given the model's address. */
  config: (modelUrl: string) => string
  /** `.github/agent-swarm.yml` of the default branch. */
  repositoryFile: string
  replies?: Reply[]
}

/** Which of these texts the bytes of a file have, wherever they lie in it. */
export const searchBytes = async (file: string, texts: readonly string[]): Promise<string[]> => {
  const found = new Set<string>()
  const longest = Math.max(...texts.map(text => text.length))
  let rest = Buffer.alloc(0)
  for await (const chunk of createReadStream(file, { highWaterMark: 16 * 1024 ** 2 })) {
    const bytes = Buffer.concat([rest, chunk as Buffer])
    for (const text of texts) if (!found.has(text) && bytes.includes(text)) found.add(text)
    rest = bytes.subarray(-longest)
  }
  return texts.filter(text => found.has(text))
}

/** A repository with one commit on main. */
const fillRepository = (git: Awaited<ReturnType<typeof startGitServer>>, file: string): void => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-seed-'))
  const run = (...argv: string[]) => execFileSync('git', argv, { cwd: folder, env: gitEnvironment(folder) })
  run('init', '-q', '-b', 'main')
  mkdirSync(join(folder, '.github'))
  writeFileSync(join(folder, '.github/agent-swarm.yml'), file)
  run('add', '-A')
  run('commit', '-qm', 'The beginning')
  run('push', '-q', git.path(REPO), 'HEAD:main')
  rmSync(folder, { recursive: true, force: true })
}

export const openTicketStage = async ({ issues, config, repositoryFile, replies = [] }: Options) => {
  const home = join(dirname(sharedHome), 'agents 100%')
  rmSync(home, { recursive: true, force: true })
  mkdirSync(join(home, 'model-keys'), { recursive: true, mode: 0o700 })
  const model = await openModelServer(replies)
  for (const name of ['anthropic', 'openai'])
    writeFileSync(join(home, 'model-keys', name), `${MODEL_KEY}\n`, { mode: 0o600 })
  writeFileSync(join(home, 'config.yaml'), config(model.url), { mode: 0o600 })
  const git = await startGitServer()
  git.addRepository(REPO)
  fillRepository(git, repositoryFile)
  const github = await startGitHub({ people: { dev: 'push' }, permissions: { contents: 'write', checks: 'read' } })
  const front = await startGitHubWithGit(github, git)
  const jira = await startJira({ issues })
  const environment = { AGENT_SWARM_HOME: home, AGENT_SWARM_CPUS: '2' }
  const swarm = (...words: string[]) => swarmWith(environment, ...words)
  const must = (...words: string[]) => succeed(swarm(...words))

  let output = ''
  /** For whoever looks why a test failed: it stays. */
  const logFile = `${home}.log`
  rmSync(logFile, { force: true })
  const start = async () => {
    const before = output.length
    const child = spawn(process.execPath, [entry, 'up', '--port', '0'], {
      env: {
        ...{ PATH: process.env.PATH, HOME: home, LC_ALL: 'C', AGENT_SWARM_PROVIDER: 'kvm' },
        ...{ AGENT_SWARM_MEMORY_MIB: '2048', AGENT_SWARM_DISK_GIB: '8', LOG_LEVEL: 'debug' },
        ...environment,
        ...github.settings,
        ...jira.settings,
        GITHUB_API_URL: front.url,
        JIRA_PROJECTS: [...new Set(Object.keys(issues).map(key => key.split('-')[0]))].join(','),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', chunk => {
        output += chunk
        appendFileSync(logFile, chunk)
      })
    const url = await until('agent-swarm up', () => output.slice(before).match(/listens on (http:[^\s,]+)/)?.[1])
    github.sendTo(url)
    jira.sendTo(url)
    return child
  }
  let up = await start()
  const stop = async (signal: NodeJS.Signals) => {
    const ended = new Promise(done => up.once('exit', done))
    up.kill(signal)
    await ended
  }
  /** The runner's own. Read here, since a process of the CLI for each look takes what the guests need. */
  const registry = openRegistry(join(home, 'registry.db'))
  return {
    home,
    model,
    git,
    github,
    front,
    jira,
    registry,
    /** The output of a command of the CLI, which succeeds. */
    must,
    environment: { ...swarmEnvironment, ...environment },
    log: () => output,
    inside: (ticket: string, command: string) => must('ssh', ticket, '--', command),
    /** Somebody's commit on a branch of the git server. */
    commitOf: (branch: string, subject: string): void => {
      const tree = git.git(REPO, 'rev-parse', `${branch}^{tree}`)
      const commit = git.git(REPO, 'commit-tree', tree, '-p', branch, '-m', subject)
      git.git(REPO, 'update-ref', `refs/heads/${branch}`, commit)
    },
    /** Ends `agent-swarm up` as kill -9 does, and starts it again. */
    crash: async () => {
      await stop('SIGKILL')
      up = await start()
    },
    close: async () => {
      if (up.exitCode === null) await stop('SIGTERM')
      for (const { ticket } of registry.environments()) await swarm('delete', ticket, '--force', '--yes')
      registry.close()
      model.close()
      await Promise.all([front.stop(), jira.stop(), git.stop()])
      await github.stop()
    },
  }
}
export type TicketStage = Awaited<ReturnType<typeof openTicketStage>>
