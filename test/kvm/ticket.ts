/**
 * Everything around a ticket that moves: stand-ins for GitHub, Jira and the model, a git server with tokens, and the bot and its
 * runner as two processes, with real machines. Each of both has a home of its own.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
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
/** The runner's name at the bot. */
export const RUNNER = 'studio'
export const MODEL_KEY = 'sk-canary-0123456789abcdef0123456789'
/** Boots take a minute or two under software emulation. */
export const PATIENCE = { within: 10 * 60_000, every: 250 }

type Options = {
  issues: Record<string, string>
  /** The text of config.yaml, given the model's address. Bot and runner get the same. */
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

/**
 * Words of grep that find these texts, without the texts themselves: what searches a machine does not bring them there.
 * https://pubs.opengroup.org/onlinepubs/9799919799/basedefs/V1_chap09.html#tag_09_03
 */
export const grepWords = (texts: readonly string[]): string =>
  texts.map(text => `-e '${text.slice(0, -1).replaceAll(/[\\.*[\]^$]/g, '\\$&')}[${text.slice(-1)}]'`).join(' ')

/** A commit on main of what the repository says of itself. */
const commitFile = (git: Awaited<ReturnType<typeof startGitServer>>, file: string, subject: string): void => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-seed-'))
  const run = (...argv: string[]) =>
    execFileSync('git', argv, { cwd: folder, env: gitEnvironment(folder), stdio: 'pipe' })
  run('clone', '-q', git.path(REPO), '.')
  mkdirSync(join(folder, '.github'), { recursive: true })
  writeFileSync(join(folder, '.github/agent-swarm.yml'), file)
  run('add', '-A')
  run('commit', '-qm', subject)
  run('push', '-q', git.path(REPO), 'HEAD:main')
  rmSync(folder, { recursive: true, force: true })
}

export const openTicketStage = async ({ issues, config, repositoryFile, replies = [] }: Options) => {
  const home = join(dirname(sharedHome), 'agents 100%')
  const botHome = `${home} bot`
  for (const folder of [home, botHome]) {
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  }
  mkdirSync(join(home, 'model-keys'), { mode: 0o700 })
  const model = await openModelServer(replies)
  for (const name of ['anthropic', 'openai'])
    writeFileSync(join(home, 'model-keys', name), `${MODEL_KEY}\n`, { mode: 0o600 })
  const configure = (text: string): void => {
    for (const folder of [home, botHome]) writeFileSync(join(folder, 'config.yaml'), text, { mode: 0o600 })
  }
  configure(config(model.url))
  const git = await startGitServer()
  git.addRepository(REPO)
  commitFile(git, repositoryFile, 'The beginning')
  const github = await startGitHub({ people: { dev: 'push' }, permissions: { contents: 'write', checks: 'read' } })
  const front = await startGitHubWithGit(github, git)
  const jira = await startJira({ issues })
  const environment = { AGENT_SWARM_HOME: home, AGENT_SWARM_CPUS: '2', GITHUB_API_URL: front.url }
  const swarm = (...words: string[]) => swarmWith(environment, ...words)
  const must = (...words: string[]) => succeed(swarm(...words))
  const mustBot = (...words: string[]) => succeed(swarmWith({ AGENT_SWARM_HOME: botHome }, ...words))

  let output = ''
  /** For whoever looks why a test failed: it stays. */
  const logFile = `${home}.log`
  rmSync(logFile, { force: true })
  const launch = async (words: string[], settings: Record<string, string | undefined>, isUp: RegExp) => {
    const before = output.length
    const child = spawn(process.execPath, [entry, ...words], {
      env: { PATH: process.env.PATH, HOME: home, LC_ALL: 'C', LOG_LEVEL: 'debug', ...settings },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', chunk => {
        output += chunk
        appendFileSync(logFile, chunk)
      })
    const url = await until(`agent-swarm ${words[0]}`, () => output.slice(before).match(isUp)?.[1])
    return { child, url }
  }
  const end = async (child: ChildProcess, signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise(done => child.once('exit', done))
    child.kill(signal)
    await ended
  }
  /** The runner's own. Read here, since a process of the CLI for each look takes what the guests need. */
  const registry = openRegistry(join(home, 'registry.db'))
  const tokens: string[] = []
  let id: string | null = null
  /** A runner whose token was revoked gets a new one, and keeps its tickets. */
  const newToken = async (): Promise<void> => {
    const as = id === null ? [] : ['--as', id]
    const added = JSON.parse(await mustBot('bot', 'runner', 'add', RUNNER, '--json', ...as))
    id = added.id
    tokens.push(added.token)
  }
  // A bot without one does not start.
  await newToken()
  const bot = await launch(
    ['bot', '--port', '0'],
    {
      ...github.settings,
      ...jira.settings,
      AGENT_SWARM_HOME: botHome,
      GITHUB_API_URL: front.url,
      JIRA_PROJECTS: [...new Set(Object.keys(issues).map(key => key.split('-')[0]))].join(','),
    },
    /listens on (http:[^\s,]+)/,
  )
  github.sendTo(bot.url)
  jira.sendTo(bot.url)
  const startRunner = async (): Promise<ChildProcess> => {
    const settings = {
      ...{ AGENT_SWARM_BOT_URL: bot.url, AGENT_SWARM_RUNNER_TOKEN: tokens.at(-1), AGENT_SWARM_PROVIDER: 'kvm' },
      ...{ AGENT_SWARM_MEMORY_MIB: '2048', AGENT_SWARM_DISK_GIB: '8', ...environment },
    }
    return (await launch(['runner'], settings, /takes work from (http:[^\s,]+)/)).child
  }
  let runner = await startRunner()
  return {
    home,
    model,
    git,
    github,
    front,
    jira,
    registry,
    botUrl: bot.url,
    /** The tokens of the runner, the newest last. */
    tokens,
    /** The output of a command of the CLI on the runner's host, or on the bot's, which succeeds. */
    must,
    mustBot,
    environment: { ...swarmEnvironment, ...environment },
    log: () => output,
    inside: (ticket: string, command: string) => must('ssh', ticket, '--', command),
    /** Somebody's commit on a branch of the git server. */
    commitOf: (branch: string, subject: string): void => {
      const tree = git.git(REPO, 'rev-parse', `${branch}^{tree}`)
      const commit = git.git(REPO, 'commit-tree', tree, '-p', branch, '-m', subject)
      git.git(REPO, 'update-ref', `refs/heads/${branch}`, commit)
    },
    /** The repository says something else of itself from now on. */
    commitFile: (file: string) => commitFile(git, file, 'Another word on agents'),
    configure,
    newToken,
    /** Ends the runner, by default as kill -9 does. */
    endRunner: (signal: NodeJS.Signals = 'SIGKILL') => end(runner, signal),
    startRunner: async () => {
      runner = await startRunner()
    },
    close: async () => {
      await end(runner, 'SIGTERM')
      await end(bot.child, 'SIGTERM')
      for (const { ticket } of registry.environments()) await swarm('delete', ticket, '--force', '--yes')
      registry.close()
      model.close()
      await Promise.all([front.stop(), jira.stop(), git.stop()])
      await github.stop()
    },
  }
}
export type TicketStage = Awaited<ReturnType<typeof openTicketStage>>
