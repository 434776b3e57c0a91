/** File, environment and flags become one frozen Config; every mistake is reported at once. The only reader of process.env. */
import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import type { KvmSettings } from '../providers/kvm/settings.ts'
import type { ProviderName } from './domain.ts'
import { fail } from './errors.ts'

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
export type Config = Readonly<{
  home: string
  host: string
  port: number
  logLevel: string
  /** Asked for by name; null: the first that is available. */
  provider: ProviderName | null
  baseImage: string
  size: { cpus: number; memoryMiB: number; diskGiB: number }
  kvm: KvmSettings
  botUrl: string | null
  runnerToken: string | null
  /** How many actions a runner does at once. */
  runnerSlots: number
  projects: readonly string[]
  assignees: 'me' | 'any' | readonly string[]
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

/** One row a setting: its key in config.yaml and its environment variable. */
const settings = {
  appId: 'APP_ID',
  privateKey: 'PRIVATE_KEY',
  privateKeyPath: 'PRIVATE_KEY_PATH',
  webhookSecret: 'WEBHOOK_SECRET',
  githubToken: 'GITHUB_TOKEN',
  githubRepositories: 'GITHUB_REPOSITORIES',
  githubApiUrl: 'GITHUB_API_URL',
  jiraHost: 'JIRA_HOST',
  jiraEmail: 'JIRA_EMAIL',
  jiraApiToken: 'JIRA_API_TOKEN',
  jiraProjects: 'JIRA_PROJECTS',
  jiraWebhookSecret: 'JIRA_WEBHOOK_SECRET',
  jiraAssignees: 'JIRA_ASSIGNEES',
  pollSeconds: 'AGENT_SWARM_POLL_SECONDS',
  host: 'HOST',
  port: 'PORT',
  logLevel: 'LOG_LEVEL',
  provider: 'AGENT_SWARM_PROVIDER',
  botUrl: 'AGENT_SWARM_BOT_URL',
  runnerToken: 'AGENT_SWARM_RUNNER_TOKEN',
  runnerSlots: 'AGENT_SWARM_RUNNER_SLOTS',
  baseImage: 'AGENT_SWARM_BASE_IMAGE',
  cpus: 'AGENT_SWARM_CPUS',
  memoryMiB: 'AGENT_SWARM_MEMORY_MIB',
  diskGiB: 'AGENT_SWARM_DISK_GIB',
  kvmUri: 'AGENT_SWARM_KVM_URI',
  kvmDomainType: 'AGENT_SWARM_KVM_DOMAIN_TYPE',
  kvmPool: 'AGENT_SWARM_KVM_POOL',
  kvmNetwork: 'AGENT_SWARM_KVM_NETWORK',
} as const
type Setting = keyof typeof settings

const PROVIDERS: readonly ProviderName[] = ['kvm', 'tart', 'hyperv', 'aws', 'synthetic']
const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']
const REPOSITORY = /^[A-Za-z0-9][A-Za-z0-9-]{0,38}\/[A-Za-z0-9._-]{1,100}$/
const PROJECT = /^[A-Z][A-Z0-9_]{1,9}$/

/** Values from config.yaml by setting. Only a file that exists costs the parser's import. */
const readFile = async (path: string, problems: string[]): Promise<Record<string, string>> => {
  if (!existsSync(path)) return {}
  const { parse } = await import('yaml')
  try {
    const parsed: unknown = parse(readFileSync(path, 'utf8'))
    if (parsed === null || parsed === undefined) return {}
    if (typeof parsed !== 'object' || Array.isArray(parsed)) throw new Error('it must be a list of "name: value"')
    const known = new Set<string>(Object.keys(settings))
    return Object.fromEntries(
      Object.entries(parsed).flatMap(([key, value]) => {
        if (!known.has(key)) problems.push(`${path}: unknown setting "${key}"; known are ${[...known].join(', ')}.`)
        return known.has(key) && value !== null ? [[key, Array.isArray(value) ? value.join(',') : String(value)]] : []
      }),
    )
  } catch (error) {
    problems.push(`${path}: ${error instanceof Error ? error.message : error}`)
    return {}
  }
}

const loopback = (hostname: string) => hostname === 'localhost' || hostname === '[::1]' || /^127\./.test(hostname)

/** An origin out of a name or a full URL; http only on loopback, where no one can listen in. */
const originOf = (text: string): string | null => {
  try {
    const url = new URL(/^https?:\/\//.test(text) ? text : `https://${text}`)
    return url.protocol === 'https:' || loopback(url.hostname) ? url.href.replace(/\/$/, '') : null
  } catch {
    return null
  }
}

/** Where all that is ours is kept. Nothing is read or made. */
export const homeIn = (environment: Readonly<Record<string, string | undefined>> = process.env): string =>
  environment.AGENT_SWARM_HOME || join(homedir(), '.agent-swarm')

export type Flags = Partial<Record<Setting, string>>

/**
 * Reads file, environment and flags (the later wins). Throws `not-configured` with every mistake. What is missing for the
 * bot alone is kept in `botProblems`, since the CLI works without.
 */
export const readConfig = async (
  flags: Flags = {},
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Promise<Config> => {
  const problems: string[] = []
  const botProblems: string[] = []
  const home = homeIn(environment)
  if (!isAbsolute(home)) problems.push(`AGENT_SWARM_HOME must be an absolute path, and is "${home}".`)
  const file = await readFile(join(home, 'config.yaml'), problems)
  const value = (name: Setting): string | undefined => flags[name] ?? environment[settings[name]] ?? file[name]
  /** Present and not empty. */
  const text = (name: Setting): string | null => value(name)?.trim() || null
  const number = (name: Setting, fallback: number, min: number, max: number): number => {
    const given = text(name)
    if (given === null) return fallback
    const parsed = Number(given)
    if (!Number.isInteger(parsed) || parsed < min || parsed > max) {
      problems.push(`${settings[name]} must be a whole number from ${min} to ${max}, and is "${given}".`)
      return fallback
    }
    return parsed
  }
  const oneOf = <T extends string>(name: Setting, members: readonly T[]): T | null => {
    const given = text(name)
    if (given === null) return null
    const found = members.find(member => member === given)
    if (found === undefined) problems.push(`${settings[name]} must be one of ${members.join(', ')}, and is "${given}".`)
    return found ?? null
  }
  const list = (name: Setting) => (text(name) ?? '').split(',').flatMap(item => item.trim() || [])

  const projects = list('jiraProjects').map(key => key.toUpperCase())
  for (const key of projects) if (!PROJECT.test(key)) problems.push(`JIRA_PROJECTS: "${key}" is no Jira project key.`)

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
    const given = text('githubApiUrl')
    const apiUrl = given === null ? null : originOf(given)
    if (given !== null && apiUrl === null)
      botProblems.push(`GITHUB_API_URL must be an https URL (http on loopback only), and is "${given}".`)
    // An App that is begun counts, complete or not: a token does not stand in for what it lacks.
    const names = ['appId', 'privateKey', 'privateKeyPath', 'webhookSecret'] as const
    if (names.some(name => value(name) !== undefined)) return readApp(apiUrl)
    if (value('githubToken') === undefined) return null
    const token = text('githubToken')
    if (token === null) botProblems.push('GitHub: GITHUB_TOKEN is empty. Give it a token, or take it away.')
    const repositories = list('githubRepositories')
    for (const name of repositories) {
      if (!REPOSITORY.test(name))
        botProblems.push(`GITHUB_REPOSITORIES: "${name}" is no repository; one is written owner/name.`)
    }
    return token === null ? null : { via: 'token', token, repositories, apiUrl }
  }

  function readApp(apiUrl: string | null): AppSettings | null {
    const appId = number('appId', 0, 1, Number.MAX_SAFE_INTEGER)
    if (text('appId') === null) botProblems.push("GitHub: APP_ID is missing; it stands on the App's settings page.")
    const webhookSecret = text('webhookSecret')
    if (webhookSecret === null) {
      botProblems.push(
        "GitHub: WEBHOOK_SECRET is missing or empty; without it anybody could send events. Set the same one in the App's settings.",
      )
    }
    const path = text('privateKeyPath')
    let privateKey = text('privateKey')?.replaceAll('\\n', '\n') ?? null
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
    return webhookSecret === null || privateKey === null || appId === 0
      ? null
      : { via: 'app', appId, privateKey, webhookSecret, apiUrl }
  }

  function readJira(): JiraSettings | null {
    const names = ['jiraHost', 'jiraEmail', 'jiraApiToken', 'jiraWebhookSecret'] as const
    if (names.every(name => value(name) === undefined)) return null
    for (const name of ['jiraHost', 'jiraEmail', 'jiraApiToken'] as const) {
      if (text(name) === null) botProblems.push(`Jira: ${settings[name]} is missing or empty.`)
    }
    if (value('jiraWebhookSecret') !== undefined && text('jiraWebhookSecret') === null) {
      botProblems.push(
        'Jira: JIRA_WEBHOOK_SECRET is empty; anybody could send events. Set the same one on the webhook in Jira, or take it away: then Jira is polled.',
      )
    }
    const url = originOf(text('jiraHost') ?? '')
    if (text('jiraHost') !== null && url === null) {
      botProblems.push(
        `JIRA_HOST must be a host name or an https URL (http on loopback only), and is "${text('jiraHost')}".`,
      )
    }
    const [email, apiToken, webhookSecret] = [text('jiraEmail'), text('jiraApiToken'), text('jiraWebhookSecret')]
    return url === null || email === null || apiToken === null ? null : { url, email, apiToken, webhookSecret }
  }

  const assignees = list('jiraAssignees')
  const botUrl = text('botUrl')
  if (botUrl !== null && originOf(botUrl) === null) {
    problems.push(`AGENT_SWARM_BOT_URL must be an https URL (http on loopback only), and is "${botUrl}".`)
  }
  const config: Config = {
    home,
    host: text('host') ?? '127.0.0.1',
    port: number('port', 3000, 0, 65_535),
    logLevel: oneOf('logLevel', LEVELS) ?? 'info',
    provider: oneOf('provider', PROVIDERS),
    baseImage: text('baseImage') ?? 'agent-swarm-base',
    size: {
      cpus: number('cpus', 2, 1, 64),
      memoryMiB: number('memoryMiB', 4096, 256, 1_048_576),
      diskGiB: number('diskGiB', 40, 2, 16_384),
    },
    kvm: {
      uri: text('kvmUri') ?? 'qemu:///system',
      domainType: oneOf('kvmDomainType', ['auto', 'kvm', 'qemu'] as const) ?? 'auto',
      pool: text('kvmPool') ?? 'agent-swarm',
      network: text('kvmNetwork') ?? 'agent-swarm',
    },
    botUrl,
    runnerToken: text('runnerToken'),
    runnerSlots: number('runnerSlots', 4, 1, 64),
    projects,
    assignees:
      assignees.length === 0 || (assignees.length === 1 && assignees[0] === 'me')
        ? 'me'
        : assignees.includes('any')
          ? 'any'
          : assignees,
    pollSeconds: number('pollSeconds', 60, 1, 3600),
    github,
    jira,
    botProblems,
    secrets: [
      ...(github?.via === 'app' ? [github.privateKey, github.webhookSecret] : [github?.token]),
      jira?.apiToken,
      jira?.webhookSecret,
      text('runnerToken'),
    ].filter(secret => typeof secret === 'string'),
    environment,
  }
  if (problems.length > 0)
    throw fail('not-configured', `reading the configuration:\n${problems.map(problem => `  - ${problem}`).join('\n')}`)
  return Object.freeze(config)
}
