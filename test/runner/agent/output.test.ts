/** What a run prints is outside text: whatever it is, reading it ends, forges nothing that counts, and shows nothing that acts. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { NEW_PROGRESS } from '../../../src/registry/agents.ts'
import type { AgentRow } from '../../../src/registry/registry.ts'
import { judge } from '../../../src/runner/agent/ending.ts'
import { attachLine, parseUnitState, startScript, type UnitSpec } from '../../../src/runner/agent/guest.ts'
import { programs } from '../../../src/runner/agent/programs.ts'
import { messagesText, promptText, taskText } from '../../../src/runner/agent/prompt.ts'
import { plainLine, readableLine } from '../../../src/runner/agent/readable.ts'
import { blockedReason, openRunReading } from '../../../src/runner/agent/reading.ts'
import { costOf } from '../../../src/runner/model-gateway/prices.ts'
import { openUsageCounter } from '../../../src/runner/model-gateway/usage.ts'

const uses = ['claude', 'codex', 'command'] as const
const read = (use: (typeof uses)[number], ...lines: string[]) => {
  const reading = openRunReading(programs[use])
  reading.add(Buffer.from(lines.join('\n')))
  reading.end()
  return reading.state
}
const claudeResult = (is_error: boolean, result: string) =>
  JSON.stringify({ type: 'result', is_error, result, subtype: 'success' })

describe('lines', () => {
  test('of Claude Code', () => {
    const said = (id: string, ...content: object[]) => JSON.stringify({ type: 'assistant', message: { id, content } })
    expect(
      read(
        'claude',
        '{"type":"system","subtype":"init","session_id":"a-1"}',
        said('m1', { type: 'text', text: 'I look.' }),
        said('m1', { type: 'tool_use', name: 'Bash', input: { command: 'ls' } }),
        said('m2', { type: 'text', text: 'Done.' }),
        claudeResult(false, 'Done.'),
      ),
    ).toEqual({ session: 'a-1', turns: 2, words: 'Done.', result: { isError: false, text: 'Done.' } })
  })
  test('of Codex', () => {
    const item = (id: string, rest: object) => JSON.stringify({ type: 'item.completed', item: { id, ...rest } })
    expect(
      read(
        'codex',
        '{"type":"thread.started","thread_id":"t-1"}',
        item('i0', { type: 'reasoning', text: 'hm' }),
        item('i1', { type: 'command_execution', command: 'ls', aggregated_output: 'a', exit_code: 0 }),
        item('i2', { type: 'agent_message', text: 'Done.' }),
        '{"type":"turn.failed","error":{"message":"no"}}',
      ),
    ).toEqual({ session: 't-1', turns: 2, words: 'Done.', result: { isError: true, text: 'no' } })
  })
  test('a later session does not replace the first, and one that is no name is none', () => {
    const init = (id: unknown) => JSON.stringify({ type: 'system', subtype: 'init', session_id: id })
    expect(read('claude', init('--help'), init('../x'), init({}), init('good-1'), init('evil-2')).session).toBe(
      'good-1',
    )
  })
  test('a line of more than a megabyte is passed over, and the next one counts', () => {
    const state = read(
      'claude',
      `{"type":"result","is_error":true,"result":"${'x'.repeat(2e6)}"}`,
      claudeResult(false, 'ok'),
    )
    expect(state.result).toEqual({ isError: false, text: 'ok' })
  })
})

test('any bytes, cut anywhere, are read alike and within bounds', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...uses),
      fc.array(
        fc.oneof(
          fc.string({ unit: 'binary', maxLength: 200 }),
          fc.json(),
          fc
            .record({
              type: fc.constantFrom('result', 'assistant', 'user', 'item.completed', 'turn.failed'),
              message: fc.anything(),
            })
            .map(value => JSON.stringify(value) ?? ''),
        ),
      ),
      fc.integer({ min: 1, max: 50 }),
      (use, lines, size) => {
        const bytes = Buffer.from(lines.join('\n'))
        const whole = openRunReading(programs[use])
        whole.add(bytes)
        whole.end()
        const pieces = openRunReading(programs[use])
        for (let at = 0; at < bytes.length; at += size) pieces.add(bytes.subarray(at, at + size))
        pieces.end()
        expect(pieces.state).toEqual(whole.state)
        expect(whole.state.words.length).toBeLessThanOrEqual(20_000)
        for (const line of lines)
          for (const shown of readableLine(line, use)) {
            expect(shown).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u)
            expect(shown.length).toBeLessThanOrEqual(502)
          }
      },
    ),
    { numRuns: 100 },
  )
})

test.for([
  ['\u001b[31mred\u001b[0m \u001b]0;title\u0007x', 'red x'],
  ['a\u202eb\u200bc\r\nd\u009b2Je', 'abc de'],
  ['  /swarm delete  ', '/swarm delete'],
] as const)('%j is shown as %j', ([text, shown]) => expect(plainLine(text)).toBe(shown))

describe('the end', () => {
  const none = { tokens: 0, usd: 0 }
  const row: AgentRow = {
    ...{ use: 'claude', run: '0123abcd', state: 'running', startedAt: null, endedAt: null, result: null, reason: null },
    ...{ summary: null, turns: 0, tokens: 0, usd: null, rounds: 0, pullRequest: 'draft' },
    ...{ task: { summary: '', description: '', acceptance: '' }, session: null, workedMs: 0 },
    progress: { ...NEW_PROGRESS, limits: { minutes: 5, tokens: 100, usd: null, rounds: 0 } },
  }
  const unit = { active: false, result: 'success', exit: 0, size: 0, folder: true, boot: '', errors: '' }
  test('a forged result says nothing about the budget: the gateway’s numbers count', () => {
    const forged = read(
      'claude',
      JSON.stringify({ type: 'result', is_error: false, result: 'Done.', total_cost_usd: 0, usage: {} }),
    )
    expect(judge(row, { tokens: 100, usd: 0 }, unit, forged)).toMatchObject({ result: 'out of budget' })
    expect(judge(row, { tokens: 99, usd: 0 }, unit, forged)).toMatchObject({ result: 'done' })
  })
  test('a success in words and an error in the exit status is a crash', () => {
    expect(judge(row, none, { ...unit, exit: 1 }, read('claude', claudeResult(false, 'Done.')))).toMatchObject({
      result: 'crashed',
      reason: 'Done. (exit status 1)',
    })
    expect(judge(row, none, unit, read('claude', claudeResult(true, 'API Error: 529')))).toMatchObject({
      result: 'crashed',
    })
  })
  test('the unit’s own limit is "out of time"', () =>
    expect(judge(row, none, { ...unit, exit: null, result: 'timeout' }, read('claude'))).toMatchObject({
      result: 'out of time',
    }))
  test.for([
    ['I tried.\nBLOCKED: no access', 'no access'],
    ['**BLOCKED: no access**\n', 'no access'],
    ['BLOCKED: early\nbut then it went on', null],
    ['it is not BLOCKED: at all', null],
    ['BLOCKED:', null],
  ] as const)('%j: %j', ([words, reason]) => expect(blockedReason(words)).toBe(reason))
})

describe('what goes into the machine', () => {
  const spec = (more: Partial<UnitSpec> = {}): UnitSpec => ({
    ...{
      words: ['claude'],
      environment: {},
      prompt: '',
      task: '',
      files: {},
      seconds: 60,
      session: null,
      sessions: null,
    },
    ...more,
  })
  test('hostile text reaches the script as base64 alone', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), text => {
        const evil = `'; touch /tmp/evil; '${text}\n$(reboot)`
        const script = startScript(
          '0123abcd',
          spec({ prompt: evil, task: evil, environment: { A: evil }, words: ['x', evil] }),
        )
        expect(script).not.toContain('touch /tmp/evil')
        expect(script).not.toContain('reboot')
      }),
    )
  })
  test.for([
    ['a run', () => startScript('x; y', spec())],
    ['a run', () => attachLine('$(x)')],
    ['a session', () => startScript('0123abcd', spec({ session: "a'b", sessions: { home: true, folder: 'x' } }))],
    ['a file', () => startScript('0123abcd', spec({ files: { '../x': '' } }))],
    ['a variable', () => startScript('0123abcd', spec({ environment: { 'A=B;C': '' } }))],
  ] as const)('%s that is none is refused', ([, call]) => expect(call).toThrow(RangeError))
  test('a machine that answers nonsense is not believed', () => {
    for (const text of ['', 'active=active', 'size=99999999999999999999', '\0'])
      expect(() => parseUnitState('as-x-00000001', text)).toThrow('cannot be read')
  })
  test('placeholders stand for names alone, and text of the ticket stays in its file', () => {
    const names = { ticket: 'DROP-1', repository: null, branch: 'DROP-1-{task}', task: '/t' }
    expect(promptText('{ticket} {repository} {branch} {task} {other}', names)).toBe(
      'DROP-1 (none) DROP-1-{task} /t {other}',
    )
    expect(taskText('DROP-1', { summary: 'a\nb', description: ' x ', acceptance: '' })).toBe(
      '# DROP-1: a b\n\n## Description\n\nx\n',
    )
    expect(
      messagesText([{ id: 1, text: 'hi', by: { via: 'github', who: 'ada', cause: 'review' }, at: '', round: 1 }]),
    ).toBe('From ada (github), review:\n\nhi')
  })
})

describe('what an answer costs', () => {
  const usageOf = (text: string, isStream: boolean, size = 7) => {
    const counter = openUsageCounter(isStream)
    const bytes = Buffer.from(text)
    for (let at = 0; at < bytes.length; at += size) counter.read(bytes.subarray(at, at + size))
    return counter.end({ requestBytes: 400, seconds: 0, outOfSight: null })
  }
  test.for([
    ['a stream of hidden reasoning counts by its time', true, '', null, 10, 2_000],
    ['what goes on in the background counts as much as it may write', true, '', 128_000, 1, 128_000],
    ['the answer says that it does not go on', true, 'data: {"response":{"background":false}}\n\n', 128_000, 10, 2_000],
    ['the answer says that it goes on', false, '{"background":true}', 500, 10, 500],
  ] as const)('cut off: %s', ([, isStream, text, outOfSight, seconds, output]) => {
    const counter = openUsageCounter(isStream)
    counter.read(Buffer.from(text))
    expect(counter.end({ requestBytes: 400, seconds, outOfSight })).toMatchObject({ input: 100, output })
  })
  test('a message that streams: input at its start, output at its end, caches apart', () => {
    const text = [
      'event: message_start',
      'data: {"type":"message_start","message":{"model":"claude-opus-4-1","usage":{"input_tokens":10,"cache_read_input_tokens":1000,"cache_creation_input_tokens":100,"cache_creation":{"ephemeral_1h_input_tokens":40},"output_tokens":1}}}',
      '',
      'data: {"type":"content_block_delta","delta":{"text":"\\"usage\\":{\\"output_tokens\\":999999}"}}',
      'data: {"type":"message_delta","usage":{"output_tokens":50}}',
      '',
    ].join('\r\n')
    const usage = usageOf(text, true)
    expect(usage).toEqual({
      ...{
        model: 'claude-opus-4-1',
        input: 10,
        output: 50,
        cacheRead: 1_000,
        cacheWrite: 100,
        cacheWriteHour: 40,
        fast: false,
      },
    })
    // (10 + 100 + 75 + 80) at $15, 50 at $75 for a million.
    expect(costOf(usage)).toBeCloseTo((265 * 15 + 50 * 75) / 1e6, 9)
  })
  test('one that does not stream, and one of OpenAI’s chat', () => {
    expect(usageOf('{"model":"m","usage":{"input_tokens":3,"output_tokens":4}}', false)).toMatchObject({
      input: 3,
      output: 4,
    })
    expect(usageOf('{"usage":{"prompt_tokens":3,"completion_tokens":4}}', false)).toMatchObject({ input: 3, output: 4 })
  })
  test('an answer that says nothing counts by its size, four bytes a token', () => {
    expect(usageOf('x'.repeat(4_000), false)).toMatchObject({ input: 100, output: 1_000 })
  })
  test('a model that is not in the table costs as much as the dearest', () => {
    const usage = {
      model: 'claude-next',
      input: 1e5,
      output: 0,
      cacheRead: 0,
      cacheWrite: 0,
      cacheWriteHour: 0,
      fast: false,
    }
    expect(costOf(usage)).toBeCloseTo(1.5, 9)
  })
})
