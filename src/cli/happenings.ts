/** The lines of a log as a person at a terminal reads them: one for each thing that happened, and nothing else. */
import * as v from 'valibot'
import { fieldsOf } from '../log.ts'
import { type ActionKind, actionKinds, requester } from '../schema/action.ts'

const { styleText } = process.getBuiltinModule('node:util')

/** Pino's level of a warning; higher ones are errors. */
const WARNING = 40
const ERROR = 50

// ── Outcomes ──

const text = v.optional(v.nullable(v.string()), null)
/** As the bot logs an outcome (src/bot/runners/outcomes.ts). */
const outcomeFields = v.object({
  kind: v.picklist(actionKinds),
  ticket: v.string(),
  by: requester,
  result: v.picklist(['done', 'skipped', 'failed']),
  reason: text,
  remedy: text,
  checkpoint: text,
  what: text,
  from: text,
  seconds: v.optional(v.nullable(v.number()), null),
  rescued: text,
})
type OutcomeFields = v.InferOutput<typeof outcomeFields>

/** Null: nothing happened to the machine. */
const doneTexts: Record<ActionKind, ((fields: OutcomeFields) => string) | null> = {
  create: () => 'created',
  start: () => 'started',
  stop: () => 'stopped',
  restart: () => 'restarted',
  checkpoint: ({ checkpoint }) => (checkpoint === null ? 'checkpoint made' : `checkpoint ${checkpoint} made`),
  restore: ({ checkpoint }) => (checkpoint === null ? 'restored' : `restored to ${checkpoint}`),
  'delete-checkpoint': ({ checkpoint }) => `checkpoint ${checkpoint ?? ''} deleted`,
  tell: () => 'agent told',
  agent: ({ what }) => (what === 'stop' ? 'agent stopped' : 'agent starts'),
  delete: () => 'deleted',
  fork: () => 'forked',
  promote: () => 'attempt promoted',
  move: ({ from }) => `moved from ${from ?? 'another key'}`,
  status: null,
}

const causeText = ({ by: { via, who, name = '', cause, movedTo } }: OutcomeFields): string => {
  // A Jira account's id says nothing to people.
  const person = name !== '' ? name : via === 'jira' ? null : who
  const what = cause === undefined ? 'requested' : `${cause}${movedTo === undefined ? '' : ` to ${movedTo}`}`
  return person === null ? what : `${what} by ${person}`
}

const seconds = (count: number | null): string =>
  count === null
    ? ''
    : count < 0.1
      ? ' in less than 0.1 s'
      : ` in ${count < 90 ? `${Math.round(count * 10) / 10} s` : `${Math.round(count / 60)} min`}`
const withRemedy = (message: string, remedy: string | null): string =>
  remedy === null ? message : `${message.replace(/[.\s]+$/, '')}. ${remedy}`

const outcomeText = (fields: OutcomeFields): string | null => {
  const { kind, result, reason, remedy, rescued } = fields
  if (result === 'failed') return styleText('red', withRemedy(`${kind} failed: ${reason ?? ''}`, remedy))
  const happened = doneTexts[kind]
  if (happened === null) return null
  if (result === 'skipped') return `${kind}: nothing to do: ${reason ?? ''} (${causeText(fields)})`
  const saved = rescued === null ? '' : `; ${rescued}`
  return `${happened(fields)}${seconds(fields.seconds)}${saved} (${causeText(fields)})`
}

// ── Lines ──

const problem = v.object({
  ticket: text,
  host: text,
  remedy: text,
  err: v.optional(v.nullable(v.object({ message: text, remedy: text })), null),
})

const onHost = (message: string, host: unknown): string =>
  typeof host === 'string' && !message.includes(host) ? `${message} (${host})` : message
const isOwn = (error: string | null, message: string): error is string => error !== null && !message.includes(error)
const problemText = (level: number, message: string, fields: unknown): { ticket: string | null; text: string } => {
  const parsed = v.safeParse(problem, fields)
  const { ticket, host, remedy, err } = parsed.success
    ? parsed.output
    : { ticket: null, host: null, remedy: null, err: null }
  const what = onHost(message, host)
  const whole = isOwn(err?.message ?? null, message) ? `${what}: ${err?.message}` : what
  return {
    ticket,
    text: styleText(level >= ERROR ? 'red' : 'yellow', withRemedy(whole, remedy ?? err?.remedy ?? null)),
  }
}

/** No outside text moves the cursor or sets a colour. */
const plain = (value: unknown): unknown => {
  if (typeof value === 'string') return value.replaceAll(/[\p{Cc}\p{Cf}]+/gu, ' ').trim()
  if (Array.isArray(value)) return value.map(plain)
  return typeof value === 'object' && value !== null
    ? Object.fromEntries(Object.entries(value).map(([name, member]) => [name, plain(member)]))
    : value
}

/** What a terminal shows of a written line; null for what only a log needs. */
export const happening = (line: string): string | null => {
  const fields = plain(fieldsOf(line)) as Record<string, unknown>
  const level = typeof fields.level === 'number' ? fields.level : ERROR
  const message = String(fields.msg ?? '')
  const shown = (ticket: string | null, said: string): string => {
    const at = (typeof fields.time === 'string' ? new Date(fields.time) : new Date()).toTimeString().slice(0, 8)
    return `${[at, ...(ticket === null ? [] : [ticket]), said].join('  ')}\n`
  }
  if (level >= WARNING) {
    const { ticket, text } = problemText(level, message, fields)
    return shown(ticket, text)
  }
  if (fields.happened === 'outcome') {
    const outcome = v.safeParse(outcomeFields, fields)
    const said = outcome.success ? outcomeText(outcome.output) : null
    return outcome.success && said !== null ? shown(outcome.output.ticket, said) : null
  }
  return fields.happened === undefined ? null : shown(null, onHost(message, fields.host))
}
