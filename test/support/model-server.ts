/**
 * A model behind the APIs of Anthropic (messages) and OpenAI (responses), with replies by a script. Forms as in
 * docs.anthropic.com/en/docs/build-with-claude/streaming and platform.openai.com/docs/api-reference/responses-streaming.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export type Reply =
  /** The model says this, and its turn is over. */
  | { says: string; usage?: Usage }
  /** The model wants this command to be run. */
  | { runs: string; usage?: Usage }
  /** The service refuses. */
  | { status: number; body: unknown; headers?: Record<string, string> }
type Usage = { input: number; output: number }
export type Asked = { method: string; url: string; headers: IncomingMessage['headers']; body: Record<string, unknown> }

const bodyOf = async (request: IncomingMessage): Promise<Record<string, unknown>> => {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  const text = Buffer.concat(chunks).toString()
  return text === '' ? {} : JSON.parse(text)
}
const event = (response: ServerResponse, value: { type: string }) =>
  response.write(`event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`)

const DEFAULT_USAGE: Usage = { input: 100, output: 20 }
type Spoken = Exclude<Reply, { status: number }>

const anthropicMessage = (reply: Spoken, model: unknown, n: number) => {
  const { input, output } = reply.usage ?? DEFAULT_USAGE
  const block =
    'says' in reply
      ? { type: 'text', text: reply.says }
      : { type: 'tool_use', id: `toolu_${n}`, name: 'Bash', input: { command: reply.runs, description: 'Run it' } }
  return {
    message: {
      ...{ id: `msg_${n}`, type: 'message', role: 'assistant', model, content: [block], stop_sequence: null },
      stop_reason: 'says' in reply ? 'end_turn' : 'tool_use',
      usage: { input_tokens: input, output_tokens: output },
    },
    block,
  }
}

const streamAnthropic = (response: ServerResponse, reply: Spoken, model: unknown, n: number): void => {
  const { message, block } = anthropicMessage(reply, model, n)
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' })
  event(response, {
    type: 'message_start',
    message: { ...message, content: [], stop_reason: null, usage: { ...message.usage, output_tokens: 1 } },
  } as { type: string })
  const isText = block.type === 'text'
  const empty = isText ? { type: 'text', text: '' } : { ...block, input: {} }
  const delta = isText
    ? { type: 'text_delta', text: (block as { text: string }).text }
    : { type: 'input_json_delta', partial_json: JSON.stringify((block as { input: unknown }).input) }
  event(response, { type: 'content_block_start', index: 0, content_block: empty } as { type: string })
  event(response, { type: 'content_block_delta', index: 0, delta } as { type: string })
  event(response, { type: 'content_block_stop', index: 0 } as { type: string })
  event(response, {
    type: 'message_delta',
    delta: { stop_reason: message.stop_reason, stop_sequence: null },
    usage: { output_tokens: message.usage.output_tokens },
  } as { type: string })
  event(response, { type: 'message_stop' })
  response.end()
}

const streamOpenai = (response: ServerResponse, reply: Spoken, model: unknown, n: number): void => {
  const { input, output } = reply.usage ?? DEFAULT_USAGE
  const item =
    'says' in reply
      ? { id: `msg_${n}`, type: 'message', role: 'assistant', content: [{ type: 'output_text', text: reply.says }] }
      : {
          ...{ id: `fc_${n}`, type: 'function_call', call_id: `call_${n}`, name: 'exec_command' },
          // As long as it waits for a command at most.
          arguments: JSON.stringify({ cmd: reply.runs, yield_time_ms: 30_000 }),
        }
  const base = { id: `resp_${n}`, model }
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  event(response, { type: 'response.created', response: base } as { type: string })
  event(response, { type: 'response.output_item.done', output_index: 0, item } as { type: string })
  event(response, {
    type: 'response.completed',
    response: {
      ...base,
      usage: {
        ...{ input_tokens: input, output_tokens: output, total_tokens: input + output },
        ...{ input_tokens_details: { cached_tokens: 0 }, output_tokens_details: { reasoning_tokens: 0 } },
      },
    },
  } as { type: string })
  response.end()
}

/** Claude Code's requests without tools are not the agent's own turn: a title, for example. */
const isTurn = ({ url, body: { tools } }: Pick<Asked, 'url' | 'body'>) =>
  url.startsWith('/v1/responses') || (Array.isArray(tools) && tools.length > 0)

/** `replies`: for the agent's turns, in order; when they are used up it says "Done.". */
export const openModelServer = async (replies: Reply[] = []) => {
  const asked: Asked[] = []
  let n = 0
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method = '', url = '', headers } = request
    const body = await bodyOf(request)
    asked.push({ method, url, headers, body })
    n += 1
    const reply: Reply = (isTurn({ url, body }) ? replies.shift() : null) ?? { says: 'Done.' }
    if ('status' in reply)
      return void response
        .writeHead(reply.status, { 'content-type': 'application/json', ...reply.headers })
        .end(JSON.stringify(reply.body))
    if (url.startsWith('/v1/responses')) return streamOpenai(response, reply, body.model, n)
    if (!url.startsWith('/v1/messages')) return void response.writeHead(404).end()
    if (body.stream === true) return streamAnthropic(response, reply, body.model, n)
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify(anthropicMessage(reply, body.model, n).message))
  }
  const server = createServer((request, response) => void answer(request, response))
  const listen = (port: number) => new Promise<void>(resolve => server.listen(port, '127.0.0.1', resolve))
  await listen(0)
  const { port } = server.address() as AddressInfo
  const close = (): void => {
    server.closeAllConnections()
    server.close()
  }
  return {
    url: `http://127.0.0.1:${port}`,
    replies,
    asked,
    /** The agent's own turns. */
    turns: () => asked.filter(isTurn),
    close,
    /** After `close`: it is back at its address. */
    reopen: () => listen(port),
  }
}
