/** File, environment and flags become one frozen Config; every mistake is reported at once. The only reader of process.env. */
import { existsSync, readFileSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { providers } from '../../providers/index.ts'
import type { ProviderName } from '../domain.ts'
import { fail } from '../errors.ts'
import type { MachineSize } from '../schema/basics.ts'
import type { Setting } from '../schema/forms.ts'
import { configFileIn, homeIn } from './home.ts'
import { secretFileFault } from './secret-file.ts'
import { shortSecrets } from './secrets.ts'
import { poolProblems, projectKeys, readServing, type Serving, servingProblems } from './serving.ts'
import { type PlainValues, plainSettings, type SettingName, settings } from './settings.ts'
import { type AppSettings, type JiraSettings, readGitHub, readJira, type TokenSettings } from './sides.ts'
import { type Environment, type Flags, openValues, type Values } from './values.ts'

export type { AppSettings, JiraSettings, TokenSettings } from './sides.ts'

type Derived = {
  home: string
  /** The values of each provider's settings. */
  providerSettings: Readonly<Record<ProviderName, Readonly<Record<string, unknown>>>>
  size: MachineSize
  /** The largest size that a repository may ask for. */
  limits: MachineSize
  projects: readonly string[]
  /** Which repositories may act, and on which projects. */
  serving: Serving
  assignees: 'me' | 'any' | readonly string[]
  /** Jira accounts that may command on every ticket. */
  jiraCommanders: readonly string[]
  /** Comments explain why a move into progress made no machine. */
  explain: boolean
  github: AppSettings | TokenSettings | null
  /** Where repositories are, also for a runner that has no credential. Null: github.com. */
  githubApiUrl: string | null
  jira: JiraSettings | null
  /** Why `bot` and `up` cannot start, one sentence each. */
  botProblems: readonly string[]
  /** What the operator should know, and what keeps nothing from starting. One sentence each. */
  notices: readonly string[]
  /** Values that must never be shown. */
  secrets: readonly string[]
  /** The environment of this process. Programs that we start see a few variables of it (exec.ts). */
  environment: Environment
}
/** The plain settings, and what is made of the others. */
export type Config = PlainValues & Readonly<Derived>

/** The settings that the environment gives a value. */
export const settingsInEnvironment = (environment: Environment = process.env): Flags =>
  Object.fromEntries(
    Object.entries(settings).flatMap(([name, { env }]) => {
      const value = env === null ? '' : (environment[env]?.trim() ?? '')
      return value === '' ? [] : [[name, value]]
    }),
  )

/**
 * The variables of settings that config.yaml lacks, or has with another value: a process that starts without them is configured
 * otherwise. Throws `not-configured` when the file is not YAML.
 */
export const onlyInEnvironment = async (environment: Environment): Promise<string[]> => {
  const path = configFileIn(homeIn(environment))
  const file = { path, content: existsSync(path) ? readFileSync(path, 'utf8') : null }
  const [here, without] = [await openValues({}, environment, file), await openValues({}, {}, file)]
  const names = Object.keys(settingsInEnvironment(environment)) as SettingName[]
  return names.flatMap(name => {
    const { env }: Setting = settings[name]
    return env === null || JSON.stringify(here.read(name)) === JSON.stringify(without.read(name)) ? [] : [env]
  })
}

/** The configuration that a file with this content would give, without the settings in the environment. */
export const readCandidate = (content: string): Promise<Config> => {
  const names = new Set<string | null>(Object.values(settings).map(({ env }) => env))
  return readConfig({}, Object.fromEntries(Object.entries(process.env).filter(([name]) => !names.has(name))), content)
}

export const REPOSITORIES_MISSING =
  'GITHUB_REPOSITORIES is missing. List the repositories that may act on tickets, for example GITHUB_REPOSITORIES=acme/shop,acme/api.'

/** What the bot lacks when both sides are missing, or has no projects. */
const missingSides = ({ github, jira, projects }: Pick<Config, 'github' | 'jira' | 'projects'>): string[] => {
  if (github === null && jira === null)
    return [
      'Neither GitHub nor Jira is configured. GitHub needs APP_ID, PRIVATE_KEY (or PRIVATE_KEY_PATH) and WEBHOOK_SECRET, or a ' +
        'GITHUB_TOKEN, and GITHUB_REPOSITORIES; Jira needs JIRA_HOST, JIRA_EMAIL, JIRA_API_TOKEN and JIRA_PROJECTS, and JIRA_WEBHOOK_SECRET for its webhook.',
    ]
  return projects.length > 0
    ? []
    : [
        'JIRA_PROJECTS is missing. List the keys of the projects whose tickets get machines, for example JIRA_PROJECTS=DROP,WEB.',
      ]
}

/** What keeps repositories from acting on tickets. Nothing is said twice: without a list, no project is served. */
const missingRepositories = ({ github, serving }: Pick<Config, 'github' | 'serving'>): string[] => {
  if (github === null) return []
  return github.repositories.length > 0 ? servingProblems(serving) : [REPOSITORIES_MISSING]
}

/** Both sides, and what keeps the bot from starting. */
const readSides = (values: Values) => {
  const incomplete: string[] = []
  const entries = values.read('jiraProjects') ?? []
  const github = readGitHub(values, incomplete)
  const projects = projectKeys(entries)
  const serving = readServing(github?.repositories ?? [], entries)
  const sides = { github, jira: readJira(values, incomplete), projects, serving }
  const missing = github === null && sides.jira === null && incomplete.length > 0 ? [] : missingSides(sides)
  const lists = [...missingRepositories(sides), ...poolProblems(values.read('pool'), serving)]
  return { ...sides, botProblems: [...incomplete, ...missing, ...lists, ...shortSecrets(values)] }
}

const readSizes = (values: Values): Pick<Config, 'size' | 'limits'> => {
  const size = { cpus: values.read('cpus'), memoryMiB: values.read('memoryMiB'), diskGiB: values.read('diskGiB') }
  const limits = {
    cpus: values.read('maxCpus') ?? size.cpus,
    memoryMiB: values.read('maxMemoryMiB') ?? size.memoryMiB,
    diskGiB: values.read('maxDiskGiB') ?? size.diskGiB,
  }
  return { size, limits }
}

const readProviders = (values: Values): Config['providerSettings'] =>
  Object.fromEntries(providers.map(({ name, settings }) => [name, values.readAll(settings)]))

/** The values of all secret settings, and the private key, which may come from a file. */
const readSecrets = (values: Values, github: Config['github']): string[] => {
  const rows: [string, Setting][] = Object.entries(settings)
  const secrets = values.readAll(Object.fromEntries(rows.filter(([, { secret }]) => secret)))
  return [...Object.values(secrets), github?.via === 'app' ? github.privateKey : null].filter(
    secret => typeof secret === 'string',
  )
}

/** Whether others may read or change the secrets in the file of settings. */
const checkFile = (path: string, { isInFile, problems, notices }: Values): void => {
  const secrets = Object.entries<Setting>(settings).filter(([name, { secret }]) => secret && isInFile(name))
  const fault = secrets.length === 0 ? null : secretFileFault(path)
  if (fault !== null) (fault.isFinal ? problems : notices).push(fault.text)
}

/**
 * Reads file, environment and flags; the later wins. Throws `not-configured` with every mistake. What only the bot lacks goes
 * into `botProblems`, since the CLI works without it. `candidate` is read in place of the file.
 */
export const readConfig = async (
  flags: Flags = {},
  environment: Environment = process.env,
  candidate: string | null = null,
): Promise<Config> => {
  const home = homeIn(environment)
  const path = configFileIn(home)
  const content = candidate ?? (existsSync(path) ? readFileSync(path, 'utf8') : null)
  const values = await openValues(flags, environment, { path, content })
  const { read, problems } = values
  if (!isAbsolute(home)) problems.push(`AGENT_SWARM_HOME must be an absolute path, not "${home}".`)
  if (candidate === null && content !== null) checkFile(path, values)
  const sides = readSides(values)
  const config: Config = {
    home,
    ...values.readAll(plainSettings),
    providerSettings: readProviders(values),
    ...readSizes(values),
    assignees: read('jiraAssignees'),
    jiraCommanders: read('jiraCommanders') ?? [],
    explain: read('jiraExplain') === 'on',
    ...sides,
    githubApiUrl: read('githubApiUrl'),
    notices: values.notices,
    secrets: readSecrets(values, sides.github),
    environment,
  }
  if (problems.length > 0)
    throw fail(
      'not-configured',
      `reading the configuration:\n${[...new Set(problems)].map(problem => `  - ${problem}`).join('\n')}`,
    )
  return Object.freeze(config)
}
