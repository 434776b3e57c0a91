/** What comments say of agents. What agents and logs wrote is hostile. */
import { fromMarkdown } from 'mdast-util-from-markdown'
import { expect, test } from 'vitest'
import { commandLines } from '../../../handlers/command-lines.ts'
import { jiraCommandLines } from '../../../handlers/jira-lines.ts'
import { agentEnd, agentLine, pullRequestTitle } from '../../../src/bot/publish/agent-words.ts'
import { chooseTransition } from '../../../src/bot/publish/move-ticket.ts'
import { adf, markdown } from '../../../src/bot/publish/text.ts'
import { moment } from '../../../src/bot/publish/words.ts'
import type { AgentReport } from '../../../src/schema/environment.ts'

const run: AgentReport = {
  ...{ use: 'claude', run: '0a1b2c3d', state: 'ended', startedAt: '2026-11-24T10:00:00Z', endedAt: 'soon' },
  ...{ result: 'crashed', reason: null, summary: null, turns: 1, tokens: 5, usd: null, rounds: 2, pullRequest: 'none' },
}
const HOSTILE = [
  '/swarm delete --force',
  'done\n\n/swarm delete --force\n\n/swarm stop',
  '> x\n\n/swarm delete',
  '```\n/swarm delete\n```\n/swarm stop',
  '<details>\n\n/swarm delete\n</details>',
  '@octocat @acme/leads\n<img src=x onerror=1><script>1</script>',
  '[click](https://evil.example) ![p](https://evil.example/p.png) https://evil.example www.evil.example',
  '<!-- agent-swarm:status:DROP-1 -->\n# heading\n| a | b |\n| - | - |\n| c | d |',
  '\u001b[31mred\u0007 \u202egnirts\u200b',
  '\u200b\u0000',
  'x'.repeat(100_000),
  '\n'.repeat(5_000),
]
/** The kinds of nodes in a text. */
const nodesOf = (text: string): Set<string> => {
  const kinds = new Set<string>()
  const walk = (node: { type: string; children?: unknown[] }) => {
    kinds.add(node.type)
    for (const child of (node.children ?? []) as { type: string }[]) walk(child)
  }
  walk(fromMarkdown(text))
  return kinds
}

test.for(HOSTILE.map(text => [text] as const))(
  'an agent’s own words are shown, and never interpreted: %j',
  ([text]) => {
    const { blocks } = agentEnd('DROP-1', { ...run, summary: text, reason: text }, null)
    const shown = markdown(blocks)
    expect(shown.length).toBeLessThan(20_000)
    expect(commandLines(shown)).toEqual([])
    expect(jiraCommandLines(adf(blocks))).toEqual([])
    for (const kind of ['html', 'link', 'image', 'code', 'heading']) expect(nodesOf(shown), kind).not.toContain(kind)
    expect(shown).not.toMatch(/@[a-z]/)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: this looks for them
    expect(shown).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]/)
    expect(JSON.stringify(adf(blocks))).not.toContain('"text":""')
  },
)

test.for<[AgentReport['result'], string]>([
  ['done', 'Result: done'],
  ['out of time', 'Result: stopped: out of time'],
  ['out of budget', 'Result: stopped: out of budget'],
  ['crashed', 'Result: crashed'],
  ['stopped', 'Result: stopped'],
])('a run that ended %s is told so, and only a blocked one asks for an answer', ([result, expected]) => {
  const shown = markdown(agentEnd('DROP-1', { ...run, result }, null).blocks)
  expect(shown).toContain(expected)
  expect(shown).not.toContain('/swarm tell')
  // Its end is no time.
  expect(shown).not.toContain('Time:')
})

test('an agent in one line', () => {
  const times = { at: moment, elapsed: () => '', growing: (text: string) => text }
  const lineOf = (more: Partial<AgentReport>, status: 'running' | 'stopped' = 'running') =>
    markdown([{ line: agentLine({ ...run, ...more }, { status, observedAt: '2026-11-24T10:05:00Z' }, times) }])
  // Nothing works in a machine that is stopped.
  expect(lineOf({ state: 'running', result: null }, 'stopped')).toBe('Claude Code goes on when the machine runs again')
  expect(lineOf({ state: 'wanted', result: null }, 'stopped')).toBe('Claude Code starts when the machine runs again')
  expect(lineOf({ state: 'wanted', result: null, reason: 'No isolation.' })).toBe(
    'Claude Code starts as soon as it can: No isolation.',
  )
  expect(lineOf({ state: 'running', result: null, turns: 2 })).toBe(
    'Claude Code is at work since 2026-11-24 10:00:00 UTC (2 turns, 5 tokens as of 2026-11-24 10:05:00 UTC; reviews and failed checks that it was told: 2)',
  )
})

test('a title has one line of at most 256 characters', () => {
  expect(pullRequestTitle('DROP-1', 'a\n\tb\u202e \u0000c')).toBe('DROP-1 a b c')
  expect(pullRequestTitle('DROP-1', '')).toBe('DROP-1')
  expect(pullRequestTitle('DROP-1', '🙂'.repeat(400))).toMatch(/^DROP-1 🙂+$/u)
})

test('a log shows its last lines as they are', () => {
  const log = `${Array.from({ length: 2_000 }, (_, n) => `line ${n}`).join('\n')}\n  indented \`\`\` @octocat\u001b[0m\n/swarm delete\n`
  const shown = markdown([{ log }])
  expect(shown.length).toBeLessThan(8_200)
  expect(shown).toMatch(/^````text\n… \nline \d+\n/)
  expect(shown).toContain('line 1999\n  indented ``` @octocat[0m\n/swarm delete\n````')
  expect(shown).not.toContain('line 0\n')
  expect(commandLines(shown)).toEqual([])
  expect(jiraCommandLines(adf([{ log }]))).toEqual([])
})

const status = (id: string, name: string, category: 'new' | 'indeterminate' | 'done', needs: string[] = []) => ({
  ...{ id, to: { name, category }, needs },
})
const all = [
  status('1', 'To Do', 'new'),
  status('2', 'In Progress', 'indeterminate'),
  status('3', 'Waiting', 'indeterminate'),
  status('4', 'IN REVIEW', 'indeterminate'),
  status('5', 'Closed', 'done', ['Resolution']),
  status('6', 'Done', 'done'),
]
test.for<[string, { to: 'review' | 'done'; status: string | true }, typeof all, string]>([
  ['a review, by its usual name', { to: 'review', status: true }, all, '4'],
  ['a review without that name, by category', { to: 'review', status: true }, all.slice(0, 3), '3'],
  ['a configured name in any case', { to: 'review', status: ' waiting ' }, all, '3'],
  ['done, the one that asks for nothing', { to: 'done', status: true }, all, '6'],
  [
    'done, where every way asks for something',
    { to: 'done', status: true },
    all.slice(0, 5),
    'the transition to "Closed" asks for Resolution',
  ],
  [
    'a name that no transition leads to',
    { to: 'done', status: 'Shipped' },
    all,
    'no transition leads to the status "Shipped"',
  ],
  [
    'no way at all',
    { to: 'done', status: true },
    all.slice(0, 4),
    'no transition leads to a status of the category done',
  ],
])('the transition for %s', ([, wanted, offered, expected]) => {
  const chosen = chooseTransition(offered, { statusName: 'In Progress' }, wanted)
  expect('problem' in chosen ? chosen.problem : chosen.id).toBe(expected)
})
