/**
 * The answers of `agent-swarm init`. A flag wins over the file, and the file over the environment, so that a run without flags
 * changes nothing. A secret is never an argument, which other users of the host could read: it comes from its environment
 * variable or from a file that a flag names (`-` is standard input).
 */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { type Config, readCandidate, settingsInEnvironment } from '../../config/config.ts'
import { type Changes, type ConfigFile, readConfigFile, withChanges, writeConfigFile } from '../../config/file.ts'
import { type Setting, type SettingName, settings } from '../../config/settings.ts'
import { parseSetting } from '../../config/values.ts'
import { fail } from '../../errors.ts'
import type { Invocation } from '../terminal/output.ts'
import { type AnswerName, answerNames, questions } from './questions.ts'

export type Answers = {
  home: string
  /** As it was read or written last. */
  file: ConfigFile
  /** Whether init has written something already. */
  written: boolean
  flags: ReadonlyMap<AnswerName, unknown>
  environment: ReadonlyMap<AnswerName, unknown>
  values: Map<AnswerName, unknown>
}

const equal = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b)
export const textOf = (value: unknown): string => (Array.isArray(value) ? value.join(', ') : String(value ?? ''))
export const isSecret = (name: SettingName): boolean => (settings[name] as Setting).secret === true

/** `drop:acme/shop` as `DROP:acme/shop`. */
const withKeyInCapitals = (entry: string) => entry.replace(/^[^:]+/, key => key.toUpperCase())

/** `source` begins the message of a failure. */
export const parseAnswer = (name: AnswerName, text: string, source: string): unknown => {
  const answer = parseSetting(name, text)
  if ('problem' in answer) throw fail('usage', `${source}: ${answer.problem}`)
  // The bot may be started in another folder.
  if (name === 'privateKeyPath') return resolve(String(answer.value))
  return name === 'jiraProjects' ? (answer.value as string[]).map(withKeyInCapitals) : answer.value
}

const answerInFlags = (name: AnswerName, flags: Invocation['flags']): unknown => {
  const { flag = '' } = questions[name]
  const value = flags[flag]
  if (typeof value !== 'string') return undefined
  if (!isSecret(name)) return parseAnswer(name, value, `--${flag}`)
  try {
    return parseAnswer(name, readFileSync(value === '-' ? process.stdin.fd : value, 'utf8'), `--${flag} ${value}`)
  } catch (error) {
    throw fail('usage', `--${flag}: ${error instanceof Error ? error.message : error}`)
  }
}

/** Throws `not-configured` when the existing file has errors. */
export const openAnswers = async (home: string, flags: Invocation['flags']): Promise<Answers> => {
  const file = await readConfigFile(home)
  if (file.content !== null) await readCandidate(file.content)
  const typed = settingsInEnvironment()
  const collect = (read: (name: AnswerName) => unknown) =>
    new Map(answerNames.map(name => [name, read(name)] as const).filter(([, value]) => value !== undefined))
  const inFlags = collect(name => answerInFlags(name, flags))
  const environment = collect(name => {
    const text = typed[name]
    return text === undefined ? undefined : parseAnswer(name, text, settings[name].env)
  })
  const values = collect(name => inFlags.get(name) ?? file.values[name] ?? environment.get(name))
  return { home, file, written: false, flags: inFlags, environment, values }
}

export const forget = ({ values }: Answers, names: readonly AnswerName[]) => {
  for (const name of names) values.delete(name)
}
export const apiUrlOf = ({ values }: Answers) => (values.get('githubApiUrl') as string | undefined) ?? null

/** Whether an answer is required that nobody has given. */
export const isMissing = ({ values }: Answers, name: AnswerName): boolean => {
  const { question, empty, unless = name } = questions[name]
  return question !== undefined && empty === undefined && !values.has(name) && !values.has(unless)
}
/** How to give an answer without a terminal. */
export const howToGive = (name: AnswerName): string =>
  `Set ${settings[name].env}, or give --${questions[name].flag}${isSecret(name) ? ' FILE' : ''}.`

/** What differs from the file; null removes a setting. */
export const changesOf = ({ values, file }: Answers, names: readonly AnswerName[] = answerNames): Changes =>
  new Map<SettingName, unknown>(
    names
      .filter(name => !equal(file.values[name], values.get(name)))
      .map(name => [name, values.get(name) ?? null] as const),
  )
/** One line per change. */
export const describeChanges = (answers: Answers): string[] =>
  [...changesOf(answers)].map(([name, value]) => {
    const before = answers.file.values[name]
    if (value === null) return `- ${name}`
    const after = isSecret(name) ? '(hidden)' : textOf(value)
    if (before === undefined) return `+ ${name}: ${after}`
    return `~ ${name}: ${isSecret(name) ? '' : `${textOf(before)} -> `}${after}`
  })

/** Environment variables that win over the file and differ from the answer. */
export const overridesOf = ({ environment, values }: Answers): string[] =>
  [...environment].filter(([name, value]) => !equal(value, values.get(name))).map(([name]) => settings[name].env)

/** The configuration, as if the answers were written. */
export const candidateOf = async (answers: Answers): Promise<Config> =>
  readCandidate(await withChanges(answers.file, changesOf(answers)))

export const writeAnswers = async (answers: Answers, names?: readonly AnswerName[]): Promise<void> => {
  writeConfigFile(answers.file, await withChanges(answers.file, changesOf(answers, names)))
  answers.file = await readConfigFile(answers.home)
  answers.written = true
}
