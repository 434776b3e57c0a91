/** `agent-swarm up`, with the scripted agent where machines are folders: no other agent runs there. */
import { runUp } from '../src/cli/commands/up.ts'
import { readConfig } from '../src/config/config.ts'
import { scriptedAgent } from './scripted-agent.ts'

const ending = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => ending.abort())
await runUp(
  {
    ...{ words: [], flags: {}, terminal: process, signal: ending.signal, config: () => readConfig() },
    ...{ json: false, quiet: false, verbose: false },
  },
  context =>
    context.config.provider === 'synthetic' ? { ...context, scriptedAgent: scriptedAgent(context.home) } : context,
)
