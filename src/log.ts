/**
 * Logging with pino, without payloads and secrets: fields are cleaned before they are written, whatever they hold, and the
 * written line is searched once more for secrets that only its text reveals.
 */
import { styleText } from 'node:util'
import { pino } from 'pino'
import { isFailure } from './errors.ts'
import { visibleJson } from './visible-json.ts'

const REDACTED = '[redacted]'
/** Matches names in lower case, without hyphens and underscores. */
const SECRET_NAME = /authorization|cookie|passw|passphrase|secret|token|apikey|privatekey|credential|signature/
/** A sender's text or a client's whole request: never of use in a line. */
const PAYLOAD_NAME = /^(body|payload|rawbody|request|response)$/
/** For one line: levels of depth, members of a value, characters of a text and of all together. */
const LIMITS = { depth: 8, members: 100, text: 4_000, total: 20_000 }
/** In characters. */
const MAX_SECRET_LENGTH = 4_000
/** A shorter secret would also match ordinary text. */
const MIN_SECRET_LENGTH = 6

export type Log = ReturnType<typeof openLog>

const plainName = (name: string) => name.toLowerCase().replaceAll(/[^a-z0-9]/g, '')
export const isSecretName = (name: unknown): boolean => typeof name === 'string' && SECRET_NAME.test(plainName(name))

/** The useful members of an error. Octokit's also carry the request with its headers, and others may carry anything. */
const errorFields = (error: Error): Record<string, unknown> => {
  const { kind, remedy } = isFailure(error) ? error.failure : { kind: 'unknown', remedy: null }
  const { code, status, cause, errors } = error as Error & Record<string, unknown>
  const fields = { kind, message: error.message, remedy, code, status, stack: error.stack, cause, errors }
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
}

// ── Cleaning ──

/** What is left of the line's LIMITS.total. */
type Budget = { left: number }
type Hide = (text: string) => string

const cut = (text: string, budget: Budget, hide: Hide): string => {
  budget.left -= Math.min(text.length, LIMITS.text)
  if (text.length <= LIMITS.text) return text
  // Secrets are hidden before the cut, which could leave half of one. The end of the searched text may cut one, too.
  const searched = hide(text.slice(0, LIMITS.text + 2 * MAX_SECRET_LENGTH)).slice(0, -MAX_SECRET_LENGTH)
  return `${searched.slice(0, LIMITS.text)}… (${text.length} characters)`
}

const entriesOf = (value: object): [unknown, unknown][] =>
  value instanceof Map || value instanceof Headers || value instanceof URLSearchParams
    ? [...value]
    : Object.entries(value instanceof Error ? errorFields(value) : value)

/** `parents`: the objects that hold this value. */
const cleanObject = (value: object, parents: readonly unknown[], budget: Budget, hide: Hide): unknown => {
  if (parents.includes(value)) return '[circular]'
  if (parents.length >= LIMITS.depth) return '[deep]'
  if (value instanceof Date || value instanceof URL) return JSON.parse(JSON.stringify(value))
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`
  const clean = (member: unknown) => cleanValue(member, [...parents, value], budget, hide)
  if (Array.isArray(value) || value instanceof Set) {
    // Raw headers of node:http: a name, then its value.
    return [...value].slice(0, LIMITS.members).map((member, n, all) => {
      const isNamedSecret = typeof member === 'string' && n > 0 && isSecretName(all[n - 1])
      return isNamedSecret ? REDACTED : clean(member)
    })
  }
  const entries = entriesOf(value)
  const pair = entries.find(([name]) => name === 'name' || name === 'key')
  return Object.fromEntries(
    entries.slice(0, LIMITS.members).map(([key, member]) => {
      const name = cut(String(key), budget, hide)
      if (isSecretName(name) || (name === 'value' && pair !== undefined && isSecretName(pair[1])))
        return [name, REDACTED]
      if (PAYLOAD_NAME.test(plainName(name))) return [name, '[left out]']
      return [name, clean(member)]
    }),
  )
}
const cleanValue = (value: unknown, parents: readonly unknown[], budget: Budget, hide: Hide): unknown => {
  budget.left -= 10
  if (budget.left <= 0) return '[more]'
  if (typeof value === 'string') return cut(value, budget, hide)
  if (typeof value === 'bigint' || typeof value === 'symbol') return String(value)
  if (typeof value === 'function') return undefined
  return typeof value === 'object' && value !== null ? cleanObject(value, parents, budget, hide) : value
}

/** A value that may be written: every name is checked, at any depth, and the value is cut to LIMITS. */
const cleaned = (value: unknown, hide: Hide): unknown => {
  try {
    return cleanValue(value, [], { left: LIMITS.total }, hide)
  } catch {
    // A getter may throw. Nothing that is logged ends the process.
    return '[unreadable]'
  }
}

// ── Secrets in text ──

/** Recognisable in any text: credentials of a URL, parameters with a telling name, schemes, and the shapes of known tokens. */
const SHAPES: readonly (readonly [RegExp, string])[] = [
  [/\b([a-z][a-z0-9+.-]{1,20}:\/\/)[^\s/"\\?#]{1,400}@/gi, `$1${REDACTED}@`],
  [
    /([?&;][^=&\s"\\]{0,30}?(?:token|secret|passw|signature|sig|key|code|jwt|auth|credential)[^=&\s"\\]{0,30}=)[^&\s"\\#]+/gi,
    `$1${REDACTED}`,
  ],
  [/\b(bearer|basic|token|jwt)([ :=]+)(?=[A-Za-z._~+/=-]*\d)[A-Za-z0-9._~+/=-]{8,}/gi, `$1$2${REDACTED}`],
  [
    /\b(?:gh[pousr]_|github_pat_|ATATT|xox[abp]-|swarm_)[A-Za-z0-9_=-]{10,}|\bsk-[A-Za-z0-9_-]{20,}|\bAKIA[0-9A-Z]{16}\b/g,
    REDACTED,
  ],
  [/\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+/g, REDACTED],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[^"]*?(?:-----END [A-Z ]*PRIVATE KEY-----|(?=")|$)/g, REDACTED],
]

/** A secret in base64, at any offset in a longer text. */
const inBase64 = (secret: string): string[] =>
  [0, 1, 2].flatMap(shift => {
    const bytes = Buffer.concat([Buffer.alloc(shift), Buffer.from(secret)])
    // The characters that depend on the secret alone.
    const range: [number, number] = [Math.ceil((shift * 8) / 6), Math.floor((bytes.length * 8) / 6)]
    return [bytes.toString('base64').slice(...range), bytes.toString('base64url').slice(...range)]
  })
const inJson = (text: string) => JSON.stringify(text).slice(1, -1)
/** The forms of a secret in a line: verbatim, in JSON, in JSON within JSON, in a URL, in base64, and a key line by line. */
const formsOf = (secret: string): string[] => [
  secret,
  inJson(secret),
  inJson(inJson(secret)),
  encodeURIComponent(secret),
  ...inBase64(secret),
  // The first and the last line of a key are no secret, and show where another key is.
  ...secret.split('\n').filter(line => line.length >= 32 && line !== secret && !line.startsWith('-----')),
]

/** Returns what replaces these secrets in a text, in all their forms, and whatever else looks like a credential. */
export const openHide = (secrets: readonly string[]): ((text: string) => string) => {
  const hidden = [...new Set(secrets.filter(secret => secret.length >= MIN_SECRET_LENGTH).flatMap(formsOf))]
  return text =>
    SHAPES.reduce(
      (rest, [shape, replacement]) => rest.replaceAll(shape, replacement),
      hidden.reduce((rest, secret) => rest.replaceAll(secret, REDACTED), text),
    )
}

// ── On a terminal ──

/** Ids for programs, and stacks: on a terminal they bury the message. */
const FOR_PROGRAMS = ['correlation', 'action', 'runnerId', 'stack']
const STYLES: Readonly<Record<string, 'yellow' | 'red'>> = { warn: 'yellow', error: 'red', fatal: 'red' }
/** The fields of a written line. */
export const fieldsOf = (line: string): Record<string, unknown> => {
  try {
    return JSON.parse(line)
  } catch {
    // A number that is a secret was replaced, which left no valid JSON.
    return { msg: line.trim() }
  }
}
/** A line for a person at a terminal. No outside text moves the cursor. */
export const readable = (line: string): string => {
  const { level, time, msg, err, ...fields } = fieldsOf(line)
  const label = pino.levels.labels[Number(level)] ?? ''
  const style = STYLES[label]
  const shown = Object.entries({ ...fields, ...(typeof err === 'object' ? err : {}) })
    .filter(([name, value]) => !FOR_PROGRAMS.includes(name) && value !== null)
    .filter(([, value]) => !Array.isArray(value) || value.length > 0)
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
  const plain = (text: string) => text.replaceAll(/[\p{Cc}\p{Cf}]/gu, ' ')
  const rest = plain(shown.join(' '))
  const words = [
    (typeof time === 'string' ? new Date(time) : new Date()).toTimeString().slice(0, 8),
    ...(style === undefined ? [] : [styleText(style, label)]),
    plain(String(msg)),
    ...(rest === '' ? [] : [styleText('dim', rest)]),
  ]
  return `${words.join(' ')}\n`
}

/**
 * `secrets` may occur inside any text: each is replaced wherever it does. `present` makes of a line what a terminal shows; null
 * shows nothing.
 */
export const openLog = (
  level: string,
  secrets: readonly string[] = [],
  present: (line: string) => string | null = readable,
) => {
  const withoutSecrets = openHide(secrets)
  const safely = (value: unknown) => cleaned(value, withoutSecrets)
  const log = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      // Pino gets clean fields.
      serializers: { err: value => value },
      hooks: {
        logMethod(args, method) {
          const [first, ...rest] = args as unknown[]
          const fields = first instanceof Error ? { err: first } : first
          const message = first instanceof Error && rest.length === 0 ? [first.message] : rest
          method.apply(this, [fields, ...message].map(safely) as Parameters<typeof method>)
        },
      },
    },
    {
      write: (line: string) => {
        const clean = withoutSecrets(line)
        const shown = process.stderr.isTTY ? present(clean) : visibleJson(clean)
        if (shown !== null) process.stderr.write(shown)
      },
    },
  )
  // Bindings of children are cleaned too. Children inherit this.
  const { child } = log
  log.child = function (this: typeof log, bindings: object, options?: object) {
    return child.call(this, safely(bindings) as object, options as never)
  } as typeof child
  return log
}
