/** What an answer of a model cost, by what its maker says in it. The machine has no say in this. */
import * as v from 'valibot'

export type Usage = {
  model: string | null
  /** Tokens; `input` without those that a cache had or took. */
  input: number
  output: number
  cacheRead: number
  cacheWrite: number
  /** Of `cacheWrite`, kept for an hour, which costs more. */
  cacheWriteHour: number
  fast: boolean
}
const NOTHING: Usage = { model: null, input: 0, output: 0, cacheRead: 0, cacheWrite: 0, cacheWriteHour: 0, fast: false }

const tokens = v.optional(v.nullable(v.pipe(v.number(), v.minValue(0))))
const usageForm = v.object({
  input_tokens: tokens,
  output_tokens: tokens,
  cache_read_input_tokens: tokens,
  cache_creation_input_tokens: tokens,
  cache_creation: v.optional(v.nullable(v.object({ ephemeral_1h_input_tokens: tokens }))),
  speed: v.optional(v.nullable(v.string())),
  // Of OpenAI's chat.
  prompt_tokens: tokens,
  completion_tokens: tokens,
})
const model = v.optional(v.nullable(v.pipe(v.string(), v.maxLength(200))))
const withUsage = v.object({
  model,
  usage: v.optional(v.nullable(usageForm)),
  /** OpenAI's: the model goes on after the answer, and nobody learns what that costs. */
  background: v.optional(v.nullable(v.boolean())),
})
const answerForm = v.object({
  ...withUsage.entries,
  /** Anthropic's message_start. */
  message: v.optional(v.nullable(withUsage)),
  /** OpenAI's response.completed and response.incomplete. */
  response: v.optional(v.nullable(withUsage)),
})

/** Later numbers of an answer hold for all of it (docs.anthropic.com/en/docs/build-with-claude/streaming: "cumulative"). */
const merge = (known: Usage, read: v.InferOutput<typeof withUsage>): Usage => {
  const { usage, model: named } = read
  const latest = (value: number | null | undefined, before: number) => Math.max(value ?? 0, before)
  return {
    model: named ?? known.model,
    input: latest(usage?.input_tokens ?? usage?.prompt_tokens, known.input),
    output: latest(usage?.output_tokens ?? usage?.completion_tokens, known.output),
    cacheRead: latest(usage?.cache_read_input_tokens, known.cacheRead),
    cacheWrite: latest(usage?.cache_creation_input_tokens, known.cacheWrite),
    cacheWriteHour: latest(usage?.cache_creation?.ephemeral_1h_input_tokens, known.cacheWriteHour),
    fast: known.fast || usage?.speed === 'fast',
  }
}

/** Bytes of one event, or of an answer that is not a stream, that are read for its numbers. */
const MAX_EVENT = 16 * 1024 * 1024
/** Bytes of the text that one token stands for, at least: an answer that was cut off counts by its size. */
const BYTES_PER_TOKEN = 4

const readAnswer = (text: string): v.InferOutput<typeof answerForm> | null => {
  try {
    const read = v.safeParse(answerForm, JSON.parse(text))
    return read.success ? read.output : null
  } catch {
    return null
  }
}

/** Tokens that a model writes in a second, at most: an answer that comes as a whole, or hidden reasoning, shows nothing of them. */
const TOKENS_PER_SECOND = 200
/** Tokens that a model writes in one answer at most; what goes on out of our sight counts as much. */
const MAX_OUTPUT = 128_000

const requestForm = v.object({ max_output_tokens: v.pipe(v.number(), v.minValue(1), v.maxValue(MAX_OUTPUT)) })

/** The most tokens that the model writes for this request to OpenAI's /v1/responses. */
export const mostOutput = (request: string): number => {
  try {
    return v.parse(requestForm, JSON.parse(request)).max_output_tokens
  } catch {
    // It names no bound, or the maker refuses it.
    return MAX_OUTPUT
  }
}

/** What is known of an answer besides what it says. */
export type Circumstances = {
  requestBytes: number
  /** From the request to the answer's last byte. */
  seconds: number
  /** Tokens that the model may write after the answer was cut off, unless the answer says that it does not; null: none. */
  outOfSight: number | null
}

/** Counts one answer while it passes. */
export const openUsageCounter = (isStream: boolean) => {
  const decoder = new TextDecoder()
  let pending: string[] = []
  let pendingLength = 0
  let usage = NOTHING
  let bytes = 0
  let isComplete = false
  /** Null: the answer does not say so. */
  let goesOn: boolean | null = null
  const readEvent = (text: string): void => {
    // Only these hold numbers; most events hold a few letters of text.
    if (!/"usage"|"background"/.test(text)) return
    const answer = readAnswer(text)
    if (answer === null) return
    goesOn = answer.response?.background ?? answer.background ?? goesOn
    for (const part of [answer.message, answer.response, answer]) if (part) usage = merge(usage, part)
    // The numbers of message_start are only those of the input.
    if (answer.response?.usage || (answer.usage && !answer.message)) isComplete = true
  }
  const readLine = (line: string): void => {
    if (!isStream) readEvent(line)
    else if (line.startsWith('data:')) readEvent(line.slice(5))
  }
  const add = (text: string): void => {
    pendingLength += text.length
    if (pendingLength <= MAX_EVENT) pending.push(text)
  }
  const endLine = (): void => {
    if (pendingLength <= MAX_EVENT) readLine(pending.join(''))
    pending = []
    pendingLength = 0
  }
  return {
    read: (chunk: Uint8Array): void => {
      bytes += chunk.length
      const text = decoder.decode(chunk, { stream: true })
      const [first = '', ...others] = isStream ? text.split('\n') : [text]
      add(first)
      for (const line of others) {
        endLine()
        add(line)
      }
    },
    /** The circumstances count for an answer that did not say, or was cut off before it said, what it cost. */
    end: ({ requestBytes, seconds, outOfSight }: Circumstances): Usage => {
      endLine()
      if (isComplete) return usage
      const inTime = Math.min(MAX_OUTPUT, Math.ceil(seconds * TOKENS_PER_SECOND))
      const unseen = (goesOn ?? outOfSight !== null) ? (outOfSight ?? MAX_OUTPUT) : inTime
      const isInputKnown = usage.input + usage.cacheRead + usage.cacheWrite > 0
      return {
        ...usage,
        input: isInputKnown ? usage.input : Math.ceil(requestBytes / BYTES_PER_TOKEN),
        output: Math.max(usage.output, Math.ceil(bytes / BYTES_PER_TOKEN), unseen),
      }
    },
  }
}

export const totalTokens = ({ input, output, cacheRead, cacheWrite }: Usage): number =>
  input + output + cacheRead + cacheWrite
