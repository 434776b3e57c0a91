/** Settings with members, as an operator mistypes them, and what an agent may use by default. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readConfig } from '../../src/config/config.ts'
import { narrowAgent, type OperatorAgent } from '../../src/schema/workspace.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-config-'))
})
afterEach(() => rmSync(home, { recursive: true, force: true }))

test.for([
  ['agent: {}', 'agent.use is missing.'],
  ['agent: {use: gemini}', 'agent.use must be one of claude, codex, command, not "gemini".'],
  ['agent: {use: claude, budget: {token: 5}}', 'agent.budget.token is not a setting; did you mean tokens?'],
  ['agent: {use: claude, prompt: ""}', 'agent.prompt is empty'],
  ['agent: {use: codex, budget: {usd: 5}}', 'with `use: codex`, set `budget.tokens`'],
  ['agent: {use: command}', 'needs `command` with `use: command`'],
  ['workspace: {acme/shop: {ports: [99999]}}', 'workspace.acme/shop.ports[0] must be a whole number from 1 to 65535'],
  ['transitions: {inReview: x}', 'transitions.inReview is not a setting'],
])('%s: %s', async ([content, problem]) => {
  writeFileSync(join(home, 'config.yaml'), `${content}\n`, { mode: 0o600 })
  await expect(readConfig({}, { AGENT_SWARM_HOME: home })).rejects.toThrow(`${join(home, 'config.yaml')}:1: `)
  await expect(readConfig({}, { AGENT_SWARM_HOME: home })).rejects.toThrow(problem)
})

type Budget = { tokens: number; usd?: number }
test.for<[OperatorAgent, Budget | undefined, Budget]>([
  [{ use: 'claude' }, undefined, { tokens: 20_000_000, usd: 10 }],
  [{ use: 'codex' }, undefined, { tokens: 20_000_000 }],
  [{ use: 'claude', budget: { usd: 50 } }, undefined, { tokens: 1_000_000_000, usd: 50 }],
  [{ use: 'claude', budget: { tokens: 5_000_000 } }, undefined, { tokens: 5_000_000 }],
  // It may use another model than Claude, whose price is not known.
  [{ use: 'command', command: 'x', budget: { usd: 5 } }, undefined, { tokens: 20_000_000, usd: 5 }],
  [{ use: 'claude' }, { tokens: 1_000_000, usd: 90 }, { tokens: 1_000_000, usd: 10 }],
])('the budget of %j in a repository with %j is %j', ([operator, budget, expected]) => {
  expect(narrowAgent(operator, budget === undefined ? undefined : { budget })?.budget).toEqual(expected)
})
