/**
 * A ticket moves, and nobody types: its machine has the project through the link and the gateway, the real Claude Code works on it,
 * pushes, and a draft pull request is there; then everything that may happen to an agent happens to it, and to the real Codex. The
 * model, GitHub, its git server and Jira are stand-ins on the host. One machine for all of it: a boot takes longest. Some of it,
 * which other tests show without a machine, is left to AGENT_SWARM_TEST_LONG=1.
 */
import { spawn } from 'node:child_process'
import { createReadStream, existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Reply } from '../support/model-server.ts'
import { realAgent } from '../support/real-agents.ts'
import { isLong } from '../support/samples.ts'
import { until } from '../support/wait.ts'
import { ensureBase, entry, virsh } from './cli.ts'
import {
  grepWords,
  MODEL_KEY,
  openTicketStage,
  PATIENCE,
  REPO,
  RUNNER,
  searchBytes,
  type TicketStage,
} from './ticket.ts'

const TICKET = 'DROP-1'
const BRANCH = `${TICKET}-say-hello`
const COMMIT = 'echo hello > greeting && git add greeting && git commit -qm "A greeting" && git push -q -u origin HEAD'
const CODEX_BRANCH = `${TICKET}-codex`
const CODEX_COMMIT = `git switch -qc ${CODEX_BRANCH} && git commit -q --allow-empty -m "From Codex" && git push -q -u origin HEAD`
/** What an agent does until it is ended. */
const HANG = 'tail -f /dev/null'
const hanging = () => inside('pgrep -fc "^tail -f /dev/null$" || :')
/** The same with Codex, which lets no command run for long. */
const BUSY = Array<Reply>(1_000).fill({ runs: 'timeout 5 tail -f /dev/null' })
/** Tokens. */
const BUDGET = 1_000_000

const claude = await realAgent('claude')
// Its program is large, and takes minutes to copy.
const codex = isLong ? await realAgent('codex') : null
const hasClaude = claude !== null
const hasCodex = codex !== null

const workspace = (agent = '') => `workspace:
  setup: |
    sudo -n true
    echo "$NAME $PWD $(whoami)"
    echo x >> ../setups
    printf '%s\\n' '#!/bin/sh' 'case $1 in exec) exec ~/codex "$@" ;; *) exec ~/claude "$@" ;; esac' > ~/program
    chmod 755 ~/program
    ${hasClaude ? 'until [ -x ~/claude ]; do sleep 1; done' : ':'}
  start: |
    echo x >> ../starts
    sleep 100000 &
  # Ten tries, its own number, take minutes.
  env: {NAME: "it's", CLAUDE_CODE_MAX_RETRIES: "1"}
  ports: [3000]
${agent}`
const agentOf = (use: 'claude' | 'codex', url: string, tokens: number) =>
  `agent:\n  use: ${use}\n  command: ~/program\n  modelUrl: ${url}\n  budget: { tokens: ${tokens} }\n`

let stage: TicketStage
const project = () => stage.registry.project(TICKET)
const agent = () => stage.registry.agent(TICKET)
const vmId = () => stage.registry.environment(TICKET)?.vmId
const inside = (command: string) => stage.inside(TICKET, command)
const onServer = (...argv: string[]) => stage.git.git(REPO, ...argv)
/** What a command prints, in one line, however it ends. */
const tried = async (command: string) => (await inside(`(${command}) 2>&1 || :`)).replaceAll(/\s+/g, ' ')

/** The program comes into the machine, as a base image would have brought it. */
const copyProgram = async (file: string, name: 'claude' | 'codex'): Promise<void> => {
  const line = `cat > ~/${name}.new && chmod 755 ~/${name}.new && mv ~/${name}.new ~/${name}`
  const child = spawn(process.execPath, [entry, 'ssh', TICKET, '--', line], {
    ...{ env: stage.environment, stdio: ['pipe', 'inherit', 'inherit'] },
  })
  createReadStream(file).pipe(child.stdin)
  const code = await new Promise(done => child.once('exit', done))
  if (code !== 0) throw new Error(`copying ${file} ended with ${code}`)
}

beforeAll(async () => {
  await ensureBase()
  stage = await openTicketStage({
    issues: { [TICKET]: 'Say hello' },
    config: url => (hasClaude ? agentOf('claude', url, BUDGET) : ''),
    repositoryFile: workspace(),
    replies: [{ runs: COMMIT }, { says: 'I made a greeting.' }],
  })
  await stage.jira.move(TICKET, 'In Progress')
  if (claude !== null) {
    // Setup waits for it.
    await until('the setup', () => project()?.setup?.state === 'running', { ...PATIENCE, every: 1_000 })
    await copyProgram(claude.path, 'claude')
  }
  await until('the machine', () => stage.jira.comments(TICKET).some(text => text.includes('has a machine')), PATIENCE)
})
afterAll(() => stage?.close())

test('its project is cloned, set up and started as the ssh user, and shells begin there', async () => {
  expect(project()).toMatchObject({
    ...{ repo: REPO, branch: BRANCH, path: '~/shop', ports: [3000], problem: null },
    setup: { state: 'done', exit: 0, source: '.github/agent-swarm.yml' },
    // Under software emulation it may still be at work.
    start: { state: expect.stringMatching(/^(?:running|done)$/) },
  })
  expect(await stage.must('logs', TICKET, '--setup')).toBe("it's /home/agent/shop agent")
  await until('the program of start', async () => (await inside('pgrep -fc "^sleep 100000" || :')) === '1', PATIENCE)
  expect(
    (
      await inside('pwd; echo $NAME; git symbolic-ref --short HEAD; (cd; bash -lic pwd); cat ../setups ../starts')
    ).split('\n'),
  ).toEqual(['/home/agent/shop', "it's", BRANCH, '/home/agent/shop', 'x', 'x'])
})

test('swarm is in it, root owns it, and nothing listens but on its loopback', async () => {
  const [owners, ports, status] = (
    await inside(
      "stat -c %U:%a /usr/local/lib/agent-swarm/swarm /usr/local/lib/agent-swarm; echo --; ss -Hltn | awk '{print $4}' | grep ':1770' | sort; echo --; swarm status",
    )
  ).split('\n--\n')
  expect(owners).toBe('root:755\nroot:755')
  expect(ports).toBe('127.0.0.1:17701\n127.0.0.1:17702\n127.0.0.1:17703')
  expect(status).toContain(`Ticket: ${TICKET}\nMachine: ${vmId()} on kvm`)
})

const ended = (before: string | undefined) =>
  until(
    'the end of the agent',
    () => {
      const now = agent()
      return now?.state === 'ended' && now.run !== before ? now : null
    },
    PATIENCE,
  )
type Pull = { number: number; draft: boolean; title: string; head: { ref: string } }
const pullRequests = async () =>
  (await stage.github.api('acme', 'GET', `/repos/${REPO}/pulls?state=all`)) as unknown as Pull[]
/** The bot may open it after the agent has ended. */
const pullRequest = (branch: string) =>
  until(
    `the pull request of ${branch}`,
    async () => (await pullRequests()).find(({ head }) => head.ref === branch),
    PATIENCE,
  )
/** A comment on a pull request has this text: its end is told. */
const told = (text: string) =>
  until(
    `a comment with "${text}"`,
    async () => {
      const all = await Promise.all((await pullRequests()).map(({ number }) => stage.github.comments(number)))
      return all.flat().some(({ body }) => body.includes(text))
    },
    { ...PATIENCE, every: 500 },
  )
/** Resolves when the model was asked. */
const tell = async (text: string) => {
  const asked = stage.model.turns().length
  await stage.github.comment(1, `/swarm tell ${text}`)
  await until('its turn', () => stage.model.turns().length > asked, PATIENCE)
}
/** The whole conversation, as the model got it last. */
const conversation = () => JSON.stringify(stage.model.turns().at(-1)?.body)
/** What the repository says of agents; the runner reads its mirror, which a fetch brings up to date. */
const narrow = async (text: string) => {
  stage.commitFile(workspace(text))
  await inside('git fetch -q')
}

describe.skipIf(!hasClaude)('Claude Code', () => {
  let first: string

  test('a commit of the agent arrives at the git server, with a draft pull request and its end', async () => {
    const end = await ended(undefined)
    expect(end).toMatchObject({ result: 'done', summary: 'I made a greeting.', turns: 2 })
    first = end.run
    expect(onServer('log', '--format=%s', BRANCH)).toContain('A greeting\nThe beginning')
    expect(await pullRequest(BRANCH)).toMatchObject({ number: 1, draft: true, title: `${TICKET} Say hello` })
    await told('> I made a greeting.')
    for (const { headers } of stage.model.turns()) expect(headers['x-api-key']).toBe(MODEL_KEY)
    expect(conversation()).toContain('/var/lib/agent-swarm/agent/task.md')
  })

  test('/swarm tell goes on in the same session, also when the runner is killed meanwhile; git says that it is away', async () => {
    const before = agent()
    stage.model.replies.push({ runs: 'until [ -e ../go ]; do sleep 0.2; done' }, { says: 'I used tabs.' })
    await tell('Use tabs.')
    await stage.endRunner()
    // Until then, the end of the link is on its way to the machine.
    const isAway = async () => (await tried('git push origin HEAD')).includes('agent-swarm: the runner is away')
    await until('what git says of a runner that is away', isAway, PATIENCE)
    await stage.startRunner()
    await inside('until swarm status; do sleep 1; done; touch ../go')
    expect(await ended(before?.run)).toMatchObject({
      ...{ result: 'done', summary: 'I used tabs.', session: before?.session },
    })
    // Claude Code may end before it has written its own last words.
    expect(conversation()).toMatch(/A greeting.*Use tabs\./)
  })

  test.skipIf(!isLong)('it restores its machine in the middle: it goes on in its session, and is told', async () => {
    const before = agent()
    const wrong = 'echo bad > ../state; swarm note "tried bad; it is bad"; swarm restore good --yes; sleep 1000'
    const says = 'I go on.'
    stage.model.replies.push({ runs: 'echo good > ../state; swarm checkpoint good' }, { runs: wrong }, { says })
    await tell('Try something.')
    expect(await ended(before?.run)).toMatchObject({ result: 'done', summary: says, session: before?.session })
    expect(conversation()).toMatch(/Use tabs\..*Try something\..*The machine was restored to the checkpoint good/)
    expect(conversation()).toContain('tried bad; it is bad')
    const lines = 'cat ../state /var/lib/agent-swarm/note-before-restore.txt; pgrep -fc "^sleep 1000$"; swarm status'
    const [state, note, sleeping, ...status] = (await inside(lines)).split('\n')
    expect([state, note, sleeping]).toEqual(['good', 'tried bad; it is bad', '0'])
    expect(status.join('\n')).toContain('before this restore: tried bad; it is bad')
    expect(status.join('\n')).toMatch(/good .* machine\n {2}pre-restore-\S+ .* machine/)
  })

  describe('in the minutes that its repository gives it', () => {
    let before: string | undefined
    let copied: Promise<void>

    beforeAll(async () => {
      before = agent()?.run
      // Under software emulation, Claude Code needs more than one to begin.
      await narrow('agent: {minutes: 4}')
      // It ends a command after two, and asks again.
      stage.model.replies.push(...Array<Reply>(100).fill({ runs: HANG }))
      await tell('Take your time.')
      copied = codex === null ? Promise.resolve() : copyProgram(codex.path, 'codex')
    })

    test('no token and no key is on its disk, in a checkpoint of its memory, in its processes, or where root looks', async () => {
      const { given } = stage.front
      const basic = given.map(token => Buffer.from(`x-access-token:${token}`).toString('base64'))
      const secrets = [MODEL_KEY, stage.jira.token, ...stage.tokens, ...given, ...basic]
      expect(secrets.length).toBeGreaterThan(5)
      // What the agent has instead of a key shows that the search finds what is there.
      const own = `agent-swarm-run-${agent()?.run}`
      const processes = '/proc/[0-9]*/environ /proc/[0-9]*/cmdline'
      const folders = '/boot /dev/shm /etc /home /opt /root /run /srv /tmp /usr/local /var'
      // The programs themselves are large.
      const files = `-rs --devices=skip --exclude=claude --exclude='codex*' ${folders}`
      const search = (where: string, texts: string[]) =>
        inside(`sudo sh -c "grep -las ${grepWords(texts).replaceAll('"', '\\"')} ${where}" || :`)
      expect(await search(processes, [own])).toMatch(/environ/)
      expect(await search(processes, secrets)).toBe('')
      expect(await search(files, [own])).toContain(`/var/lib/agent-swarm/agent/${agent()?.run}/environment`)
      expect(await search(files, secrets)).toBe('')
      // The same with the bytes of its disk's layers and of the memory of its checkpoints.
      await stage.must('checkpoint', TICKET)
      const names = (await virsh('vol-list', 'agent-swarm')).split('\n').map(line => line.trim().split(/\s+/))
      const disks = names.flatMap(([name = '', path = '']) => (name.startsWith(`${vmId()}.`) ? path : []))
      const harmless = [`agent-swarm-run-${first}`, 'ANTHROPIC_API_KEY=']
      const memories = disks.filter(path => path.endsWith('.memory'))
      // Each kind of file by itself shows that the search finds what is there: a memory that is compressed hides all.
      for (const paths of [memories, disks.filter(path => !memories.includes(path))]) {
        const found = await Promise.all(paths.map(path => searchBytes(path, [...secrets, ...harmless])))
        expect([...new Set(found.flat())].sort()).toEqual(harmless.toSorted())
      }
    })

    test('out of time: it is ended, and its end says so', async () => {
      expect(await ended(before)).toMatchObject({ result: 'out of time', reason: 'it worked for 4 minutes' })
      stage.model.replies.length = 0
      await told('out of time')
      await copied
      await narrow('')
      expect(await hanging()).toBe('0')
    })
  })

  test.skipIf(!isLong)('the model cannot be reached: its end says so', async () => {
    const before = agent()
    stage.model.close()
    await stage.github.comment(1, '/swarm tell Is anybody there?')
    const end = await ended(before?.run)
    await stage.model.reopen()
    expect(end).toMatchObject({ result: 'crashed', reason: expect.stringContaining('reaching the API of anthropic') })
    await told('reaching the API of anthropic')
  })

  test.skipIf(!isLong)('it crashes: its end says so, and what it had started is gone', async () => {
    const before = agent()
    stage.model.replies.push({ runs: HANG })
    await tell('Crash.')
    await inside('pkill -KILL -x claude')
    const end = await ended(before?.run)
    expect(end).toMatchObject({ result: 'crashed', reason: expect.stringContaining('exit status 137') })
    await told('exit status 137')
    expect(await hanging()).toBe('0')
  })

  test.skipIf(!isLong)('out of budget: the model is closed to it, and its end says so', async () => {
    const before = agent()
    const never = { says: 'Never asked for.' }
    stage.model.replies.push({ runs: 'true', usage: { input: BUDGET, output: 10 } }, never)
    await tell('Once more.')
    expect(await ended(before?.run)).toMatchObject({ result: 'out of budget', session: before?.session })
    expect(stage.model.replies).toEqual([never])
    stage.model.replies.length = 0
    await told('out of budget')
  })
})

test('it pushes its own branch and rewrites what it pushed, and nothing else', async () => {
  const own = 'git commit -q --allow-empty -m Mine && git push -q && git commit -q --amend --allow-empty -m Better'
  await inside(`${own} && git push -qf`)
  expect(onServer('log', '-1', '--format=%s', BRANCH)).toBe('Better')
  const before = onServer('for-each-ref')
  const refused = await tried(
    `git push -f origin HEAD:main; git push origin HEAD:DROP-2-x; git push origin --delete ${BRANCH}; git push origin HEAD:refs/tags/v1`,
  )
  expect(refused).toContain('a machine does not push to the default branch')
  expect(refused).toContain(`the branch does not belong to ${TICKET}`)
  expect(refused).toContain('a machine deletes no branch')
  expect(refused).toContain('a machine pushes no tags')
  expect(onServer('for-each-ref')).toBe(before)
  stage.commitOf(BRANCH, "Dana's")
  const rewrite = 'git push -f; git pull -q --rebase && git commit -q --allow-empty -m "After Dana" && git push -q'
  expect(await tried(rewrite)).toContain('which this machine did not push')
  expect(onServer('log', '-2', '--format=%s', BRANCH)).toBe("After Dana\nDana's")
})

describe.skipIf(!hasClaude)('the agent of a runner whose configuration has changed', () => {
  beforeAll(async () => {
    await stage.endRunner('SIGTERM')
    stage.configure(agentOf(hasCodex ? 'codex' : 'claude', stage.model.url, 10 * BUDGET))
    await stage.startRunner()
  })

  test.skipIf(!hasCodex)('is Codex: its commit arrives, with a draft pull request; /swarm tell goes on', async () => {
    const before = agent()?.run
    stage.model.replies.push({ runs: CODEX_COMMIT }, { says: 'Codex was here.' })
    await stage.must('agent', 'start', TICKET)
    const first = await ended(before)
    expect(first).toMatchObject({ use: 'codex', result: 'done', summary: 'Codex was here.' })
    expect(onServer('log', '-1', '--format=%s', CODEX_BRANCH)).toBe('From Codex')
    expect(await pullRequest(CODEX_BRANCH)).toMatchObject({ draft: true })
    await told('> Codex was here.')
    expect(stage.model.turns().at(-1)?.headers.authorization).toBe(`Bearer ${MODEL_KEY}`)
    stage.model.replies.push({ says: 'Codex goes on.' })
    await tell('Go on, Codex.')
    expect(await ended(first.run)).toMatchObject({ result: 'done', summary: 'Codex goes on.', session: first.session })
    expect(conversation()).toMatch(/Codex was here\..*Go on, Codex\./)
  })

  test.skipIf(!isLong)(
    'loses pushes and its model when the token of its runner is revoked; its end is told when it has another',
    async () => {
      const before = agent()?.run
      stage.model.replies.push(...BUSY)
      await tell('Go on until I say so.')
      await inside('git commit -q --allow-empty -m "With access" && git push -q')
      await stage.mustBot('bot', 'runner', 'revoke', RUNNER)
      expect(await tried('git commit -q --allow-empty -m "Without" && git push')).toContain('AGENT_SWARM_RUNNER_TOKEN')
      const reason = expect.stringContaining('the bot does not accept the token of this runner')
      expect(await ended(before)).toMatchObject({ result: 'crashed', reason })
      expect(stage.model.replies).not.toEqual([])
      stage.model.replies.length = 0
      await stage.endRunner('SIGTERM')
      await stage.newToken()
      await stage.startRunner()
      await told('the bot does not accept the token of this runner')
      await inside('until git push -q; do sleep 1; done')
    },
  )
})

test.skipIf(!isLong)('start runs at each boot, and setup does not', async () => {
  await stage.must('restart', TICKET)
  const count = () => inside('cat ../setups | wc -l; cat ../starts | wc -l')
  await until('the start of the project', async () => (await count()) === '1\n2', { ...PATIENCE, every: 1_000 })
  expect(await stage.must('status', TICKET)).toContain('acme/shop in ~/shop')
})

test('what GitHub takes back is gone at once, also for a token that the runner holds', async () => {
  // It starts before: who cannot read the repository's file starts no agent.
  if (hasClaude) {
    stage.model.replies.push(...BUSY)
    await tell('Go on for ever.')
  }
  stage.front.given.forEach(stage.git.revoke)
  expect(await tried('git push origin HEAD:DROP-1-later')).toMatch(/error|fatal/)
  expect(onServer('branch', '--list', 'DROP-1-later')).toBe('')
})

test('deleted while its agent works: nothing is left, and its runner gets no token for it', async () => {
  const id = vmId() ?? ''
  const ask = async () => {
    const body = { runnerId: stage.registry.runnerId(), ticket: TICKET, repo: REPO, to: 'write' }
    const authorization = `Bearer ${stage.tokens.at(-1)}`
    const headers = { authorization, 'content-type': 'application/json' }
    const url = `${stage.botUrl}/runner/v1/git-token`
    return (await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) })).status
  }
  expect(await ask()).toBe(200)
  // A ticket that ever had a pull request keeps its machine when it is done.
  await (hasClaude ? stage.github.comment(1, '/swarm delete --force') : stage.jira.move(TICKET, 'Done'))
  await until('the end of the machine', () => stage.registry.environment(TICKET) === null, PATIENCE)
  await until('the refusal of tokens', async () => (await ask()) === 403)
  expect([project(), agent()]).toEqual([null, null])
  expect(await virsh('list', '--all', '--name')).not.toContain(id)
  expect(await virsh('vol-list', 'agent-swarm')).not.toContain(id)
  // What its agent did may be read for some days.
  const left = readdirSync(stage.home, { recursive: true, encoding: 'utf8' })
  expect(left.filter(name => name.includes(id) && !name.startsWith('transcripts/'))).toEqual([])
  await until(
    'the end of its link',
    () => !existsSync(join(stage.home, 'links')) || readdirSync(join(stage.home, 'links')).length === 0,
  )
})
