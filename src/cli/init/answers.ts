/**
 * The answers of a set-up. What a flag says counts before the file, and the file before the environment, so that a run
 * without flags changes nothing that was set. A secret is never an argument, which other users of the machine could read: it
 * comes from its environment variable, or from a file that a flag names (`-` is standard input).
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { type Config, parseSetting, readCandidate, settingsInEnvironment } from '../../config/config.ts'
import { type Changes, readConfigFile, withChanges, writeConfigFile } from '../../config/file.ts'
import { type Setting, type SettingName, settings } from '../../config/settings.ts'
import { fail } from '../../errors.ts'
import type { Invocation } from '../terminal/output.ts'
import type { Ask } from '../terminal/prompt.ts'

export const APP = ['appId', 'privateKey', 'privateKeyPath', 'webhookSecret'] as const
export const TOKEN = ['githubToken', 'githubRepositories'] as const
export const JIRA = ['jiraHost', 'jiraEmail', 'jiraApiToken', 'jiraWebhookSecret', 'jiraAssignees'] as const
const ASKED = [...APP, ...TOKEN, ...JIRA, 'githubApiUrl', 'jiraProjects', 'provider'] as const
export type Asked = (typeof ASKED)[number]

/** Flags whose value is the answer. */
const answerFlags = {
  'app-id': 'appId',
  'private-key-file': 'privateKeyPath',
  'github-repositories': 'githubRepositories',
  'github-api-url': 'githubApiUrl',
  'jira-host': 'jiraHost',
  'jira-email': 'jiraEmail',
  'jira-projects': 'jiraProjects',
  'jira-assignees': 'jiraAssignees',
  provider: 'provider',
} as const satisfies Record<string, Asked>
/** Flags that name the file that holds the answer. */
const fileFlags = {
  'github-token-file': 'githubToken',
  'webhook-secret-file': 'webhookSecret',
  'jira-token-file': 'jiraApiToken',
  'jira-webhook-secret-file': 'jiraWebhookSecret',
} as const satisfies Record<string, Asked>

const row = (name: Asked): Setting => settings[name]
const same = (one: unknown, other: unknown) => JSON.stringify(one) === JSON.stringify(other)
const asTyped = (value: unknown): string =>
  Array.isArray(value) ? value.join(', ') : value === undefined ? '' : String(value)
const shown = (name: Asked, value: unknown): string => (row(name).secret ? '(hidden)' : asTyped(value))

const parsed = (name: Asked, text: string, from: string): unknown => {
  const answer = parseSetting(name, text)
  if ('problem' in answer) throw fail('usage', `${from}: ${answer.problem}`)
  // The bot may be started in another folder.
  if (name === 'privateKeyPath') return resolve(String(answer.value))
  if (name === 'jiraProjects' && Array.isArray(answer.value)) return answer.value.map(key => String(key).toUpperCase())
  return answer.value
}
const contentOf = (path: string, flag: string): string => {
  try {
    return readFileSync(path === '-' ? process.stdin.fd : path, 'utf8')
  } catch (error) {
    throw fail('usage', `--${flag}: ${error instanceof Error ? error.message : error}`)
  }
}

const inFlags = (flags: Invocation['flags']): Map<Asked, unknown> => {
  const answers = new Map<Asked, unknown>()
  for (const [flag, name] of Object.entries(answerFlags)) {
    const given = flags[flag]
    if (typeof given === 'string') answers.set(name, parsed(name, given, `--${flag}`))
  }
  for (const [flag, name] of Object.entries(fileFlags)) {
    const path = flags[flag]
    if (typeof path === 'string') answers.set(name, parsed(name, contentOf(path, flag), `--${flag} ${path}`))
  }
  return answers
}

/** How an answer is given without being asked for. */
export const howToGive = (name: Asked): string => {
  const flag = Object.entries({ ...answerFlags, ...fileFlags }).find(([, one]) => one === name)?.[0]
  return `Set ${row(name).env}, or give --${flag}${row(name).secret ? ' FILE' : ''}.`
}

type Question = {
  question: string
  /** Where the answer is found. */
  where: string
  /** It was answered, and what was answered is wrong: it is asked for whatever the flags say. */
  again: boolean
}

export type Answers = Awaited<ReturnType<typeof openAnswers>>

/** Throws `not-configured` when the file that is there is wrong, before anything is asked. */
export const openAnswers = async (home: string, flags: Invocation['flags'], ask: Ask | null) => {
  let file = await readConfigFile(home)
  let begun = false
  if (file.content !== null) await readCandidate(file.content)
  const flagged = inFlags(flags)
  const typed = settingsInEnvironment()
  const environment = new Map(
    ASKED.flatMap(name => {
      const text = typed[name]
      return text === undefined ? [] : [[name, parsed(name, text, row(name).env)] as const]
    }),
  )
  const all = new Map<Asked, unknown>()
  for (const name of ASKED) {
    if (flagged.has(name)) all.set(name, flagged.get(name))
    else if (file.values[name] !== undefined) all.set(name, file.values[name])
    else if (environment.has(name)) all.set(name, environment.get(name))
  }

  const changes = (of: readonly Asked[] = ASKED): Changes => {
    const found = new Map<SettingName, unknown>()
    for (const name of of) {
      const [before, after] = [file.values[name], all.get(name)]
      if (after === undefined && before !== undefined) found.set(name, null)
      else if (after !== undefined && !same(before, after)) found.set(name, after)
    }
    return found
  }
  const content = () => withChanges(file, changes())
  /** Where the present answer is from. */
  const whence = (name: Asked): string => {
    if (same(all.get(name), file.values[name])) return 'in config.yaml'
    return same(all.get(name), environment.get(name)) ? `in ${row(name).env}` : 'that was given before'
  }
  const isSettled = (name: Asked, again: boolean) => ask === null || (flagged.has(name) && !again)

  return {
    path: file.path,
    isNew: () => file.content === null,
    /** Something of this set-up is in the file already. */
    isBegun: () => begun,
    has: (name: Asked): boolean => all.has(name),
    get: (name: Asked): unknown => all.get(name),
    set: (name: Asked, value: unknown) => void all.set(name, value),
    forget: (names: readonly Asked[]) => {
      for (const name of names) all.delete(name)
    },
    isFlagged: (name: Asked): boolean => flagged.has(name),

    /** Asks where somebody is there. Nothing typed is no answer, which only some questions take. */
    text: async (
      name: Asked,
      { question, where, again, optional = false, likely = '' }: Question & { optional?: boolean; likely?: string },
    ) => {
      if (ask === null || isSettled(name, again)) return
      const typed = await ask.text(question, where, all.has(name) ? asTyped(all.get(name)) : likely, one => {
        if (one.trim() === '') return optional ? undefined : 'An answer is needed.'
        const answer = parseSetting(name, one)
        return 'problem' in answer ? answer.problem : undefined
      })
      if (typed === '') all.delete(name)
      else all.set(name, parsed(name, typed, question))
    },
    /** The same, hidden. With `made`, no answer makes a new one. */
    secret: async (name: Asked, { question, where, again, made = false }: Question & { made?: boolean }) => {
      const known = all.has(name)
      let typed = ''
      if (ask !== null && !isSettled(name, again)) {
        const enter = known ? `\nEnter keeps the one ${whence(name)}.` : made ? '\nEnter makes one.' : ''
        typed = await ask.secret(question, `${where}${enter}`, one =>
          one.trim() === '' && !known && !made ? 'An answer is needed.' : undefined,
        )
      }
      if (typed !== '') all.set(name, typed)
      else if (!known && made) all.set(name, randomBytes(32).toString('hex'))
    },
    /** One of these, as `--flag` says or somebody answers; otherwise `first`. */
    choose: async <T extends string>(
      flag: string,
      question: string,
      choices: readonly { value: T; label: string; hint?: string }[],
      first: T,
    ): Promise<T> => {
      const given = choices.find(({ value }) => value === flags[flag])?.value
      return given ?? (ask === null ? first : ask.choose(question, choices, first))
    },

    /** The configuration, if it were written now. */
    candidate: async (): Promise<Config> => readCandidate(await content()),
    changes,
    /** One line a change. */
    shownChanges: (): string[] =>
      [...changes()].map(([setting, value]) => {
        const name = setting as Asked
        const before = file.values[name]
        if (value === null) return `- ${name}`
        const from = before === undefined || row(name).secret ? '' : `${shown(name, before)} -> `
        return `${before === undefined ? '+' : '~'} ${name}: ${from}${shown(name, value)}`
      }),
    /** Environment variables that say something else: they count before the file. */
    overruled: (): string[] =>
      [...environment].filter(([name, value]) => !same(value, all.get(name))).map(([name]) => row(name).env),
    /** Writes these answers (all, where none are named). */
    write: async (of: readonly Asked[] = ASKED) => {
      writeConfigFile(file, await withChanges(file, changes(of)))
      file = await readConfigFile(home)
      begun = true
    },
  }
}
