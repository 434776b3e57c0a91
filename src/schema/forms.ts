/**
 * The forms of the values that people write in our files, and the messages about mistakes in them. A form's message is the
 * rest of a sentence about the value: "must be …", "is not …".
 */
import * as v from 'valibot'
import { IMAGE_NAME } from '../domain.ts'
import { nearest } from '../nearest.ts'

/** One setting: a row of the table that the parser, the editor's schema and the docs are made of. */
export type Setting = {
  /** Its environment variable. Null: it has members, and stands in config.yaml alone. */
  env: string | null
  form: v.GenericSchema
  /** As the file has it. Without a default, the setting may be missing. */
  default?: unknown
  /** Its meaning. */
  says: string
  /** As the file has it. */
  example: unknown
  /** Its value is never shown. */
  secret?: true
}
/** The values of a table of settings. */
export type SettingValues<Rows extends Readonly<Record<string, Setting>>> = Readonly<{
  [Name in keyof Rows]: v.InferOutput<Rows[Name]['form']> | (Rows[Name] extends { default: unknown } ? never : null)
}>

export const unknownNameMessage = (name: string, known: readonly string[]): string => {
  const near = nearest(name, known)
  return `is not a setting; ${near === null ? `the settings are ${known.join(', ')}` : `did you mean ${near}?`}`
}

// ── Forms ──

export const integer = (min: number, max: number) => {
  const message = `must be a whole number from ${min} to ${max}`
  return v.pipe(v.number(message), v.integer(message), v.minValue(min, message), v.maxValue(max, message))
}
export const oneOf = <const T extends readonly string[]>(...members: T) =>
  v.picklist(members, `must be one of ${members.join(', ')}`)
export const text = v.pipe(
  v.string('must be text (in quotes if it looks like a number)'),
  v.maxLength(20_000, 'is too long'),
)
export const pattern = (regex: RegExp, message: string) => v.pipe(v.string(message), v.regex(regex, message))
const isAddressRange = (typed: string): boolean => {
  const [address = '', prefix, ...rest] = typed.split('/')
  if (rest.length > 0) return false
  const [form, longest] = address.includes(':') ? [v.ipv6(), 128] : [v.ipv4(), 32]
  return (
    (prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= longest)) &&
    v.is(v.pipe(v.string(), form), address)
  )
}
/** An IP address, or a range of them: `192.0.2.0/24`. */
export const addressRange = v.pipe(
  v.string('must be text'),
  v.check(isAddressRange, 'is not an IP address or a range (for example 192.0.2.0/24)'),
)
export const listOf = <const Item extends v.GenericSchema<string>>(item: Item) =>
  v.pipe(v.array(item, 'must be a list'), v.maxLength(100, 'has more than 100 members'))

export const projectKey = pattern(/^[A-Za-z][A-Za-z0-9_]{1,9}$/, 'is not a Jira project key (for example DROP)')
/** A user or an organization on GitHub. Logins that a company manages (Enterprise Managed Users) contain an underscore. */
export const GITHUB_LOGIN = '[A-Za-z0-9][A-Za-z0-9_-]{0,38}'
export const repositoryName = pattern(
  new RegExp(`^${GITHUB_LOGIN}/[A-Za-z0-9._-]{1,100}$`),
  'is not a repository (write owner/name)',
)
/** One repository, or with `*` all of an owner. */
export const repositoryPattern = pattern(
  new RegExp(`^${GITHUB_LOGIN}/(\\*|[A-Za-z0-9._-]{1,100})$`),
  'is not a repository (write owner/name, or owner/* for all of an owner)',
)
/** A project, perhaps with the repositories that serve it. */
export const servedProject = pattern(
  new RegExp(
    `^[A-Za-z][A-Za-z0-9_]{1,9}(:${GITHUB_LOGIN}/(\\*|[A-Za-z0-9._-]{1,100})(\\+${GITHUB_LOGIN}/(\\*|[A-Za-z0-9._-]{1,100}))*)?$`,
  ),
  'is not a Jira project key (for example DROP), nor one with its repositories (DROP:acme/shop+acme/api)',
)
export const accountId = pattern(/^[A-Za-z0-9:_.@-]{1,128}$/, 'is not a Jira account id')
export const email = pattern(/^[^\s@]+@[^\s@]+$/, 'is not an e-mail address')
export const assignees = v.union(
  [v.picklist(['me', 'any']), listOf(accountId)],
  'must be me, any, or a list of Jira account ids',
)
export const imageName = pattern(
  IMAGE_NAME,
  'is not an image name (lower-case letters, digits and hyphens, at most 41 characters)',
)

/** An object with these members and no others. Reports every unknown member; v.strictObject reports only the first. */
export const closedObject = <const Entries extends v.ObjectEntries>(entries: Entries) =>
  v.pipe(
    v.looseObject(entries, 'must be lines of "name: value"'),
    v.rawCheck(({ dataset, addIssue }) => {
      const input = dataset.value as Record<string, unknown> | null
      if (typeof input !== 'object' || input === null) return
      for (const [key, value] of Object.entries(input)) {
        if (Object.hasOwn(entries, key)) continue
        addIssue({
          message: unknownNameMessage(key, Object.keys(entries)),
          path: [{ type: 'object', origin: 'key', input, key, value }],
        })
      }
    }),
  )

/** `hostname` is a URL's, which has every IPv4 address as four numbers: 127.example.org is an ordinary name. */
export const isLoopback = (hostname: string): boolean =>
  hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d+){3}$/.test(hostname)

/** The URL of a host name or a full URL. http only on loopback, where nobody can listen in. */
const parseOrigin = (text: string): string | null => {
  try {
    const scheme = /^(?:https?:\/\/|[a-z][a-z0-9+.-]*:\/)/i.exec(text)?.[0].toLowerCase()
    // Any other scheme would be taken for a host name, and our token sent there.
    if (scheme !== undefined && !scheme.endsWith('//')) return null
    const url = new URL(scheme === undefined ? `https://${text}` : text)
    return url.protocol === 'https:' || isLoopback(url.hostname) ? url.href.replace(/\/$/, '') : null
  } catch {
    return null
  }
}
const ORIGIN_MESSAGE = 'must be a host name or an https URL (http on loopback only)'
export const originUrl = v.pipe(
  v.string(ORIGIN_MESSAGE),
  v.check(text => parseOrigin(text) !== null, ORIGIN_MESSAGE),
  // They would show in every log line with the address, and fetch refuses them.
  v.check(text => {
    const { username, password } = new URL(parseOrigin(text) ?? 'https://x')
    return username === '' && password === ''
  }, 'must not contain a user or a password'),
  v.transform(text => parseOrigin(text) ?? text),
)

// ── Messages ──

/** A value as a message shows it: short, on one line, without the password of a URL. */
export const quoteValue = (value: unknown): string => {
  const text = typeof value === 'string' ? `"${value}"` : (JSON.stringify(value) ?? String(value))
  const line = text.replaceAll(/\s+/g, ' ').replace(/\/\/[^/]*@/, '//[redacted]@')
  return line.length > 60 ? `${line.slice(0, 57)}…` : line
}

export const issuePath = ({ path }: v.BaseIssue<unknown>) => (path ?? []).map(item => item.key as PropertyKey)

/** `.size.cpus`, `[1]`. */
const pathText = (path: readonly PropertyKey[]): string =>
  path.map(key => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`)).join('')

/** An issue as a sentence. `where` says where the value stands. The value of a secret is left out. */
export const issueText = (where: string, issue: v.BaseIssue<unknown>, secret = false): string => {
  const { message, input, type } = issue
  const path = pathText(issuePath(issue))
  // After the name of a setting, or at the beginning.
  const what = `${where}${/\S$/.test(where) ? path : path.replace(/^\./, '')}`
  if (input === undefined) return `${what} is missing.`
  const value =
    secret || type === 'raw_check'
      ? ''
      : message.startsWith('must')
        ? `, not ${quoteValue(input)}`
        : `: ${quoteValue(input)}`
  return `${what} ${message}${value}${/[?.]$/.test(message) ? '' : '.'}`
}
