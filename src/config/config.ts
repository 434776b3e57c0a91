/** File, environment and flags become one frozen Config; every mistake is reported at once. The only reader of process.env. */
import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import * as v from 'valibot'
import type { KvmSettings } from '../../providers/kvm/settings.ts'
import type { ProviderName } from '../domain.ts'
import { fail } from '../errors.ts'
import { issueText, quoteValue, readYaml, unknownNameMessage } from '../schema/forms.ts'
import { type Setting, type SettingName, settings } from './settings.ts'

export type AppSettings = {
  via: 'app'
  appId: number
  privateKey: string
  webhookSecret: string
  apiUrl: string | null
}
/** A personal token, and polling: for those who cannot be reached from outside. */
export type TokenSettings = {
  via: 'token'
  token: string
  /** `owner/name` each; empty: the 20 that were pushed to last, of those that its user may push to. */
  repositories: readonly string[]
  apiUrl: string | null
}
export type JiraSettings = {
  /** Origin, `https://example.atlassian.net`. */
  url: string
  email: string
  apiToken: string
  /** Null: Jira is polled, and no webhook is taken. */
  webhookSecret: string | null
}
type Size = { cpus: number; memoryMiB: number; diskGiB: number }
export type Config = Readonly<{
  home: string
  host: string
  port: number
  logLevel: string
  /** Asked for by name; null: the first that is available. */
  provider: ProviderName | null
  baseImage: string
  size: Size
  /** The most that a repository may ask for. */
  limits: Size
  kvm: KvmSettings
  botUrl: string | null
  runnerToken: string | null
  /** How many actions a runner does at once. */
  runnerSlots: number
  projects: readonly string[]
  assignees: 'me' | 'any' | readonly string[]
  /** Jira accounts that may command on every ticket. */
  jiraCommanders: readonly string[]
  /** Between two looks at what is polled. */
  pollSeconds: number
  github: AppSettings | TokenSettings | null
  jira: JiraSettings | null
  /** What keeps `bot` and `up` from starting, each as a sentence. Empty when both sides are complete or one is left out. */
  botProblems: readonly string[]
  /** Values that may be shown nowhere. */
  secrets: readonly string[]
  /** The process's environment, for programs that we start (exec.ts lets a few names through). */
  environment: Readonly<Record<string, string | undefined>>
}>

/** Where all that is ours is kept. Nothing is read or made. */
export const homeIn = (environment: Readonly<Record<string, string | undefined>> = process.env): string =>
  environment.AGENT_SWARM_HOME || join(homedir(), '.agent-swarm')

/** The file's size at which it is refused, in characters. */
const LONGEST_FILE = 100_000

/** A value as the environment and flags give it, in the form that the file has it in. */
const fromText = (form: v.GenericSchema, given: string): unknown => {
  if (form.type === 'number') return Number.isNaN(Number(given)) ? given : Number(given)
  if (form.type !== 'array' && !(form.type === 'union' && !v.is(form, given))) return given
  return given
    .split(',')
    .map(item => item.trim())
    .filter(item => item !== '')
}

const isLines = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
/** `jiraHost` as a flag: `jira-host`. */
const kebab = (name: string) => name.replaceAll(/[A-Z]+/g, letters => `-${letters.toLowerCase()}`)

type Settings = typeof settings
type Value<Name extends SettingName> =
  | v.InferOutput<Settings[Name]['form']>
  | (Settings[Name] extends { default: unknown } ? never : null)
export type Flags = Partial<Record<SettingName, string>>

/** The file's settings are in here, whether it is there or not. */
export const fileIn = (home: string): string => join(home, 'config.yaml')

/** What the environment says of settings. */
export const settingsInEnvironment = (): Flags =>
  Object.fromEntries(
    Object.entries(settings).flatMap(([name, { env }]) => {
      const given = process.env[env]?.trim() ?? ''
      return given === '' ? [] : [[name, given]]
    }),
  )

/** A setting as somebody typed it: its value as the file has it, or what is wrong with it. */
export const parseSetting = (name: SettingName, typed: string): { value: unknown } | { problem: string } => {
  const row: Setting = settings[name]
  const parsed = v.safeParse(row.form, fromText(row.form, typed.trim()))
  if (parsed.success) return { value: parsed.output }
  const { input, message } = parsed.issues[0]
  return { problem: `${row.secret ? 'it' : quoteValue(input)} ${message}` }
}

/** The configuration if the file said this, and the environment nothing. */
export const readCandidate = (content: string): Promise<Config> => {
  const names = new Set<string>(Object.values(settings).map(({ env }) => env))
  return readConfig({}, Object.fromEntries(Object.entries(process.env).filter(([name]) => !names.has(name))), content)
}

/**
 * Reads file, environment and flags (the later wins). Throws `not-configured` with every mistake. What is missing for the
 * bot alone is kept in `botProblems`, since the CLI works without. `candidate` stands in for what the file holds.
 */
export const readConfig = async (
  flags: Flags = {},
  environment: Readonly<Record<string, string | undefined>> = process.env,
  candidate: string | null = null,
): Promise<Config> => {
  const problems: string[] = []
  const botProblems: string[] = []
  const home = environment.AGENT_SWARM_HOME || join(homedir(), '.agent-swarm')
  if (!isAbsolute(home)) problems.push(`AGENT_SWARM_HOME must be an absolute path, and is "${home}".`)
  const path = fileIn(home)
  const content = candidate ?? (existsSync(path) ? readFileSync(path, 'utf8') : null)
  const file = content === null ? null : await readYaml(content, path, LONGEST_FILE)
  problems.push(...(file?.problems ?? []))
  const inFile = new Map(isLines(file?.value) ? Object.entries(file.value) : [])
  if (file !== null && file.problems.length === 0 && !isLines(file.value))
    problems.push(`${path} must be lines of "name: value".`)
  for (const name of inFile.keys()) {
    if (!Object.hasOwn(settings, name))
      problems.push(`${file?.at([name])}: ${name} ${unknownNameMessage(name, Object.keys(settings))}`)
  }

  /** What was given, and where. A setting that stands in the file with nothing is given, and empty. */
  const given = (name: SettingName): { value: unknown; where: string } | null => {
    const { env } = settings[name]
    if (flags[name] !== undefined) return { value: flags[name], where: `--${kebab(name)}` }
    if (environment[env] !== undefined) return { value: environment[env], where: env }
    if (inFile.has(name)) return { value: inFile.get(name) ?? '', where: `${file?.at([name])}: ${name}` }
    return null
  }
  /** Its value, its default, or null. One that is given and empty is as if it were not. */
  const read = <Name extends SettingName>(name: Name): Value<Name> => {
    const row: Setting = settings[name]
    const fallback = (row.default ?? null) as Value<Name>
    const found = given(name)
    const value = typeof found?.value === 'string' ? found.value.trim() : (found?.value ?? '')
    if (found === null || value === '') return fallback
    const parsed = v.safeParse(row.form, typeof value === 'string' ? fromText(row.form, value) : value)
    if (parsed.success) return parsed.output as Value<Name>
    for (const issue of parsed.issues) problems.push(issueText(found.where, issue, row.secret))
    return fallback
  }

  const projects = (read('jiraProjects') ?? []).map(key => key.toUpperCase())

  const github = readGitHub()
  const jira = readJira()
  if (github === null && jira === null && botProblems.length === 0) {
    botProblems.push(
      'Neither GitHub nor Jira is configured. GitHub needs APP_ID, PRIVATE_KEY (or PRIVATE_KEY_PATH) and WEBHOOK_SECRET, or a ' +
        'GITHUB_TOKEN; Jira needs JIRA_HOST, JIRA_EMAIL, JIRA_API_TOKEN and JIRA_PROJECTS, and JIRA_WEBHOOK_SECRET for its webhook.',
    )
  }
  if ((github !== null || jira !== null) && projects.length === 0) {
    botProblems.push(
      'JIRA_PROJECTS is missing: name the project keys whose tickets get machines, as in JIRA_PROJECTS=DROP,WEB.',
    )
  }

  function readGitHub(): Config['github'] {
    const apiUrl = read('githubApiUrl')
    // An App that is begun counts, complete or not: a token does not stand in for what it lacks.
    const names = ['appId', 'privateKey', 'privateKeyPath', 'webhookSecret'] as const
    if (names.some(name => given(name) !== null)) return readApp(apiUrl)
    if (given('githubToken') === null) return null
    const token = read('githubToken')
    if (token === null) botProblems.push('GitHub: GITHUB_TOKEN is empty. Give it a token, or take it away.')
    const repositories = read('githubRepositories') ?? []
    return token === null ? null : { via: 'token', token, repositories, apiUrl }
  }

  function readApp(apiUrl: string | null): AppSettings | null {
    const appId = read('appId')
    if (appId === null) botProblems.push("GitHub: APP_ID is missing; it stands on the App's settings page.")
    const webhookSecret = read('webhookSecret')
    if (webhookSecret === null) {
      botProblems.push(
        "GitHub: WEBHOOK_SECRET is missing or empty; without it anybody could send events. Set the same one in the App's settings.",
      )
    }
    const path = read('privateKeyPath')
    let privateKey = read('privateKey')?.replaceAll('\\n', '\n') ?? null
    if (privateKey === null && path !== null) {
      try {
        privateKey = readFileSync(path, 'utf8')
      } catch (error) {
        botProblems.push(
          `GitHub: PRIVATE_KEY_PATH ${path} cannot be read: ${error instanceof Error ? error.message : error}`,
        )
      }
    } else if (privateKey === null) {
      botProblems.push("GitHub: PRIVATE_KEY or PRIVATE_KEY_PATH is missing; make a key on the App's settings page.")
    }
    // As Probot takes it: in one line, base64 of the whole.
    const decoded = privateKey === null ? '' : Buffer.from(privateKey, 'base64').toString('utf8')
    if (decoded.startsWith('-----BEGIN')) privateKey = decoded
    if (privateKey !== null && !privateKey.includes('PRIVATE KEY-----')) {
      botProblems.push('GitHub: PRIVATE_KEY is no PEM private key (it starts with "-----BEGIN").')
    }
    return webhookSecret === null || privateKey === null || appId === null
      ? null
      : { via: 'app', appId, privateKey, webhookSecret, apiUrl }
  }

  function readJira(): JiraSettings | null {
    const names = ['jiraHost', 'jiraEmail', 'jiraApiToken', 'jiraWebhookSecret'] as const
    if (names.every(name => given(name) === null)) return null
    for (const name of ['jiraHost', 'jiraEmail', 'jiraApiToken'] as const) {
      if (read(name) === null) botProblems.push(`Jira: ${settings[name].env} is missing or empty.`)
    }
    if (given('jiraWebhookSecret') !== null && read('jiraWebhookSecret') === null) {
      botProblems.push(
        'Jira: JIRA_WEBHOOK_SECRET is empty; anybody could send events. Set the same one on the webhook in Jira, or take it away: then Jira is polled.',
      )
    }
    const url = read('jiraHost')
    const [email, apiToken, webhookSecret] = [read('jiraEmail'), read('jiraApiToken'), read('jiraWebhookSecret')]
    return url === null || email === null || apiToken === null ? null : { url, email, apiToken, webhookSecret }
  }

  const size = { cpus: read('cpus'), memoryMiB: read('memoryMiB'), diskGiB: read('diskGiB') }
  const config: Config = {
    home,
    host: read('host'),
    port: read('port'),
    logLevel: read('logLevel'),
    provider: read('provider'),
    baseImage: read('baseImage'),
    size,
    limits: {
      cpus: read('maxCpus') ?? size.cpus,
      memoryMiB: read('maxMemoryMiB') ?? size.memoryMiB,
      diskGiB: read('maxDiskGiB') ?? size.diskGiB,
    },
    kvm: {
      uri: read('kvmUri'),
      domainType: read('kvmDomainType'),
      firmware: read('kvmFirmware'),
      pool: read('kvmPool'),
      network: read('kvmNetwork'),
    },
    botUrl: read('botUrl'),
    runnerToken: read('runnerToken'),
    runnerSlots: read('runnerSlots'),
    projects,
    pollSeconds: read('pollSeconds'),
    assignees: read('jiraAssignees'),
    jiraCommanders: read('jiraCommanders') ?? [],
    github,
    jira,
    botProblems,
    secrets: [
      ...(github?.via === 'app' ? [github.privateKey, github.webhookSecret] : [github?.token]),
      jira?.apiToken,
      jira?.webhookSecret,
      read('runnerToken'),
    ].filter(secret => typeof secret === 'string'),
    environment,
  }
  if (problems.length > 0)
    throw fail(
      'not-configured',
      `reading the configuration:\n${[...new Set(problems)].map(problem => `  - ${problem}`).join('\n')}`,
    )
  return Object.freeze(config)
}
