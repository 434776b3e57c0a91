/**
 * The real Claude Code and the real Codex, through our table, our gateway and our supervisor, with a model server of ours. Only
 * with AGENT_SWARM_TEST_AGENTS=1: it installs them, and takes a minute.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test as baseTest, describe, expect, onTestFinished } from 'vitest'
import { readableLine } from '../../../src/runner/agent/readable.ts'
import type { OperatorAgent } from '../../../src/schema/workspace.ts'
import { openAgentStage } from '../../support/agent-stage.ts'
import { openModelServer, type Reply } from '../../support/model-server.ts'
import { realAgent } from '../../support/real-agents.ts'
import { until } from '../../support/wait.ts'

const isWanted = process.env.AGENT_SWARM_TEST_AGENTS === '1'
const programs = {
  claude: isWanted ? await realAgent('claude') : null,
  codex: isWanted ? await realAgent('codex') : null,
}

const KEY = 'sk-test-0123456789abcdef0123456789'
const COMMIT = 'echo hello > greeting && git add . && git -c user.name=a -c user.email=a@b.c commit -qm "A greeting"'

const git = (folder: string, ...argv: string[]) => execFileSync('git', argv, { cwd: folder, encoding: 'utf8' }).trim()

const stageOf = async (use: 'claude' | 'codex', replies: Reply[], more: Partial<OperatorAgent> = {}) => {
  const model = await openModelServer(replies)
  onTestFinished(model.close)
  const stage = await openAgentStage({
    agent: { use, command: (programs[use] as { path: string }).path, modelUrl: model.url, ...more },
    keys: { anthropic: KEY, openai: KEY },
    // Its ten tries take minutes.
    environment: { CLAUDE_CODE_MAX_RETRIES: '1' },
  })
  onTestFinished(stage.close)
  git(stage.project, 'init', '-q', '-b', 'DROP-1-greeting')
  const runner = await stage.runner()
  onTestFinished(runner.close)
  return { ...stage, model, runnerOf: runner }
}

/** All files of the guest, as one text. */
const everything = (folder: string): string =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => readFileSync(join(entry.parentPath, entry.name), 'latin1'))
    .join('\n')

describe.for(['claude', 'codex'] as const)('%s', use => {
  const test = baseTest.skipIf(programs[use] === null)

  test('works on the ticket and commits; a message goes on in the same conversation; the key stays here', async () => {
    const stage = await stageOf(use, [{ runs: COMMIT }, { says: 'I made a greeting.' }])
    await stage.start()
    const row = await stage.ended()
    expect(row).toMatchObject({ result: 'done', summary: 'I made a greeting.', turns: 2, tokens: expect.any(Number) })
    expect(row.tokens).toBeGreaterThanOrEqual(240)
    expect(row.usd === null).toBe(use === 'codex')
    expect(row.session).toMatch(/^[0-9a-f-]{36}$/)
    expect(git(stage.project, 'log', '--format=%s')).toBe('A greeting')
    const lines = stage
      .transcript(row.run)
      .split('\n')
      .flatMap(line => readableLine(line, use))
    expect(lines.filter(line => line.startsWith('> ')).join()).toContain('greeting')
    expect(lines.at(-1)).toBe('I made a greeting.')

    stage.model.replies.push({ says: 'I used tabs.' })
    await stage.tell('Use tabs.')
    const next = await stage.ended(row.run)
    expect(next).toMatchObject({ result: 'done', summary: 'I used tabs.', session: row.session, turns: 3 })
    // The model got the whole conversation; the agent may ask for other things besides.
    const asked = stage.model.turns().map(({ body }) => JSON.stringify(body))
    expect(asked.filter(text => text.includes('I made a greeting.') && text.includes('Use tabs.'))).not.toEqual([])
    for (const { headers } of stage.model.turns())
      expect(use === 'claude' ? headers['x-api-key'] : headers.authorization).toBe(
        use === 'claude' ? KEY : `Bearer ${KEY}`,
      )
    expect(everything(stage.root)).not.toContain(KEY)
    expect(stage.lines.join('\n')).not.toContain(KEY)
  })

  test('a conversation that the machine does not have any more begins anew', async () => {
    const stage = await stageOf(use, [{ says: 'First.' }])
    await stage.start()
    const row = await stage.ended()
    stage.context.registry.updateAgent('DROP-1', row.run, () => ({ session: '11111111-2222-3333-4444-555555555555' }))
    stage.model.replies.push({ says: 'Anew.' })
    await stage.tell('Go on.')
    const next = await stage.ended(row.run)
    expect(next).toMatchObject({ result: 'done', summary: 'Anew.' })
    expect(next.session).not.toBe(row.session)
    expect(JSON.stringify(stage.model.turns().at(-1)?.body)).toContain('You work on the ticket DROP-1')
  })

  test('the budget ends it, by the numbers of the maker', async () => {
    const stage = await stageOf(
      use,
      [{ runs: 'echo one', usage: { input: 600, output: 500 } }, { runs: 'echo two' }, { says: 'Never asked for.' }],
      { budget: { tokens: 1_000 } },
    )
    await stage.start()
    const row = await stage.ended()
    expect(row).toMatchObject({ result: 'out of budget', reason: expect.stringContaining('its budget is 1000') })
    expect(stage.model.turns()).toHaveLength(1)
  })

  test('a model that cannot be reached ends it as crashed, with the reason', async () => {
    const stage = await stageOf(use, [])
    stage.model.close()
    await stage.start()
    expect(await stage.ended()).toMatchObject({
      result: 'crashed',
      reason: expect.stringMatching(/5\d\d|reach|ECONNREFUSED/),
    })
  })

  test('a refused key is told to the operator, without the key', async () => {
    const refusal = {
      status: 401,
      body: { error: { type: 'authentication_error', message: `Incorrect API key: ${KEY}` } },
    }
    const stage = await stageOf(use, Array(10).fill(refusal))
    await stage.start()
    const row = await stage.ended()
    expect(row).toMatchObject({ result: 'crashed', reason: expect.stringContaining("does not accept this host's key") })
    expect(stage.transcript(row.run)).not.toContain(KEY)
  })

  test('a crash in the middle is reported; a message brings it back in its conversation', async () => {
    const kill = 'sleep 1; kill -KILL $(ps -o ppid= -p $PPID) $PPID'
    const stage = await stageOf(use, [{ says: 'Begun.' }])
    await stage.start()
    const first = await stage.ended()
    stage.model.replies.push({ runs: kill }, { says: 'Not reached.' })
    await stage.tell('Die.')
    const second = await stage.ended(first.run)
    expect(second).toMatchObject({ result: 'crashed' })
    stage.model.replies.splice(0, 9, { says: 'Back.' })
    await stage.tell('Go on.')
    expect(await stage.ended(second.run)).toMatchObject({ result: 'done', summary: 'Back.', session: first.session })
    expect(await until('the transcript', () => stage.transcript(second.run))).toContain('sleep 1')
  })
})
