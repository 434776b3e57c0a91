/**
 * What the schemas of our files are built of, and how a mistake in a file is said: where, what is wrong, how it is written.
 * A file is hostile until parsed: of a limited size, without aliases, tags and unknown names.
 */
import * as v from 'valibot'
import { nearest } from '../nearest.ts'

/** What is said of a name that is not in `known`. */
export const unknownNameMessage = (name: string, known: readonly string[]): string => {
  const near = nearest(name, known)
  return `is no setting; ${near === null ? `there are ${known.join(', ')}` : `did you mean ${near}?`}`
}

// ── Forms: each says itself what it must be ──

export const integer = (min: number, max: number) => {
  const must = `must be a whole number from ${min} to ${max}`
  return v.pipe(v.number(must), v.integer(must), v.minValue(min, must), v.maxValue(max, must))
}
export const oneOf = <const T extends readonly [string, ...string[]]>(...members: T) =>
  v.picklist(members, `must be one of ${members.join(', ')}`)
export const text = v.pipe(
  v.string('must be text, in quotes when it looks like a number'),
  v.maxLength(20_000, 'is too long'),
)
export const pattern = (pattern: RegExp, must: string) => v.pipe(v.string(must), v.regex(pattern, must))
export const listOf = <const Item extends v.GenericSchema<string>>(item: Item) =>
  v.pipe(v.array(item, 'must be a list'), v.maxLength(100, 'has more than 100 members'))

export const projectKey = pattern(/^[A-Za-z][A-Za-z0-9_]{1,9}$/, 'is no project key of Jira, as DROP')
/** Of a user or an organisation on GitHub. An underscore is in the logins that a company gives its own (Enterprise Managed Users). */
export const GITHUB_LOGIN = '[A-Za-z0-9][A-Za-z0-9_-]{0,38}'
export const repositoryName = pattern(
  new RegExp(`^${GITHUB_LOGIN}/[A-Za-z0-9._-]{1,100}$`),
  'is no repository, which is written owner/name',
)
export const accountId = pattern(/^[A-Za-z0-9:_.@-]{1,128}$/, 'is no account id of Jira')
export const email = pattern(/^[^\s@]+@[^\s@]+$/, 'is no e-mail address, as me@example.org')
export const assignees = v.union(
  [v.picklist(['me', 'any']), listOf(accountId)],
  'must be me, any, or a list of account ids of Jira',
)
export const imageName = pattern(
  /^[a-z0-9][a-z0-9-]{0,40}$/,
  'is no name of an image: small letters, digits and hyphens, at most 41',
)

/** An object with these names and no others. Each that is unknown is told: v.strictObject tells the first alone. */
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

/** Of a URL, which writes every IPv4 address as four numbers: 127.example.org is a name like any other. */
export const isLoopback = (hostname: string): boolean =>
  hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d+){3}$/.test(hostname)

/** An origin out of a name or a full URL; http only on loopback, where no one can listen in. */
const originOf = (text: string): string | null => {
  try {
    const scheme = /^(?:https?:\/\/|[a-z][a-z0-9+.-]*:\/)/i.exec(text)?.[0].toLowerCase()
    // Another one would be taken for the name of a host, and get our token.
    if (scheme !== undefined && !scheme.endsWith('//')) return null
    const url = new URL(scheme === undefined ? `https://${text}` : text)
    return url.protocol === 'https:' || isLoopback(url.hostname) ? url.href.replace(/\/$/, '') : null
  } catch {
    return null
  }
}
const ADDRESS = 'must be a host name or an https URL (http on loopback only)'
export const originUrl = v.pipe(
  v.string(ADDRESS),
  v.check(text => originOf(text) !== null, ADDRESS),
  // They would stand in each line that names the address, and no request may have them.
  v.check(text => {
    const { username, password } = new URL(originOf(text) ?? 'https://x')
    return username === '' && password === ''
  }, 'must have no user and no password'),
  v.transform(text => originOf(text) ?? text),
)

// ── Files ──

const MOST_PROBLEMS = 20
const atMost = (problems: string[]): string[] =>
  problems.length <= MOST_PROBLEMS
    ? problems
    : [...problems.slice(0, MOST_PROBLEMS), `There are ${problems.length - MOST_PROBLEMS} more.`]

export type YamlFile = {
  /** Undefined where it cannot be read at all. */
  value: unknown
  problems: string[]
  /** `name:line`, of a value inside. */
  at(path: readonly PropertyKey[]): string
}

/** `name` is how the file is called in what is said of it; `limit` is in characters. */
export const readYaml = async (content: string, name: string, limit: number): Promise<YamlFile> => {
  if (content.length > limit)
    return { value: undefined, problems: [`${name} is larger than ${limit} characters.`], at: () => name }
  const { LineCounter, parseDocument } = await import('yaml')
  const counter = new LineCounter()
  const line = (offset: number | undefined) => (offset === undefined ? name : `${name}:${counter.linePos(offset).line}`)
  try {
    const document = parseDocument(content, {
      lineCounter: counter,
      prettyErrors: false,
      stringKeys: true,
      version: '1.2',
    })
    const wrong = [...document.errors, ...document.warnings].map(one => `${line(one.pos[0])}: ${one.message}`)
    if (wrong.length > 0) return { value: undefined, problems: atMost(wrong), at: () => name }
    return {
      // An alias may stand for an alias, and ten lines for a billion values.
      value: document.toJS({ maxAliasCount: 0 }) ?? {},
      problems: [],
      at: path => {
        for (let length = path.length; length > 0; length -= 1) {
          const node = document.getIn(path.slice(0, length), true)
          if (typeof node === 'object' && node !== null && 'range' in node && Array.isArray(node.range))
            return line(node.range[0])
        }
        return name
      },
    }
  } catch (error) {
    const why = /alias/i.test(String(error))
      ? 'aliases (&name, *name) are not taken: write the value out'
      : 'it is nested too deep'
    return { value: undefined, problems: [`${name}: ${why}.`], at: () => name }
  }
}

/** A value as it is shown in a message: short, on one line. */
export const quoteValue = (value: unknown): string => {
  const text = typeof value === 'string' ? `"${value}"` : (JSON.stringify(value) ?? String(value))
  const line = text.replaceAll(/\s+/g, ' ').replace(/\/\/[^/]*@/, '//[redacted]@')
  return line.length > 60 ? `${line.slice(0, 57)}…` : line
}

/** `size.cpus`, `projects[1]`. */
const pathOf = (path: readonly PropertyKey[]): string =>
  path
    .map(key => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`))
    .join('')
    .replace(/^\./, '')

const pathIn = ({ path }: v.BaseIssue<unknown>) => (path ?? []).map(item => item.key as PropertyKey)

/** What is wrong with the value of `where`. A secret is not shown. */
export const issueText = (where: string, issue: v.BaseIssue<unknown>, secret = false): string => {
  const { message, input, type } = issue
  const value =
    secret || type === 'raw_check'
      ? ''
      : message.startsWith('must')
        ? `, and is ${quoteValue(input)}`
        : `: ${quoteValue(input)}`
  return `${where}${pathOf(pathIn(issue))} ${message}${value}${/[?.]$/.test(message) ? '' : '.'}`
}
/** Every issue of a file's value as a sentence: `name:line: path must be …, and is ….` */
export const problemsOf = (file: YamlFile, issues: readonly v.BaseIssue<unknown>[]): string[] =>
  atMost(issues.map(issue => issueText(`${file.at(pathIn(issue))}: `, issue)))
