/**
 * Every setting of `config.yaml` in AGENT_SWARM_HOME, one row each: its environment variable, its form, its default, what it
 * means and an example. The parser (config.ts), the editor's schema and docs/configuration.md come out of this table alone.
 */
import type * as v from 'valibot'
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
  text,
} from '../schema/forms.ts'

export type Setting = {
  env: string
  form: v.GenericSchema
  /** Plain, as in the file. Without one, it is not set. */
  default?: unknown
  says: string
  /** As the file has it. */
  example: unknown
  /** Its value is shown nowhere. */
  secret?: true
}

const githubApp = {
  appId: {
    env: 'APP_ID',
    form: integer(1, Number.MAX_SAFE_INTEGER),
    says: "The App's id, as on its settings page.",
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
    says: 'The file that holds the private key, instead of the key itself.',
    example: '/etc/agent-swarm/app.pem',
  },
  webhookSecret: {
    env: 'WEBHOOK_SECRET',
    form: text,
    says: "The secret of the App's webhook: the same as on its settings page.",
    example: 'a long random text',
    secret: true,
  },
} as const satisfies Record<string, Setting>

const githubToken = {
  githubToken: {
    env: 'GITHUB_TOKEN',
    form: text,
    says: 'A personal access token, instead of an App: GitHub is polled, and no public address is needed. An App that is configured counts before it.',
    example: 'github_pat_…',
    secret: true,
  },
  githubRepositories: {
    env: 'GITHUB_REPOSITORIES',
    form: listOf(repositoryName),
    says: 'The repositories that are polled. Without it, the 20 that were pushed to last, of those that its user may push to.',
    example: ['acme/shop', 'acme/web'],
  },
} as const satisfies Record<string, Setting>

const githubApi = {
  githubApiUrl: {
    env: 'GITHUB_API_URL',
    form: originUrl,
    says: "The address of GitHub's API, for GitHub Enterprise Server: https, or http on loopback. Without it, github.com.",
    example: 'https://github.example.org/api/v3',
  },
} as const satisfies Record<string, Setting>

const jira = {
  jiraHost: {
    env: 'JIRA_HOST',
    form: originUrl,
    says: 'The site: a name, or a full address (https, or http on loopback). An API token with scopes belongs to `https://api.atlassian.com/ex/jira/<cloudId>` instead, with the cloudId that `https://example.atlassian.net/_edge/tenant_info` shows; `agent-swarm init` finds it.',
    example: 'example.atlassian.net',
  },
  jiraEmail: {
    env: 'JIRA_EMAIL',
    form: email,
    says: 'The e-mail address of the account whose token it is.',
    example: 'bot@example.org',
  },
  jiraApiToken: {
    env: 'JIRA_API_TOKEN',
    form: text,
    says: 'Its API token. One with scopes, as service accounts have, needs `read:jira-user`, `read:jira-work` and `write:jira-work`.',
    example: 'ATATT…',
    secret: true,
  },
  jiraProjects: {
    env: 'JIRA_PROJECTS',
    form: listOf(projectKey),
    says: 'The keys of the projects whose tickets get machines. The bot needs it, with GitHub alone too: nothing else is a ticket.',
    example: ['DROP', 'WEB'],
  },
  jiraWebhookSecret: {
    env: 'JIRA_WEBHOOK_SECRET',
    form: text,
    says: 'The secret of the webhook in Jira. Without it, Jira is polled, and no webhook is taken.',
    example: 'a long random text',
    secret: true,
  },
  jiraAssignees: {
    env: 'JIRA_ASSIGNEES',
    form: assignees,
    default: 'me',
    says: 'Whose tickets get machines by themselves: `me` (whose token it is), `any`, or account ids.',
    example: ['5b10a2844c20165700ede21g'],
  },
  jiraCommanders: {
    env: 'JIRA_COMMANDERS',
    form: listOf(accountId),
    says: "Account ids that may give `/swarm` commands on every ticket. A ticket's assignee may anyway.",
    example: ['5b10a2844c20165700ede21g'],
  },
} as const satisfies Record<string, Setting>

const processes = {
  pollSeconds: {
    env: 'AGENT_SWARM_POLL_SECONDS',
    form: integer(1, 3600),
    default: 60,
    says: 'Seconds between two looks at what is polled: GitHub by a token, Jira without a webhook secret. More when GitHub asks for it.',
    example: 30,
  },
  host: { env: 'HOST', form: text, default: '127.0.0.1', says: 'Where the bot listens.', example: '0.0.0.0' },
  port: {
    env: 'PORT',
    form: integer(0, 65_535),
    default: 3000,
    says: 'Its port; 0 is any that is free.',
    example: 8080,
  },
  logLevel: {
    env: 'LOG_LEVEL',
    form: oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
    default: 'info',
    says: 'How much bot and runner log, on standard error.',
    example: 'debug',
  },
  botUrl: {
    env: 'AGENT_SWARM_BOT_URL',
    form: originUrl,
    says: 'Where a runner on another machine finds its bot: https, or http on loopback.',
    example: 'https://swarm.example.org',
  },
  runnerToken: {
    env: 'AGENT_SWARM_RUNNER_TOKEN',
    form: text,
    says: 'What runners show their bot, and nobody else may know: the same on both, as of `openssl rand -hex 32`. `agent-swarm up` needs none.',
    example: 'a long random text',
    secret: true,
  },
  runnerSlots: {
    env: 'AGENT_SWARM_RUNNER_SLOTS',
    form: integer(1, 64),
    default: 4,
    says: 'How many actions a runner does at once.',
    example: 2,
  },
} as const satisfies Record<string, Setting>

const machines = {
  provider: {
    env: 'AGENT_SWARM_PROVIDER',
    form: oneOf('kvm', 'tart', 'hyperv', 'aws', 'synthetic'),
    says: 'The hypervisor. Without it, the first that is available.',
    example: 'kvm',
  },
  baseImage: {
    env: 'AGENT_SWARM_BASE_IMAGE',
    form: imageName,
    default: 'agent-swarm-base',
    says: 'What machines are cloned from.',
    example: 'node-24',
  },
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
    says: 'Disk of a machine, in GiB. It takes what is written to it, not all at once.',
    example: 80,
  },
  maxCpus: {
    env: 'AGENT_SWARM_MAX_CPUS',
    form: integer(1, 64),
    says: 'The most CPUs that a repository may ask for. Without it, as many as `cpus`.',
    example: 8,
  },
  maxMemoryMiB: {
    env: 'AGENT_SWARM_MAX_MEMORY_MIB',
    form: integer(256, 1_048_576),
    says: 'The most memory that a repository may ask for. Without it, as much as `memoryMiB`.',
    example: 16_384,
  },
  maxDiskGiB: {
    env: 'AGENT_SWARM_MAX_DISK_GIB',
    form: integer(2, 16_384),
    says: 'The largest disk that a repository may ask for. Without it, as large as `diskGiB`.',
    example: 100,
  },
} as const satisfies Record<string, Setting>

const kvm = {
  kvmUri: {
    env: 'AGENT_SWARM_KVM_URI',
    form: text,
    default: 'qemu:///system',
    says: "libvirt's connection: `qemu:///system`, or `qemu:///session` for machines of this user alone (docs/kvm.md).",
    example: 'qemu:///session',
  },
  kvmDomainType: {
    env: 'AGENT_SWARM_KVM_DOMAIN_TYPE',
    form: oneOf('auto', 'kvm', 'qemu'),
    default: 'auto',
    says: '`kvm` is hardware virtualisation, `qemu` emulation; `auto` tries the first with a boot.',
    example: 'qemu',
  },
  kvmFirmware: {
    env: 'AGENT_SWARM_KVM_FIRMWARE',
    form: oneOf('bios', 'uefi'),
    default: 'bios',
    says: 'What a new machine boots with; `uefi` from libvirt 10.10 on, where its checkpoints work.',
    example: 'uefi',
  },
  kvmPool: {
    env: 'AGENT_SWARM_KVM_POOL',
    form: text,
    default: 'agent-swarm',
    says: 'The storage pool of ours; it is made when it is not there.',
    example: 'fast',
  },
  kvmNetwork: {
    env: 'AGENT_SWARM_KVM_NETWORK',
    form: text,
    default: 'agent-swarm',
    says: 'The network of ours; it is made when it is not there. A `qemu:///session` has none.',
    example: 'agents',
  },
} as const satisfies Record<string, Setting>

export const groups: Readonly<Record<string, Readonly<Record<string, Setting>>>> = {
  'GitHub, by an App': githubApp,
  'GitHub, by a token': githubToken,
  'GitHub, both ways': githubApi,
  Jira: jira,
  'Bot and runner': processes,
  Machines: machines,
  'The provider kvm': kvm,
}
export const settings = { ...githubApp, ...githubToken, ...githubApi, ...jira, ...processes, ...machines, ...kvm }
export type SettingName = keyof typeof settings
