/**
 * A ticket moves, and nobody types: its machine has the project through the link and the gateway, the real Claude Code works on it,
 * pushes, and a draft pull request is there. The model, GitHub, its git server and Jira are stand-ins on the host. One machine for
 * all of it: a boot takes longest.
 */
import { spawn } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { realAgent } from '../support/real-agents.ts'
import { until } from '../support/wait.ts'
import { ensureBase, entry, virsh } from './cli.ts'
import { MODEL_KEY, openTicketStage, PATIENCE, REPO, searchBytes, type TicketStage } from './ticket.ts'

const TICKET = 'DROP-1'
const BRANCH = `${TICKET}-say-hello`
const COMMIT = 'echo hello > greeting && git add greeting && git commit -qm "A greeting" && git push -q -u origin HEAD'
/** Tokens. */
const BUDGET = 1_000_000

const claude = await realAgent('claude')
const hasAgents = typeof claude !== 'string'
if (!hasAgents) process.stderr.write(`The real Claude Code is left out: ${claude}\n`)

const WORKSPACE = `workspace:
  setup: |
    sudo -n true
    echo "$NAME $PWD $(whoami)"
    echo x >> ../setups
    ${hasAgents ? 'until [ -x ~/claude ]; do sleep 1; done' : ':'}
  start: |
    echo x >> ../starts
    sleep 100000 &
  env: {NAME: "it's"}
  ports: [3000]
`
const agentOf = (url: string) =>
  `agent:\n  use: claude\n  command: ~/claude\n  modelUrl: ${url}\n  budget: { tokens: ${BUDGET} }\n`

let stage: TicketStage
const project = () => stage.registry.project(TICKET)
const agent = () => stage.registry.agent(TICKET)
const vmId = () => stage.registry.environment(TICKET)?.vmId
const inside = (command: string) => stage.inside(TICKET, command)
const onServer = (...argv: string[]) => stage.git.git(REPO, ...argv)

/** The program comes into the machine, as a base image would have brought it. */
const copyProgram = async (file: string): Promise<void> => {
  const line = 'cat > ~/claude.new && chmod 755 ~/claude.new && mv ~/claude.new ~/claude'
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
    config: url => (hasAgents ? agentOf(url) : ''),
    repositoryFile: WORKSPACE,
    replies: [{ runs: COMMIT }, { says: 'I made a greeting.' }],
  })
  await stage.jira.move(TICKET, 'In Progress')
  if (typeof claude !== 'string') {
    // Setup waits for it.
    await until('the setup', () => project()?.setup?.state === 'running', { ...PATIENCE, every: 1_000 })
    await copyProgram(claude.path)
  }
  await until('the machine', () => stage.jira.comments(TICKET)[0], PATIENCE)
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
    { ...PATIENCE, every: 1_000 },
  )
const comments = async () => (await stage.github.comments(1)).map(({ body }) => body)
const told = (text: string) =>
  until(text, async () => (await comments()).some(body => body.includes(`> ${text}`)), PATIENCE)
const tell = async (text: string) => {
  const asked = stage.model.turns().length
  await stage.github.comment(1, `/swarm tell ${text}`)
  await until('its turn', () => stage.model.turns().length > asked, PATIENCE)
}
/** The whole conversation, as the model got it last. */
const conversation = () => JSON.stringify(stage.model.turns().at(-1)?.body)

describe.skipIf(!hasAgents)('Claude Code', () => {
  let first: string

  test('a commit of the agent arrives at the git server, with a draft pull request and its end', async () => {
    const end = await ended(undefined)
    expect(end).toMatchObject({ result: 'done', summary: 'I made a greeting.', turns: 2 })
    first = end.run
    expect(onServer('log', '--format=%s', BRANCH)).toContain('A greeting\nThe beginning')
    // The agent may end before the bot has opened it.
    const pulls = await until('the pull request', async () => {
      const all = (await stage.github.api('acme', 'GET', `/repos/${REPO}/pulls?state=all`)) as unknown as unknown[]
      return all.length > 0 ? all : null
    })
    await told('I made a greeting.')
    expect(pulls).toMatchObject([{ number: 1, draft: true, title: `${TICKET} Say hello`, head: { ref: BRANCH } }])
    for (const { headers } of stage.model.turns()) expect(headers['x-api-key']).toBe(MODEL_KEY)
    expect(conversation()).toContain('/var/lib/agent-swarm/agent/task.md')
  })

  test('/swarm tell goes on in the same session, also when the runner is killed meanwhile', async () => {
    const before = agent()
    stage.model.replies.push({ runs: 'sleep 5' }, { says: 'I used tabs.' })
    await tell('Use tabs.')
    await stage.crash()
    expect(await ended(before?.run)).toMatchObject({
      result: 'done',
      summary: 'I used tabs.',
      session: before?.session,
    })
    // Claude Code may end before it has written its own last words.
    expect(conversation()).toMatch(/A greeting.*Use tabs\./)
  })

  test('it restores its machine in the middle: it goes on in its session, and is told', async () => {
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

  test('no token and no key is on its disk, in a checkpoint of its memory, or in its processes', async () => {
    const processes = 'sync; sudo sh -c "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline" 2>/dev/null | base64 -w0'
    const text = Buffer.from(await inside(processes), 'base64').toString('latin1')
    const disk = await virsh('vol-path', '--pool', 'agent-swarm', `${vmId()}.qcow2`)
    const { given } = stage.front
    const basic = given.map(token => Buffer.from(`x-access-token:${token}`).toString('base64'))
    const secrets = [MODEL_KEY, stage.jira.token, ...given, ...basic]
    expect(secrets.length).toBeGreaterThan(4)
    // What the agent has instead of a key shows that the search finds what is there, on the disk and in memory.
    const found = await searchBytes(disk, [...secrets, `agent-swarm-run-${first}`, 'ANTHROPIC_API_KEY='])
    expect(found).toEqual([`agent-swarm-run-${first}`, 'ANTHROPIC_API_KEY='])
    expect(text).toContain('PATH=')
    for (const secret of secrets) expect(text).not.toContain(secret)
  })

  test('out of budget: the model is closed to it, and its end says so', async () => {
    const before = agent()
    const never = { says: 'Never asked for.' }
    stage.model.replies.push({ runs: 'true', usage: { input: BUDGET, output: 10 } }, never)
    await tell('Once more.')
    expect(await ended(before?.run)).toMatchObject({ result: 'out of budget' })
    expect(stage.model.replies).toEqual([never])
    await until('its end', async () => (await comments()).some(body => body.includes('out of budget')), PATIENCE)
  })
})

test('it pushes its own branch and rewrites what it pushed, and nothing else', async () => {
  const tryPush = async (command: string) => (await inside(`(${command}) 2>&1 || :`)).replaceAll(/\s+/g, ' ')
  const own = 'git commit -q --allow-empty -m Mine && git push -q && git commit -q --amend --allow-empty -m Better'
  await inside(`${own} && git push -qf`)
  expect(onServer('log', '-1', '--format=%s', BRANCH)).toBe('Better')
  const before = onServer('for-each-ref')
  const refused = await tryPush(
    `git push origin HEAD:main; git push origin HEAD:DROP-2-x; git push origin --delete ${BRANCH}; git push origin HEAD:refs/tags/v1`,
  )
  expect(refused).toContain('a machine does not push to the default branch')
  expect(refused).toContain(`the branch does not belong to ${TICKET}`)
  expect(refused).toContain('a machine deletes no branch')
  expect(refused).toContain('a machine pushes no tags')
  expect(onServer('for-each-ref')).toBe(before)
  stage.commitOf(BRANCH, "Dana's")
  const rewrite = 'git push -f; git pull -q --rebase && git commit -q --allow-empty -m "After Dana" && git push -q'
  expect(await tryPush(rewrite)).toContain('which this machine did not push')
  expect(onServer('log', '-2', '--format=%s', BRANCH)).toBe("After Dana\nDana's")
  // What GitHub takes back is gone at once, also for a token that the runner holds.
  stage.front.given.forEach(stage.git.revoke)
  expect(await tryPush('git push origin HEAD:DROP-1-later')).toMatch(/error|fatal/)
  expect(onServer('branch', '--list', 'DROP-1-later')).toBe('')
})

test('start runs at each boot, and setup does not', async () => {
  await stage.must('restart', TICKET)
  const count = () => inside('cat ../setups | wc -l; cat ../starts | wc -l')
  await until('the start of the project', async () => (await count()) === '1\n2', { ...PATIENCE, every: 1_000 })
  expect(await stage.must('status', TICKET)).toContain('acme/shop in ~/shop')
})
