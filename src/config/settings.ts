/**
 * Every setting of `config.yaml` in AGENT_SWARM_HOME: the general ones, and those of the providers' descriptions. The parser
 * (config.ts), the editor's schema and docs/configuration.md are made of this table alone.
 */
import { providerNames, providers } from '../../providers/index.ts'
import {
  accountId,
  addressRange,
  assignees,
  email,
  imageName,
  integer,
  listOf,
  oneOf,
  originUrl,
  repositoryPattern,
  type Setting,
  type SettingValues,
  servedProject,
  text,
} from '../schema/forms.ts'
import { pools } from '../schema/pool.ts'
import { keyOrFile } from '../schema/public-key.ts'
import { RETENTION, retention } from '../schema/retention.ts'
import { gitSettings, idleRule, operatorAgent, transitions, workspaces } from '../schema/workspace.ts'

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
    says: "The secret of the App's webhook, the same as on its settings page: at least 16 characters.",
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
} as const satisfies Record<string, Setting>

const githubBoth = {
  githubRepositories: {
    env: 'GITHUB_REPOSITORIES',
    form: listOf(repositoryPattern),
    says: 'The repositories that may act on tickets, required with GitHub: events of all others are ignored. `acme/*` lets in all of an owner; these serve only the projects whose entry in `jiraProjects` names them. With a token, the 20 of them that were pushed to last are polled.',
    example: ['acme/shop', 'acme/web'],
  },
  githubApiUrl: {
    env: 'GITHUB_API_URL',
    form: originUrl,
    says: "The address of GitHub's API, for GitHub Enterprise Server: https, or http on loopback. A runner on a host of its own needs it too. By default, github.com.",
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
    form: listOf(servedProject),
    says: 'The keys of the projects whose tickets get machines. The bot needs it even with GitHub alone: nothing else counts as a ticket. `DROP:acme/shop+acme/api` names the repositories that serve the project; without them, those that `githubRepositories` lists by their full name serve it. A repository can do nothing to tickets of a project that it does not serve. `DROP:acme/*` works, with a warning: everybody who may create a repository there could command the tickets.',
    example: ['DROP:acme/shop+acme/api', 'WEB'],
  },
  jiraWebhookSecret: {
    env: 'JIRA_WEBHOOK_SECRET',
    form: text,
    says: 'The secret of the webhook in Jira, at least 16 characters. Without it, Jira is polled and webhooks are refused.',
    example: 'a long random text',
    secret: true,
  },
  jiraAutomationSecret: {
    env: 'JIRA_AUTOMATION_SECRET',
    form: text,
    says: 'The secret that rules of Jira automation send in the header `X-Agent-Swarm-Secret` to `/jira/automation`, at least 16 characters. Without it, requests there get a 404. Jira is polled all the same, unless it has a webhook.',
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
  jiraExplain: {
    env: 'JIRA_EXPLAIN',
    form: oneOf('on', 'off'),
    default: 'on',
    says: 'Whether a comment on the ticket says why a move into progress made no machine, once for each reason. Only where the assignee or whoever moved the ticket is one of `jiraAssignees`.',
    example: 'off',
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
  proxies: {
    env: 'AGENT_SWARM_PROXIES',
    form: listOf(addressRange),
    says: 'Addresses or ranges of the reverse proxies in front of the bot. The limits for connections (docs/security.md) do not hold for them, nor for loopback.',
    example: ['192.0.2.10', '198.51.100.0/24'],
  },
  runnerToken: {
    env: 'AGENT_SWARM_RUNNER_TOKEN',
    form: text,
    says: 'The secret that a runner shows the bot, at least 16 characters. For a runner: its token from `agent-swarm bot runner add`. For the bot: a token that one runner may show, the first that does. `agent-swarm up` needs none.',
    example: 'a long random text',
    secret: true,
  },
  machinesPerPerson: {
    env: 'AGENT_SWARM_MACHINES_PER_PERSON',
    form: integer(1, 1_000),
    says: "The most machines that one person may have, stopped ones included. A machine belongs to its ticket's assignee or, where the bot knows none, to the person whose move or command asked for it. A create beyond the limit waits, and its ticket names the person's machines; a fork beyond it is refused. The command line has no limit. By default, no limit.",
    example: 3,
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
  bootMinutes: {
    env: 'AGENT_SWARM_BOOT_MINUTES',
    form: integer(1, 240),
    default: 10,
    says: 'Minutes that a machine may take until it answers over SSH; three times as many where its processors are emulated by software. A new machine that takes longer is removed again.',
    example: 30,
  },
  authorizedKeys: {
    env: 'AGENT_SWARM_AUTHORIZED_KEYS',
    form: listOf(keyOrFile),
    says: "People's own public SSH keys, or files with some by their absolute path: whoever has one of these keys logs in to every machine of this home, from any host (`ssh --via`). They are put into a machine when it is created, forked, started or restored, and those that stand here no more are taken out then; where that fails, the answer says that the machine has its earlier keys. An empty list takes all out; without the setting, machines keep what they have. Providers without SSH have none.",
    example: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExample alice@example.org'],
  },
  retention: {
    env: null,
    form: retention,
    default: RETENTION,
    says: 'Days that things stay which `agent-swarm prune` removes: `rescuedDays` (rescued work), `imageDays` (base images of this home that nothing uses), `logDays` (output of commands in the background, transcripts of agents whose machine is gone, damaged databases that a backup replaced).',
    example: { rescuedDays: 365, imageDays: 7 },
  },
  idle: {
    env: null,
    form: idleRule,
    says: 'Saves the memory of machines that nobody has used for `minutes` (1 to 40320), and turns them off. `stop: true`: a machine whose memory the provider cannot save is shut down instead (docs/idle.md). Without it, machines run until somebody stops them.',
    example: { minutes: 120 },
  },
  pool: {
    env: null,
    form: pools,
    default: [],
    says: 'Machines that are kept ready, so that a create takes one instead of making it (docs/pool.md): each member names an `image` or a `repository`, how many are `ready` (1), how many exist at `most` (`ready` and 2 more), and whether their memory is held in `memory` (the default) or on `disk`. Without it, none.',
    example: [{ repository: 'acme/shop', ready: 2 }],
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

/** They have members, so they stand in config.yaml alone. */
const projects = {
  workspace: {
    env: null,
    form: workspaces,
    default: {},
    says: "How machines get the project, by repository. It wins over `workspace` in the repository's own `.github/agent-swarm.yml`, which has the same members.",
    example: { 'acme/shop': { setup: 'npm ci', start: 'npm run dev', ports: [3000] } },
  },
  git: {
    env: null,
    form: gitSettings,
    default: {},
    says: 'Limits of the git gateway (docs/git-gateway.md), by repository.',
    example: { 'acme/assets': { pushMiB: 2048, mirrorGiB: 40 }, 'acme/infra': { push: false } },
  },
  agent: {
    env: null,
    form: operatorAgent,
    says: 'The coding agent that works in the machines. Without this, none does. With bot and runner on two hosts, both need it (docs/agents.md). The key of its model is a file in `model-keys/` of AGENT_SWARM_HOME, on the host of the runner.',
    example: { use: 'claude', minutes: 60, budget: { usd: 5 } },
  },
  transitions: {
    env: null,
    form: transitions,
    default: {},
    says: 'What events of GitHub do to the ticket in Jira, and whether pushes of people open pull requests. Without it, nothing.',
    example: { review: 'In Review', done: true },
  },
} as const satisfies Record<string, Setting>

/** Those that Config has under their own names, as they are. */
export const plainSettings = { ...processes, ...machines, ...projects }
export type PlainValues = SettingValues<typeof plainSettings>
const general = { ...githubApp, ...githubToken, ...githubBoth, ...jira, ...plainSettings, ...sizes }
export type SettingName = keyof typeof general
export type GeneralValues = SettingValues<typeof general>

const providerGroups: [title: string, rows: Readonly<Record<string, Setting>>][] = providers
  .filter(({ settings }) => Object.keys(settings).length > 0)
  .map(({ name, settings }) => [`The provider ${name}`, settings])

/** The rows under the headings of the docs. */
export const groups: Readonly<Record<string, Readonly<Record<string, Setting>>>> = {
  'GitHub, by an App': githubApp,
  'GitHub, by a token': githubToken,
  'GitHub, both ways': githubBoth,
  Jira: jira,
  'Bot and runner': processes,
  Machines: { ...machines, ...sizes },
  'Projects and agents': projects,
  ...Object.fromEntries(providerGroups),
}
export const settings: typeof general & Readonly<Record<string, Setting>> = Object.assign(
  {},
  general,
  ...providerGroups.map(([, rows]) => rows),
)
