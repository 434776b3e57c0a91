/**
 * Logging by pino. No payload and no secret: fields are walked before they are written, whatever they hold, and the written
 * line is looked through once more for what only its text tells.
 */
import { styleText } from 'node:util'
import { pino } from 'pino'
import { isFailure } from './errors.ts'

const REDACTED = '[redacted]'
/** Names without case, hyphens and underscores. */
const SECRET_NAME = /authorization|cookie|passw|passphrase|secret|token|apikey|privatekey|credential|signature/
/** What a sender wrote, or a client's whole request: never of use in a line. */
const PAYLOAD_NAME = /^(body|payload|rawbody|request|response)$/
/** Of one line: how deep it is looked into, members of one value, characters of one text and of all. */
const MOST = { depth: 8, members: 100, text: 4_000, all: 20_000 }
/** No secret is longer, in characters. */
const LONGEST_SECRET = 4_000

export type Log = ReturnType<typeof openLog>

const plainName = (name: string) => name.toLowerCase().replaceAll(/[^a-z0-9]/g, '')
const isSecret = (name: unknown): boolean => typeof name === 'string' && SECRET_NAME.test(plainName(name))

/** An error's own words, and those of its causes: octokit's carry the request with its headers, and others whatever they like. */
const errorFields = (error: Error): Record<string, unknown> => {
  const { kind, remedy } = isFailure(error) ? error.failure : { kind: 'unknown', remedy: null }
  const { code, status, cause, errors } = error as {
    code?: unknown
    status?: unknown
    cause?: unknown
    errors?: unknown
  }
  const told = { kind, message: error.message, remedy, code, status, stack: error.stack, cause, errors }
  return Object.fromEntries(Object.entries(told).filter(([, value]) => value !== undefined))
}

/**
 * A value as it may be written. Every name is looked at, at any depth; what is too deep, too long, too much or a circle is
 * cut. `hide` takes secrets out of a text before it is cut: half of one would be found by nothing afterwards.
 */
const cleaned = (whole: unknown, hide: (text: string) => string): unknown => {
  let room = MOST.all
  const cut = (text: string) => {
    room -= Math.min(text.length, MOST.text)
    if (text.length <= MOST.text) return text
    // The end of what is searched may be the beginning of a secret.
    const searched = hide(text.slice(0, MOST.text + 2 * LONGEST_SECRET)).slice(0, -LONGEST_SECRET)
    return `${searched.slice(0, MOST.text)}… (${text.length} characters)`
  }

  const clean = (value: unknown, above: readonly unknown[]): unknown => {
    room -= 10
    if (room <= 0) return '[more]'
    if (typeof value === 'string') return cut(value)
    if (typeof value === 'bigint' || typeof value === 'symbol') return String(value)
    if (typeof value === 'function') return undefined
    if (typeof value !== 'object' || value === null) return value
    if (above.includes(value)) return '[circular]'
    if (above.length >= MOST.depth) return '[deep]'
    if (value instanceof Date || value instanceof URL) return JSON.parse(JSON.stringify(value))
    if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`
    const within = [...above, value]
    if (Array.isArray(value) || value instanceof Set) {
      // As node:http has raw headers: a name, and then its value.
      return [...value].slice(0, MOST.members).map((one, at, all) => {
        const named = typeof one === 'string' && at > 0 && isSecret(all[at - 1])
        return named ? REDACTED : clean(one, within)
      })
    }
    const entries =
      value instanceof Map || value instanceof Headers || value instanceof URLSearchParams
        ? [...value]
        : Object.entries(value instanceof Error ? errorFields(value) : value)
    const pair = entries.find(([name]) => name === 'name' || name === 'key')
    return Object.fromEntries(
      entries.slice(0, MOST.members).map(([key, held]) => {
        const name = cut(String(key))
        if (isSecret(name) || (name === 'value' && pair !== undefined && isSecret(pair[1]))) return [name, REDACTED]
        if (PAYLOAD_NAME.test(plainName(name))) return [name, '[left out]']
        return [name, clean(held, within)]
      }),
    )
  }
  try {
    return clean(whole, [])
  } catch {
    // Nothing that is logged ends the process: getters may throw.
    return '[unreadable]'
  }
}

/** What text tells by itself: user and password of a URL, parameters that name a secret, schemes, and the shapes of known tokens. */
const SHAPES: readonly (readonly [RegExp, string])[] = [
  [/\b([a-z][a-z0-9+.-]{1,20}:\/\/)[^\s/"\\?#]{1,400}@/gi, `$1${REDACTED}@`],
  [
    /([?&;][^=&\s"\\]{0,30}?(?:token|secret|passw|signature|sig|key|code|jwt|auth|credential)[^=&\s"\\]{0,30}=)[^&\s"\\#]+/gi,
    `$1${REDACTED}`,
  ],
  [/\b(bearer|basic|token|jwt)([ :=]+)(?=[A-Za-z._~+/=-]*\d)[A-Za-z0-9._~+/=-]{8,}/gi, `$1$2${REDACTED}`],
  [/\b(?:gh[pousr]_|github_pat_|ATATT|xox[abp]-)[A-Za-z0-9_=-]{10,}|\bAKIA[0-9A-Z]{16}\b/g, REDACTED],
  [/\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+/g, REDACTED],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[^"]*?(?:-----END [A-Z ]*PRIVATE KEY-----|(?="))/g, REDACTED],
]

/** A secret as base64 writes it, wherever in a longer text it begins. */
const inBase64 = (secret: string): string[] =>
  [0, 1, 2].flatMap(shift => {
    const bytes = Buffer.concat([Buffer.alloc(shift), Buffer.from(secret)])
    const certain: [number, number] = [Math.ceil((shift * 8) / 6), Math.floor((bytes.length * 8) / 6)]
    return [bytes.toString('base64').slice(...certain), bytes.toString('base64url').slice(...certain)]
  })
const inJson = (text: string) => JSON.stringify(text).slice(1, -1)
/** A secret in every way that it may be written in a line: as it is, in JSON, in JSON within JSON, in a URL, in base64, a key line by line. */
const written = (secret: string): string[] => [
  secret,
  inJson(secret),
  inJson(inJson(secret)),
  encodeURIComponent(secret),
  ...inBase64(secret),
  ...secret.split('\n').filter(line => line.length >= 32 && line !== secret),
]

/** What programs follow one delivery by, and stacks: on a terminal they hide what it says. */
const FOR_PROGRAMS = ['correlation', 'action', 'runnerId', 'stack']
const STYLES: Readonly<Record<string, 'yellow' | 'red'>> = { warn: 'yellow', error: 'red', fatal: 'red' }
const fieldsOf = (line: string): Record<string, unknown> => {
  try {
    return JSON.parse(line)
  } catch {
    // A secret that is a number was taken out of it.
    return { msg: line.trim() }
  }
}
/** A line as a person on a terminal reads it. No outside text moves the cursor. */
export const readable = (line: string): string => {
  const { level, time, msg, err, ...fields } = fieldsOf(line)
  const label = pino.levels.labels[Number(level)] ?? ''
  const style = STYLES[label]
  const told = Object.entries({ ...fields, ...(typeof err === 'object' ? err : {}) })
    .filter(([name, value]) => !FOR_PROGRAMS.includes(name) && value !== null)
    .filter(([, value]) => !Array.isArray(value) || value.length > 0)
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
  const plain = (text: string) => text.replaceAll(/[\p{Cc}\p{Cf}]/gu, ' ')
  const rest = plain(told.join(' '))
  const words = [
    (typeof time === 'string' ? new Date(time) : new Date()).toTimeString().slice(0, 8),
    ...(style === undefined ? [] : [styleText(style, label)]),
    plain(String(msg)),
    ...(rest === '' ? [] : [styleText('dim', rest)]),
  ]
  return `${words.join(' ')}\n`
}

/** `secrets` are values that may turn up inside any text: each is replaced wherever it occurs. */
export const openLog = (level: string, secrets: readonly string[] = []) => {
  const hidden = [...new Set(secrets.filter(secret => secret.length >= 6).flatMap(written))]
  const withoutSecrets = (line: string) =>
    SHAPES.reduce(
      (rest, [shape, instead]) => rest.replaceAll(shape, instead),
      hidden.reduce((rest, secret) => rest.replaceAll(secret, REDACTED), line),
    )
  const safely = (value: unknown) => cleaned(value, withoutSecrets)
  const log = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      // The fields are clean when pino gets them.
      serializers: { err: value => value },
      hooks: {
        logMethod(args, method) {
          const [first, ...rest] = args as unknown[]
          const fields = first instanceof Error ? { err: first } : first
          const said = first instanceof Error && rest.length === 0 ? [first.message] : rest
          method.apply(this, [fields, ...said].map(safely) as Parameters<typeof method>)
        },
      },
    },
    {
      write: (line: string) => {
        const clean = withoutSecrets(line)
        process.stderr.write(process.stderr.isTTY ? readable(clean) : clean)
      },
    },
  )
  // Children inherit this: what is bound to them is looked at as well.
  const { child } = log
  log.child = function (this: typeof log, bindings: object, options?: object) {
    return child.call(this, safely(bindings) as object, options as never)
  } as typeof child
  return log
}
