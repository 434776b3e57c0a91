/**
 * The whole workflow on this host in one command: npm run demo [-- --provider kvm [--install]]
 * GitHub and Jira are simulators on loopback; bot, queue, runner and provider are real.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const [major] = process.versions.node.split('.').map(Number)
if (major === undefined || major < 24) {
  process.stderr.write(
    `The demo needs Node 24 or newer, and this is Node ${process.versions.node}. Run "npm ci" (without --ignore-scripts), then "npm run demo".\n`,
  )
  process.exit(1)
}
const { startGitHub } = await import('../test/support/github.ts')
const { startJira } = await import('../test/support/jira.ts')
const { until } = await import('../test/support/wait.ts')
const { prepareKvm } = await import('./kvm.ts')
const { agentSettings } = await import('./scripted-agent.ts')

const { values: flags } = parseArgs({
  options: {
    provider: { type: 'string', default: 'synthetic' },
    install: { type: 'boolean', default: false },
    'in-namespace': { type: 'boolean', default: false },
  },
})
const { provider } = flags
if (provider !== 'synthetic' && provider !== 'kvm') {
  process.stderr.write(`--provider must be synthetic or kvm, not "${provider}".\n`)
  process.exit(2)
}
const real = provider === 'kvm'
const entry = resolve(import.meta.dirname, '../bin/agent-swarm.js')
/** A first boot under software emulation takes a minute or two, two at once longer. */
const PATIENCE = { within: real ? 10 * 60_000 : 60_000, every: 50 }

if (real) {
  const entered = await prepareKvm({ install: flags.install, inNamespace: flags['in-namespace'] })
  // The demo has run in a namespace with its own libvirt.
  if (entered !== null) process.exit(entered)
}

// ── Output ──
const startedAt = performance.now()
const line = (who: string, what: string) =>
  process.stdout.write(
    `${((performance.now() - startedAt) / 1000).toFixed(1).padStart(7)} s  ${who.padEnd(7)} ${what}\n`,
  )
const linesOf = (text: string) =>
  text
    .replaceAll(/<!--.*?-->/gs, '')
    .split('\n')
    .map(line => line.trim())
    .filter(line => line !== '')

// ── Processes, which end whatever happens ──
const home = mkdtempSync(join(tmpdir(), 'agent-swarm-demo-'))
const logFile = join(home, 'up.log')
const environment: Record<string, string | undefined> = {
  PATH: process.env.PATH,
  HOME: process.env.HOME,
  AGENT_SWARM_HOME: join(home, 'state'),
  // Where set, the programs share compiled code that exists already.
  NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
  AGENT_SWARM_PROVIDER: provider,
  AGENT_SWARM_CPUS: '1',
  AGENT_SWARM_MEMORY_MIB: '1024',
  AGENT_SWARM_DISK_GIB: '8',
}
type Ended = { stdout: string; code: number }
const running = new Set<Promise<Ended>>()
const runCommand = (words: string[]): Promise<Ended> => {
  const ended = new Promise<Ended>(done => {
    const child = spawn(process.execPath, [entry, ...words], { env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', chunk => (stdout += chunk))
    child.stderr.on('data', chunk => (stderr += chunk))
    child.on('close', code => done({ stdout: stdout === '' ? stderr : stdout, code: code ?? 1 }))
  })
  running.add(ended)
  return ended.finally(() => running.delete(ended))
}
let ending: Promise<void> | null = null
/** The story's commands. After an interrupt it waits here for its end: a command would write into the home that is being removed. */
const swarm = (words: string[]): Promise<Ended> => (ending === null ? runCommand(words) : new Promise(() => {}))
type Listed = { ticket: string; status: string; ip: string | null; vmId: string }
const listOf = ({ stdout }: Ended): Listed[] => JSON.parse(stdout)
const list = async (): Promise<Listed[]> => listOf(await swarm(['list', '--json']))

/** Processes with this home in their environment. Linux only; empty elsewhere. */
const processesOf = (folder: string): string[] =>
  process.platform !== 'linux'
    ? []
    : readdirSync('/proc').filter(pid => {
        try {
          return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/environ`, 'utf8').includes(folder)
        } catch {
          // It has ended, or belongs to another user.
          return false
        }
      })

let up: ChildProcess | null = null
let github: Awaited<ReturnType<typeof startGitHub>> | null = null
let jira: Awaited<ReturnType<typeof startJira>> | null = null
const end = async () => {
  if (up !== null && up.exitCode === null) {
    const child = up
    const gone = new Promise(done => child.once('exit', done))
    child.kill('SIGTERM')
    // up ends within 8 s.
    const late = setTimeout(() => child.kill('SIGKILL'), 10_000)
    await gone
    clearTimeout(late)
  }
  await Promise.all(running)
  // An interrupted demo may have left machines.
  const machines = await runCommand(['list', '--json'])
    .then(listOf)
    .catch(() => [])
  for (const { ticket } of machines) await runCommand(['delete', ticket, '--force'])
  await github?.stop()
  await jira?.stop()
}
const interrupt = () => {
  ending ??= end().finally(() => {
    rmSync(home, { recursive: true, force: true })
    process.stdout.write('Interrupted. Everything is removed.\n')
    process.exit(130)
  })
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, interrupt)

type Scene = {
  hub: Awaited<ReturnType<typeof startGitHub>>
  board: Awaited<ReturnType<typeof startJira>>
}

const introduce = () => {
  const lines = [
    'GitHub and Jira are simulators on this host. Bot, queue, runner and git are real.',
    'The agent is a script, in place of Claude Code or Codex: no model is asked. How it starts, works and ends is real.',
    ...(real
      ? []
      : [
          'The provider is synthetic: machines are folders, and nothing boots.',
          'For real machines (Debian, Ubuntu): npm run demo -- --provider kvm --install',
        ]),
  ]
  process.stdout.write(`${lines.join('\n')}\n\n`)
}

const startAll = async (): Promise<Scene> => {
  github = await startGitHub({ people: { dev: 'push' }, permissions: { contents: 'write' } })
  jira = await startJira({ issues: { 'DEMO-1': 'Log in with a passkey', 'DEMO-2': 'Speed up the search' } })
  Object.assign(jira.issue('DEMO-2')?.fields ?? {}, { reporter: { accountId: 'somebody-else' } })
  mkdirSync(join(home, 'state'), { mode: 0o700 })
  // JSON is YAML.
  writeFileSync(join(home, 'state', 'config.yaml'), JSON.stringify({ agent: agentSettings }), { mode: 0o600 })
  const log = openSync(logFile, 'w')
  up = spawn(process.execPath, [resolve(import.meta.dirname, 'up.ts')], {
    env: { ...environment, ...github.settings, ...jira.settings, JIRA_PROJECTS: 'DEMO', PORT: '0' },
    stdio: ['ignore', log, log],
  })
  const url = await until(
    'the bot to listen',
    () => readFileSync(logFile, 'utf8').match(/The bot listens on (http:\S+?),/)?.[1],
    PATIENCE,
  )
  await until('the bot to be healthy', async () => (await fetch(new URL('/healthz', url))).ok)
  github.sendTo(url)
  jira.sendTo(url)
  line('bot', `listens on ${url}, with a runner on this host`)
  return { hub: github, board: jira }
}

const inMachine = async (ticket: string, command: string) => (await swarm(['ssh', ticket, '--', command])).stdout.trim()

const command = async ({ hub }: Scene, number: number, text: string) => {
  const id = await hub.comment(number, text)
  line('dev', `comments on the pull request: ${text}`)
  await until('👀', () => hub.reactions(id).includes('eyes'), PATIENCE)
  line('github', '👀 on the comment')
  const end = await until(
    'the end of the command',
    () => hub.reactions(id).find(reaction => reaction !== 'eyes'),
    PATIENCE,
  )
  const reply = await until(
    'the reply',
    async () =>
      (await hub.comments(number)).find(
        ({ authorType, body }) => authorType === 'Bot' && linesOf(body)[0]?.includes(text),
      ),
    PATIENCE,
  )
  const [, answer = ''] = linesOf(reply.body)
  line('github', `${end === 'rocket' ? '🚀' : '😕'} and a reply: ${answer}`)
  if (end !== 'rocket') throw new Error(`${text} failed`)
}

const statusComment = async ({ hub }: Scene, number: number, what: string, has: (body: string) => boolean) => {
  await until(
    what,
    async () => (await hub.comments(number)).find(({ body }) => body.includes('agent-swarm:status') && has(body)),
    PATIENCE,
  )
  line('github', `the status comment: ${what}`)
}

const twoMachines = async ({ board }: Scene) => {
  const tickets = ['DEMO-1', 'DEMO-2']
  for (const ticket of tickets) {
    const answer = await board.move(ticket, 'In Progress')
    line('jira', `${ticket} moves to "In Progress" (signed webhook, answered ${answer})`)
  }
  await Promise.all(
    tickets.map(async ticket => {
      const comment = await until(`the machine of ${ticket}`, () => board.comments(ticket)[0], PATIENCE)
      const [machine = '', noAgent] = linesOf(comment)
        .join(' ')
        .split(/ (?=Log in )| (?=No agent )/)
        .filter(part => !part.startsWith('Log in'))
      line('jira', `a comment on ${ticket}: ${machine}`)
      if (noAgent !== undefined) line('jira', `and: ${noAgent}`)
    }),
  )
}

/** Starts a service in each machine, on the same port. */
const twoServices = async () => {
  if (!real) {
    line('host', 'synthetic machines have no ports of their own: the demo cannot show two services on the same port')
    return
  }
  for (const { ticket, ip } of await list()) {
    await inMachine(
      ticket,
      `cd && mkdir -p www && echo "I am ${ticket}" > www/index.html && cd www && (nohup python3 -m http.server 8000 >/dev/null 2>&1 &)`,
    )
    const ask = () =>
      fetch(`http://${ip}:8000/`, { signal: AbortSignal.timeout(5_000) }).then(
        response => response.text(),
        () => null,
      )
    const answer = await until(`the service of ${ticket}`, ask, PATIENCE)
    line('host', `http://${ip}:8000/ answers: ${answer.trim()}`)
  }
}

/** Waits for the comment that the agent has ended, which it has `times` times then. */
const agentEnd = async ({ hub }: Scene, number: number, times: number) => {
  const end = await until(
    'the end of the agent',
    async () => (await hub.comments(number)).filter(({ body }) => body.includes('has ended'))[times - 1],
    PATIENCE,
  )
  const lines = linesOf(end.body)
  const result = lines.find(each => each.startsWith('- Result: '))?.slice('- Result: '.length)
  line('github', `a comment: the agent has ended, ${result}. Its last words: ${lines.at(-1)?.replace(/^> /, '')}`)
  if (result !== 'done') throw new Error(`the agent did not do its work:\n${end.body}`)
}

type Pull = { number: number; title: string; draft: boolean; head: { ref: string; sha: string } }
/** What comes of DEMO-1 without anybody typing. */
const agentsPullRequest = async ({ hub }: Scene): Promise<Pull> => {
  const pull = await until(
    'the pull request of the agent',
    async () => ((await hub.api('dev', 'GET', `/repos/${hub.repo}/pulls`)) as unknown as Pull[])[0],
    PATIENCE,
  )
  const { number, title, draft, head } = pull
  line('agent', `(a script) commits in the clone of ${hub.repo}, and pushes ${head.ref} through the git gateway`)
  line('github', `agent-swarm opens ${draft ? 'draft ' : ''}pull request #${number}: ${title}`)
  const refused = await inMachine('DEMO-1', 'cd ~/shop && git push origin HEAD:main 2>&1 | grep -m 1 agent-swarm:')
  line('host', `in the machine, git push origin HEAD:main is refused: ${refused.replace('remote: agent-swarm: ', '')}`)
  if (!refused.includes('default branch')) throw new Error('a push to main was not refused')
  return pull
}

const checkpointOf = ({ head }: Pull) => `push-${head.sha.slice(0, 7)}`

/** What it breaks was well when the push made its checkpoint. */
const breakMachine = async (scene: Scene, pull: Pull) => {
  const checkpoint = checkpointOf(pull)
  await statusComment(scene, pull.number, `checkpoint ${checkpoint}`, body => body.includes(checkpoint))
  await inMachine('DEMO-1', 'echo "all wrong" > ~/refactoring.txt')
  line('host', `in the machine, refactoring.txt says: ${await inMachine('DEMO-1', 'cat ~/refactoring.txt')}`)
}

/** Takes the machine back. Then a review goes to the agent, which works again; the bot writes a comment every 3 s at most. */
const restoreAndReview = async (scene: Scene, pull: Pull) => {
  const { number } = pull
  const isGone = async () => (await inMachine('DEMO-1', 'test -e ~/refactoring.txt || echo gone')) === 'gone'
  const review = async () => {
    await until('the restore', isGone, PATIENCE)
    line('host', 'in the machine, refactoring.txt is gone')
    const text = 'Please test the passkey of another site.'
    await scene.hub.review(number, text)
    line('dev', `reviews pull request #${number}, and asks for changes: ${text}`)
  }
  await Promise.all([command(scene, number, `/swarm restore ${checkpointOf(pull)}`), review()])
  await agentEnd(scene, number, 2)
}

const merge = async (scene: Scene, { number }: Pull) => {
  const { hub } = scene
  await hub.ready(number)
  await hub.merge(number)
  line('dev', `marks pull request #${number} as ready for review, and merges it`)
  await statusComment(scene, number, 'the machine is deleted', body => /deleted/i.test(body))
  await until('no machines', async () => (await list()).length === 0, PATIENCE)
  line('host', 'agent-swarm list: no machines')
}

/** A ticket that nobody works on any more. */
const backToDo = async ({ board }: Scene) => {
  line('jira', `DEMO-2 moves back to "To Do" (answered ${await board.move('DEMO-2', 'To Do')})`)
  const statusOf = async () => (await list()).find(({ ticket }) => ticket === 'DEMO-2')?.status ?? 'gone'
  await until('DEMO-2 to stop', async () => (await statusOf()) === 'stopped', PATIENCE)
  line('host', 'agent-swarm list: DEMO-2 is stopped')
  line('jira', `DEMO-2 moves to "Done" (answered ${await board.move('DEMO-2', 'Done')})`)
  await until('DEMO-2 to be gone', async () => (await statusOf()) === 'gone', PATIENCE)
  line('host', 'agent-swarm list: DEMO-2 is gone')
}

const run = async () => {
  introduce()
  const scene = await startAll()
  await twoMachines(scene)
  await twoServices()
  const pull = await agentsPullRequest(scene)
  await backToDo(scene)
  await breakMachine(scene, pull)
  await agentEnd(scene, pull.number, 1)
  await restoreAndReview(scene, pull)
  await merge(scene, pull)
}

const before = real ? await (await import('./kvm.ts')).everything() : null
try {
  await run()
  if (ending !== null) await ending
  await end()
  const left = real ? null : readdirSync(join(home, 'state', 'synthetic'))
  if (left !== null && left.length > 0) throw new Error(`left behind: ${left.join(', ')}`)
  if (before !== null) {
    const now = await (await import('./kvm.ts')).everything()
    if (now !== before) throw new Error(`libvirt differs from before:\n${before}\n----\n${now}`)
    line('host', 'virsh list --all and the storage pool are as before; the base image stays for the next demo')
  }
  const processes = processesOf(home)
  if (processes.length > 0) throw new Error(`processes are left: ${processes.join(', ')}`)
  rmSync(home, { recursive: true, force: true })
  line('host', `nothing is left: no machine, no ${process.platform === 'linux' ? 'process, no ' : ''}folder`)
  process.exit(0)
} catch (error) {
  if (ending !== null) await ending
  process.stderr.write(
    `\nThe demo failed: ${error instanceof Error ? error.message : error}\n\nEnd of the log of bot and runner:\n`,
  )
  try {
    process.stderr.write(`${readFileSync(logFile, 'utf8').split('\n').slice(-30).join('\n')}\n`)
  } catch {
    process.stderr.write('(no log)\n')
  }
  await end().catch(() => {})
  rmSync(home, { recursive: true, force: true })
  process.exit(1)
}
