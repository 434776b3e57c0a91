/** The value of one setting, out of flags, environment and file: the first that has it wins. */
import * as v from 'valibot'
import { issueText, quoteValue, type Setting, type SettingValues, unknownNameMessage } from '../schema/forms.ts'
import { MAX_CONFIG_FILE } from './home.ts'
import { type GeneralValues, type SettingName, settings } from './settings.ts'

export type Flags = Partial<Record<SettingName, string>>
export type Environment = Readonly<Record<string, string | undefined>>

export type Values = {
  /** Whether it is given anywhere, perhaps empty. */
  isGiven(name: SettingName): boolean
  /** Its value. When it is missing, empty or wrong: its default, or null. */
  read<Name extends SettingName>(name: Name): GeneralValues[Name]
  /** The values of a table of settings. */
  readAll<Rows extends Readonly<Record<string, Setting>>>(rows: Rows): SettingValues<Rows>
  /** Whether the file gives it a value. */
  isInFile(name: string): boolean
  /** What is wrong, one sentence each; grows as values are read. */
  problems: string[]
  /** What the operator should know, one sentence each. */
  notices: string[]
}

/** Text of the environment or of a flag, in the form that the file has it in. */
const fromText = (form: v.GenericSchema, text: string): unknown => {
  if (form.type === 'number') return Number.isNaN(Number(text)) ? text : Number(text)
  if (form.type !== 'array' && !(form.type === 'union' && !v.is(form, text))) return text
  return text
    .split(',')
    .map(item => item.trim())
    .filter(item => item !== '')
}

/** Parses a setting that somebody typed: its value as the file has it, or what is wrong with it. */
export const parseSetting = (name: SettingName, typed: string): { value: unknown } | { problem: string } => {
  const row: Setting = settings[name]
  const parsed = v.safeParse(row.form, fromText(row.form, typed.trim()))
  if (parsed.success) return { value: parsed.output }
  const { input, message } = parsed.issues[0]
  return { problem: `${row.secret ? 'the value' : quoteValue(input)} ${message}` }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The settings in the file, with its problems and the place of each name. */
const readLines = async (path: string, content: string | null) => {
  if (content === null) return { lines: new Map<string, unknown>(), problems: [], whereIs: () => path }
  const { readYaml } = await import('../schema/yaml.ts')
  const { value, problems, at } = await readYaml(content, path, MAX_CONFIG_FILE)
  const whereIs = (name: string) => `${at([name])}: ${name}`
  if (problems.length > 0) return { lines: new Map<string, unknown>(), problems, whereIs }
  if (!isObject(value))
    return { lines: new Map<string, unknown>(), problems: [`${path} must be lines of "name: value".`], whereIs }
  const unknown = Object.keys(value).filter(name => !Object.hasOwn(settings, name))
  return {
    lines: new Map(Object.entries(value)),
    problems: unknown.map(name => `${whereIs(name)} ${unknownNameMessage(name, Object.keys(settings))}`),
    whereIs,
  }
}

/** `jiraHost` as a flag: `jira-host`. */
const kebab = (name: string) => name.replaceAll(/[A-Z]+/g, letters => `-${letters.toLowerCase()}`)

/** `file`: its path, and its content or null where there is none. */
export const openValues = async (
  flags: Flags,
  environment: Environment,
  file: { path: string; content: string | null },
): Promise<Values> => {
  const { lines, problems, whereIs } = await readLines(file.path, file.content)
  const given = (name: string, { env }: Setting): { value: unknown; where: string } | null => {
    const flag = flags[name as SettingName]
    if (flag !== undefined) return { value: flag, where: `--${kebab(name)}` }
    if (env !== null && environment[env] !== undefined) return { value: environment[env], where: env }
    // A line without a value is given, and empty.
    return lines.has(name) ? { value: lines.get(name) ?? '', where: whereIs(name) } : null
  }
  const read = (name: string, row: Setting): unknown => {
    const entry = given(name, row)
    const value = typeof entry?.value === 'string' ? entry.value.trim() : (entry?.value ?? '')
    const fallback = row.default ?? null
    if (entry === null || value === '') return fallback
    const parsed = v.safeParse(row.form, typeof value === 'string' ? fromText(row.form, value) : value)
    if (parsed.success) return parsed.output
    for (const issue of parsed.issues) problems.push(issueText(entry.where, issue, row.secret))
    return fallback
  }
  return {
    isInFile: name => (lines.get(name) ?? '') !== '',
    isGiven: name => given(name, settings[name]) !== null,
    // The row's form makes the value of its type.
    read: <Name extends SettingName>(name: Name) => read(name, settings[name]) as GeneralValues[Name],
    readAll: <Rows extends Readonly<Record<string, Setting>>>(rows: Rows) =>
      Object.fromEntries(Object.entries(rows).map(([name, row]) => [name, read(name, row)])) as SettingValues<Rows>,
    problems,
    notices: [],
  }
}
