/**
 * A ticket moves, and nobody types: its machine has the project through the link and the gateway, the real Claude Code works on it,
 * pushes, and a draft pull request is there. The model, GitHub and Jira are stand-ins of ours on the host.
 */
import { spawn } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { realAgents } from '../support/real-agents.ts'
import { until } from '../support/wait.ts'
import { ensureBase, entry, virsh } from './cli.ts'
import { MODEL_KEY, openTicketStage, PATIENCE, REPO, searchBytes, type TicketStage } from './ticket.ts'

const TICKET = 'DROP-1'
const BRANCH = `${TICKET}-say-hello`
const COMMIT = 'echo hello > greeting && git add greeting && git commit -qm "A greeting" && git push -q -u origin HEAD'
/** More than the agent may use. */
const BUDGET = 1_000_000

const programs = await realAgents()
if (typeof programs === 'string') process.stderr.write(`The real Claude Code is left out: ${programs}\n`)

let stage: TicketStage
/** The one pull request of the branch, and all comments on it. */
const pulls = async () =>
  (await stage.github.api('acme', 'GET', `/repos/${REPO}/pulls?state=all`)) as unknown as {
    number: number
    title: string
    draft: boolean
    head: { ref: string }
  }[]
const comments = async () => (await stage.github.comments(1)).map(({ body }) => body)
const agent = async () => (await stage.rows()).find(({ ticket }) => ticket === TICKET)?.agent
const ended = (before: string | null) =>
  until(
    'the end of the agent',
    async () => {
      const now = await agent()
      return now?.state === 'ended' && now.run !== before ? now : null
    },
    { ...PATIENCE, every: 1_000 },
  )
const lastTurn = () => JSON.stringify(stage.model.turns().at(-1)?.body)
const inside = (command: string) => stage.inside(TICKET, command)

/** The program comes into the machine while its setup waits for it, as a base image would have brought it. */
const copyProgram = async (file: string): Promise<void> => {
  await until('the project', async () => (await stage.rows())[0]?.project?.setup?.state === 'running', PATIENCE)
  const child = spawn(
    process.execPath,
    [entry, 'ssh', TICKET, '--', 'cat > ~/claude.new && chmod 755 ~/claude.new && mv ~/claude.new ~/claude'],
    { env: stage.environment, stdio: ['pipe', 'inherit', 'inherit'] },
  )
  createReadStream(file).pipe(child.stdin)
  const code = await new Promise(done => child.once('exit', done))
  if (code !== 0) throw new Error(`copying ${file} ended with ${code}`)
}

describe.skipIf(typeof programs === 'string')('Claude Code in a machine', () => {
  beforeAll(async () => {
    await ensureBase()
    stage = await openTicketStage({
      issues: { [TICKET]: 'Say hello' },
      config: url =>
        `agent:\n  use: claude\n  command: ~/claude\n  modelUrl: ${url}\n  budget: { tokens: ${BUDGET} }\n`,
      repositoryFile: 'workspace:\n  setup: until [ -x ~/claude ]; do sleep 1; done\n',
      replies: [{ runs: COMMIT }, { says: 'I made a greeting.' }],
    })
    await stage.jira.move(TICKET, 'In Progress')
    await copyProgram((programs as { claude: string }).claude)
  })
  afterAll(() => stage?.close())

  let first: string
  test('a commit of the agent arrives at the git server, with a draft pull request and its end', async () => {
    const row = await ended(null)
    expect(row).toMatchObject({ result: 'done', summary: 'I made a greeting.', turns: 2 })
    first = row.run
    expect(stage.git.git(REPO, 'log', '--format=%s', BRANCH)).toBe('A greeting\nThe beginning')
    await until('the end of the agent on the pull request', async () =>
      (await comments()).some(body => body.includes('I made a greeting.')),
    )
    expect(await pulls()).toMatchObject([
      { number: 1, draft: true, title: `${TICKET} Say hello`, head: { ref: BRANCH } },
    ])
    for (const { headers } of stage.model.turns()) expect(headers['x-api-key']).toBe(MODEL_KEY)
    expect(lastTurn()).toContain('/var/lib/agent-swarm/agent/task.md')
  })

  test('/swarm tell goes on in the same session, also when the runner is killed meanwhile', async () => {
    const before = await agent()
    const asked = stage.model.turns().length
    stage.model.replies.push({ runs: 'sleep 5; swarm note "tabs are better"' }, { says: 'I used tabs.' })
    await stage.github.comment(1, '/swarm tell Use tabs.')
    await until('its turn', () => stage.model.turns().length > asked, PATIENCE)
    await stage.crash()
    const row = await ended(before?.run ?? null)
    expect(row).toMatchObject({ result: 'done', summary: 'I used tabs.' })
    expect(lastTurn()).toMatch(/I made a greeting\..*Use tabs\./)
  })

  test('the machine pushes its own branch and rewrites what it pushed, and nothing else', async () => {
    const refused = async (push: string) => (await inside(`git push ${push} 2>&1 || :`)).replaceAll(/\s+/g, ' ')
    await inside('git commit -q --amend -m "A better greeting" && git push -qf')
    expect(stage.git.git(REPO, 'log', '--format=%s', BRANCH)).toBe('A better greeting\nThe beginning')
    const tries = await refused(
      `origin HEAD:main; git push origin HEAD:DROP-2-x; git push origin --delete ${BRANCH}; git push origin HEAD:refs/tags/v1`,
    )
    expect(tries).toContain('does not push to the default branch')
    expect(tries).toContain(`the branch does not belong to ${TICKET}`)
    expect(tries).toContain('a machine deletes no branch')
    expect(tries).toContain('a machine pushes no tags')
    stage.commitOf(BRANCH, "Dana's")
    expect(await refused('-f')).toContain('which this machine did not push')
    expect(stage.git.git(REPO, 'for-each-ref', '--format=%(refname) %(subject)')).toBe(
      `refs/heads/${BRANCH} Dana's\nrefs/heads/main The beginning`,
    )
    await inside('git pull -q --rebase && git commit -q --allow-empty -m "After Dana" && git push -q')
    expect(stage.git.git(REPO, 'log', '-1', '--format=%s', BRANCH)).toBe('After Dana')
    // What GitHub takes back is gone at once, also for a token that the runner holds.
    stage.front.given.forEach(stage.git.revoke)
    expect(await refused('origin HEAD:DROP-1-later')).toMatch(/rror/)
    expect(stage.git.git(REPO, 'branch', '--list', 'DROP-1-later')).toBe('')
  })

  test('a restore in the middle: it goes on in its session, and is told', async () => {
    const before = await agent()
    const asked = stage.model.turns().length
    stage.model.replies.push({ runs: 'sleep 1000' })
    await stage.github.comment(1, '/swarm tell Wait.')
    await until('its turn', () => stage.model.turns().length > asked, PATIENCE)
    await stage.must('checkpoint', TICKET, 'middle')
    stage.model.replies.splice(0, 9, { says: 'I go on.' })
    await stage.must('restore', TICKET, 'middle', '--yes')
    const waiting = (await agent())?.run ?? ''
    const row = await ended(before?.run ?? null)
    expect(row).toMatchObject({ result: 'done', summary: 'I go on.' })
    expect([before?.run, row.run]).not.toContain(waiting)
    expect(lastTurn()).toMatch(/I used tabs\..*The machine was restored to the checkpoint middle/)
    expect(lastTurn()).toContain('tabs are better')
    expect(await inside('pgrep -fc "^sleep 1000" || :')).toBe('0')
  })

  test('no token and no key is on its disk, in a checkpoint of its memory, or in its processes', async () => {
    const { vmId } = (await stage.rows())[0] ?? { vmId: '' }
    const processes = await inside(
      'sync; sudo sh -c "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline" 2>/dev/null | base64',
    )
    const disk = await virsh('vol-path', '--pool', 'agent-swarm', `${vmId}.qcow2`)
    const basic = (token: string) => Buffer.from(`x-access-token:${token}`).toString('base64')
    const secrets = [MODEL_KEY, stage.jira.token, ...stage.front.given, ...stage.front.given.map(basic)]
    expect(stage.front.given.length).toBeGreaterThan(0)
    // What the agent had instead of a key shows that the search finds what is there, in files and in memory.
    const placeholder = `agent-swarm-run-${first}`
    const found = await searchBytes(disk, [...secrets, placeholder, 'ANTHROPIC_API_KEY='])
    expect(found).toEqual([placeholder, 'ANTHROPIC_API_KEY='])
    const text = Buffer.from(processes, 'base64').toString('latin1')
    expect(text).toContain('PATH=')
    for (const secret of secrets) expect(text).not.toContain(secret)
  })

  test('out of budget: the model is closed to it, and its end says so', async () => {
    const before = await agent()
    stage.model.replies.push({ runs: 'true', usage: { input: BUDGET, output: 10 } }, { says: 'Never asked for.' })
    await stage.github.comment(1, '/swarm tell Once more.')
    const row = await ended(before?.run ?? null)
    expect(row).toMatchObject({ result: 'out of budget' })
    expect(stage.model.replies).toEqual([{ says: 'Never asked for.' }])
    await until('its end on the pull request', async () =>
      (await comments()).some(body => body.includes('out of budget')),
    )
  })
})
