/**
 * `swarm mcp`: a server of the Model Context Protocol on standard input and output, for the machine that it runs in. Bundled into
 * one file, since a machine has Node.js at most.
 */
import { existsSync, readFileSync } from 'node:fs'
import { request } from 'node:http'
import { text } from 'node:stream/consumers'
import { Server } from '@modelcontextprotocol/sdk/server/index.js'
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'
import { CallToolRequestSchema, ListToolsRequestSchema } from '@modelcontextprotocol/sdk/types.js'

const {
  AGENT_SWARM_REQUESTS_PORT: port = '17703',
  AGENT_SWARM_STATE: state = '/var/lib/agent-swarm',
  AGENT_SWARM_LIBRARY: library = '/usr/local/lib/agent-swarm',
} = process.env
/** A checkpoint with the machine's memory takes a minute. */
const DEADLINE_MS = 10 * 60_000

const property = (description: string) => ({ type: 'string' as const, description })
/** `argument`: what is sent. */
const tools = {
  status: {
    description: "Shows this machine's ticket, project, checkpoints, and the last note. Changes nothing.",
    properties: {},
    required: [],
    argument: null,
  },
  checkpoint: {
    description:
      'Keeps the state of this machine (disk, and memory where the hypervisor can) so that it can be restored. At most once a minute; the newest 5 are kept.',
    properties: { name: property('Lower-case letters, digits and hyphens. Without it, the time is the name.') },
    required: [],
    argument: 'name',
  },
  restore: {
    description:
      'Takes this whole machine back to a checkpoint: files, databases and running programs, this session included. The present state is kept as a checkpoint first. Write a note before it: a note survives.',
    properties: { name: property('The checkpoint; `status` lists them.') },
    required: ['name'],
    argument: 'name',
  },
  note: {
    description: 'Writes something down that survives a restore, at most 2,000 characters. The last note is kept.',
    properties: { text: property('For whoever works here after a restore: what was tried, and why it failed.') },
    required: ['text'],
    argument: 'text',
  },
}

const prefix = (): string => {
  const file = `${state}/link-prefix`
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : ''
}

/** Resolves to the runner's words. */
const ask = (what: string, body: string): Promise<{ isError: boolean; words: string }> =>
  new Promise((resolve, reject) => {
    const asked = request(
      {
        ...{ host: '127.0.0.1', port: Number(port), path: `${prefix()}/v1/${what}`, method: 'POST' },
        ...{ headers: { 'content-type': 'text/plain', connection: 'close' }, timeout: DEADLINE_MS },
      },
      async response => {
        const words = (await text(response)).trimEnd()
        resolve({ isError: (response.statusCode ?? 500) >= 300, words })
      },
    )
    asked.on('timeout', () => asked.destroy(new Error('no answer in time')))
    asked.on('error', reject)
    asked.end(body)
  })

const version = () => (existsSync(`${library}/hash`) ? readFileSync(`${library}/hash`, 'utf8').trim() : 'unknown')

const server = new Server({ name: 'agent-swarm', version: version() }, { capabilities: { tools: {} } })
server.setRequestHandler(ListToolsRequestSchema, () => ({
  tools: Object.entries(tools).map(([name, { description, properties, required }]) => ({
    name,
    description,
    inputSchema: { type: 'object' as const, properties, required },
  })),
}))
server.setRequestHandler(CallToolRequestSchema, async ({ params }) => {
  const answer = (words: string, isError: boolean) => ({ content: [{ type: 'text' as const, text: words }], isError })
  if (!Object.hasOwn(tools, params.name)) return answer(`There is no tool ${params.name}.`, true)
  const { argument } = tools[params.name as keyof typeof tools]
  const value = argument === null ? undefined : params.arguments?.[argument]
  if (value !== undefined && typeof value !== 'string') return answer(`"${argument}" must be text.`, true)
  try {
    const { words, isError } = await ask(params.name, value ?? '')
    return answer(words, isError)
  } catch {
    return answer('The runner does not answer. It has to run on the host of this machine: agent-swarm up', true)
  }
})
await server.connect(new StdioServerTransport())
