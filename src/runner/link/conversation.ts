/** Questions to `link.sh` and its answers, a line each. The machine is hostile: it gets one line for each question, of bounded length. */
import { fail } from '../../errors.ts'
import { MAX_CHUNK } from './types.ts'

/** Bytes of one answer: a chunk in base64, and its head. */
const MAX_LINE = Math.ceil(MAX_CHUNK / 3) * 4 + 100
/** A machine is paused while the hypervisor writes its memory down. */
const ANSWER_MS = 60_000
const LINE_FEED = 10

type Waiting = {
  pattern: RegExp
  /** Lines that do not match are passed over: what a login prints. */
  passOver: boolean
  resolve: (match: RegExpMatchArray) => void
  reject: (error: Error) => void
}

export const openConversation = () => {
  let waiting: Waiting | null = null
  let parts: Buffer[] = []
  let length = 0
  let failure: Error | null = null
  let onOver = () => {}
  const end = (error: Error) => {
    failure ??= error
    parts = []
    waiting?.reject(failure)
    waiting = null
    onOver()
  }
  const breach = (what: string): void => end(fail('refused', `the machine broke the link's rules: ${what}`))
  /** `line` is ASCII, since the pattern allows nothing else. */
  const onLine = (line: string): void => {
    const match = waiting === null ? null : line.match(waiting.pattern)
    if (match !== null) {
      waiting?.resolve(match)
      waiting = null
    } else if (waiting?.passOver !== true) breach('it sent an answer to another question')
  }
  const takeLine = (bytes: Buffer): Buffer => {
    const at = bytes.indexOf(LINE_FEED)
    const part = at === -1 ? bytes : bytes.subarray(0, at)
    length += part.length + 1
    if (waiting === null) breach('it sent what nobody asked for')
    else if (length > MAX_LINE) breach(`an answer of more than ${MAX_LINE} bytes`)
    else {
      parts.push(part)
      if (at === -1) return bytes.subarray(bytes.length)
      const line = Buffer.concat(parts).toString('latin1')
      parts = []
      onLine(line)
    }
    return bytes.subarray(at + 1)
  }
  return {
    onOutput: (bytes: Buffer): void => {
      let rest = bytes
      while (failure === null && rest.length > 0) rest = takeLine(rest)
    },
    /** The connection is gone. */
    end,
    throwIfOver: (): void => {
      if (failure !== null) throw failure
    },
    /** Calls back when the conversation is over, for whoever waits between two questions. */
    onOver: (call: () => void): void => {
      onOver = call
    },
    /** One question at a time. `send` writes it. */
    ask: async (
      pattern: RegExp,
      { passOver = false, send = () => {} }: { passOver?: boolean; send?: () => void } = {},
    ): Promise<RegExpMatchArray> => {
      if (failure !== null) throw failure
      length = 0
      const answer = Promise.withResolvers<RegExpMatchArray>()
      waiting = { pattern, passOver, resolve: answer.resolve, reject: answer.reject }
      const timer = setTimeout(
        () => end(fail('timeout', `the machine did not answer on its link within ${ANSWER_MS / 1000} s`)),
        ANSWER_MS,
      )
      try {
        send()
        return await answer.promise
      } finally {
        clearTimeout(timer)
      }
    },
  }
}
export type Conversation = ReturnType<typeof openConversation>
