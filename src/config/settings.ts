/**
 * Every setting of `config.yaml` in AGENT_SWARM_HOME: the general ones, and those of the providers' descriptions. The parser
 * (config.ts), the editor's schema and docs/configuration.md are made of this table alone.
 */
import { providerNames, providers } from '../../providers/index.ts'
import {
  accountId,
  assignees,
  email,
  imageName,
  integer,
  listOf,
  oneOf,
  originUrl,
  projectKey,
  repositoryName,
  type Setting,
  type SettingValues,
  text,
} from '../schema/forms.ts'

export type { Setting } from '../schema/forms.ts'

const githubApp = {
  appId: {
    env: 'APP_ID',
    form: integer(1, Number.MAX_SAFE_INTEGER),
    says: "The App's id, from its settings page.",
    example: 123456,
  },
  privateKey: {
    env: 'PRIVATE_KEY',
    form: text,
    says: "The App's private key: PEM, PEM in one line with \\n, or base64 of PEM.",
    example: '-----BEGIN RSA PRIVATE KEY-----\\n…',
    secret: true,
  },
  privateKeyPath: {
    env: 'PRIVATE_KEY_PATH',
    form: text,
    says: 'A file that holds the private key, instead of the key itself.',
    example: '/etc/agent-swarm/app.pem',
  },
  webhookSecret: {
    env: 'WEBHOOK_SECRET',
    form: text,
    says: "The secret of the App's webhook, the same as on its settings page.",
    example: 'a long random text',
    secret: true,
  },
} as const satisfies Record<string, Setting>

const githubToken = {
  githubToken: {
    env: 'GITHUB_TOKEN',
    form: text,
    says: 'A personal access token, used instead of an App: GitHub is polled, so no public address is needed. Ignored when an App is configured.',
    example: 'github_pat_…',
    secret: true,
  },
  githubRepositories: {
    env: 'GITHUB_REPOSITORIES',
    form: listOf(repositoryName),
    says: "The repositories to poll. By default, the 20 with the latest pushes among those that the token's user may push to.",
    example: ['acme/shop', 'acme/web'],
  },
} as const satisfies Record<string, Setting>

const githubApi = {
  githubApiUrl: {
    env: 'GITHUB_API_URL',
    form: originUrl,
    says: "The address of GitHub's API, for GitHub Enterprise Server: https, or http on loopback. By default, github.com.",
    example: 'https://github.example.org/api/v3',
  },
} as const satisfies Record<string, Setting>

const jira = {
  jiraHost: {
    env: 'JIRA_HOST',
    form: originUrl,
    says: 'The Jira site: a host name or a full address (https, or http on loopback). An API token with scopes needs `https://api.atlassian.com/ex/jira/<cloudId>` instead; `https://example.atlassian.net/_edge/tenant_info` shows the cloudId, and `agent-swarm init` finds it.',
    example: 'example.atlassian.net',
  },
  jiraEmail: {
    env: 'JIRA_EMAIL',
    form: email,
    says: 'The e-mail address of the account that owns the token.',
    example: 'bot@example.org',
  },
  jiraApiToken: {
    env: 'JIRA_API_TOKEN',
    form: text,
    says: "The account's API token. A token with scopes (service accounts have these) needs `read:jira-user`, `read:jira-work` and `write:jira-work`.",
    example: 'ATATT…',
    secret: true,
  },
  jiraProjects: {
    env: 'JIRA_PROJECTS',
    form: listOf(projectKey),
    says: 'The keys of the projects whose tickets get machines. The bot needs it even with GitHub alone: nothing else counts as a ticket.',
    example: ['DROP', 'WEB'],
  },
  jiraWebhookSecret: {
    env: 'JIRA_WEBHOOK_SECRET',
    form: text,
    says: 'The secret of the webhook in Jira. Without it, Jira is polled and webhooks are refused.',
    example: 'a long random text',
    secret: true,
  },
  jiraAssignees: {
    env: 'JIRA_ASSIGNEES',
    form: assignees,
    default: 'me',
    says: "Whose tickets get machines automatically: `me` (the token's account), `any`, or account ids.",
    example: ['5b10a2844c20165700ede21g'],
  },
  jiraCommanders: {
    env: 'JIRA_COMMANDERS',
    form: listOf(accountId),
    says: "Account ids that may give `/swarm` commands on every ticket, besides each ticket's assignee.",
    example: ['5b10a2844c20165700ede21g'],
  },
} as const satisfies Record<string, Setting>

const processes = {
  pollSeconds: {
    env: 'AGENT_SWARM_POLL_SECONDS',
    form: integer(1, 3600),
    default: 60,
    says: 'Seconds between two polls of GitHub (with a token) or Jira (without a webhook secret). Longer when GitHub requires it.',
    example: 30,
  },
  host: {
    env: 'HOST',
    form: text,
    default: '127.0.0.1',
    says: 'The address that the bot listens on.',
    example: '0.0.0.0',
  },
  port: {
    env: 'PORT',
    form: integer(0, 65_535),
    default: 3000,
    says: 'The port that the bot listens on; 0 takes any free port.',
    example: 8080,
  },
  publicUrl: {
    env: 'AGENT_SWARM_PUBLIC_URL',
    form: originUrl,
    says: 'The address at which GitHub and Jira reach the bot. `agent-swarm init` remembers it, and shows what to enter there.',
    example: 'https://swarm.example.org',
  },
  logLevel: {
    env: 'LOG_LEVEL',
    form: oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
    default: 'info',
    says: 'How much the bot and the runner log, on standard error.',
    example: 'debug',
  },
  botUrl: {
    env: 'AGENT_SWARM_BOT_URL',
    form: originUrl,
    says: "The bot's address, for a runner on another host: https, or http on loopback.",
    example: 'https://swarm.example.org',
  },
  runnerToken: {
    env: 'AGENT_SWARM_RUNNER_TOKEN',
    form: text,
    says: 'The secret that runners show the bot, the same on both sides (for example from `openssl rand -hex 32`). `agent-swarm up` needs none.',
    example: 'a long random text',
    secret: true,
  },
  runnerSlots: {
    env: 'AGENT_SWARM_RUNNER_SLOTS',
    form: integer(1, 64),
    default: 4,
    says: 'How many actions a runner does at the same time.',
    example: 2,
  },
} as const satisfies Record<string, Setting>

const machines = {
  provider: {
    env: 'AGENT_SWARM_PROVIDER',
    form: oneOf(...providerNames),
    says: 'The hypervisor. By default, the first that is available.',
    example: 'kvm',
  },
  baseImage: {
    env: 'AGENT_SWARM_BASE_IMAGE',
    form: imageName,
    default: 'agent-swarm-base',
    says: 'The base image that machines are cloned from.',
    example: 'node-24',
  },
} as const satisfies Record<string, Setting>

const sizes = {
  cpus: { env: 'AGENT_SWARM_CPUS', form: integer(1, 64), default: 2, says: 'Virtual CPUs of a machine.', example: 4 },
  memoryMiB: {
    env: 'AGENT_SWARM_MEMORY_MIB',
    form: integer(256, 1_048_576),
    default: 4096,
    says: 'Memory of a machine, in MiB.',
    example: 8192,
  },
  diskGiB: {
    env: 'AGENT_SWARM_DISK_GIB',
    form: integer(2, 16_384),
    default: 40,
    says: 'Disk of a machine, in GiB. It takes space on the host as data is written to it.',
    example: 80,
  },
  maxCpus: {
    env: 'AGENT_SWARM_MAX_CPUS',
    form: integer(1, 64),
    says: 'The most CPUs that a repository may ask for. By default, as many as `cpus`.',
    example: 8,
  },
  maxMemoryMiB: {
    env: 'AGENT_SWARM_MAX_MEMORY_MIB',
    form: integer(256, 1_048_576),
    says: 'The most memory that a repository may ask for. By default, as much as `memoryMiB`.',
    example: 16_384,
  },
  maxDiskGiB: {
    env: 'AGENT_SWARM_MAX_DISK_GIB',
    form: integer(2, 16_384),
    says: 'The largest disk that a repository may ask for. By default, as large as `diskGiB`.',
    example: 100,
  },
} as const satisfies Record<string, Setting>

/** Those that Config has under their own names, as they are. */
export const plainSettings = { ...processes, ...machines }
export type PlainValues = SettingValues<typeof plainSettings>
const general = { ...githubApp, ...githubToken, ...githubApi, ...jira, ...plainSettings, ...sizes }
export type SettingName = keyof typeof general
export type GeneralValues = SettingValues<typeof general>

const providerGroups: [title: string, rows: Readonly<Record<string, Setting>>][] = providers
  .filter(({ settings }) => Object.keys(settings).length > 0)
  .map(({ name, settings }) => [`The provider ${name}`, settings])

/** The rows under the headings of the docs. */
export const groups: Readonly<Record<string, Readonly<Record<string, Setting>>>> = {
  'GitHub, by an App': githubApp,
  'GitHub, by a token': githubToken,
  'GitHub, both ways': githubApi,
  Jira: jira,
  'Bot and runner': processes,
  Machines: { ...machines, ...sizes },
  ...Object.fromEntries(providerGroups),
}
export const settings: typeof general & Readonly<Record<string, Setting>> = Object.assign(
  {},
  general,
  ...providerGroups.map(([, rows]) => rows),
)
