/** The table of commands: what each is called with, what it says of itself, and where it is. Help and checks come from it. */
import type { ProviderName } from '../domain.ts'
import type { EnvironmentStatus } from '../schema/environment.ts'
import type { Invocation } from './terminal/output.ts'

/** What a word stands for: decides how it is completed, and is what the help says of it. */
export const meanings = {
  ticket: 'A Jira key, as DROP-2100; small letters do as well.',
  machine: 'A ticket whose machine is there.',
  checkpoint: 'A name of letters, digits and hyphens, at most 41, beginning with a letter or a digit.',
  image: 'A name of small letters, digits and hyphens, at most 41 (agent-swarm-base).',
  shell: 'The shell that is to complete.',
  source: 'What a base image is made of.',
  'command line': 'What stands after -- is passed on as it is.',
  port: "A port of the machine, 3000, or the one here and then the machine's, 8080:3000.",
  delivery: 'What is looked for in each delivery; all of the words must be there.',
  'delivery id': 'The id of a delivery, as bot inbox shows it.',
}
export type Meaning = keyof typeof meanings
type Argument = { name: string; is: Meaning; required?: true; many?: true }
export type Option = {
  type: 'boolean' | 'string'
  says: string
  /** What follows it, as the help shows it. */
  value?: string
  /** The only ones that may. */
  values?: readonly string[]
  short?: string
  /** Decides how its value is completed; without it, `values` does. */
  is?: Meaning
}
export type Command = {
  arguments: readonly Argument[]
  says: string
  /** Lines that its own help adds. */
  more?: readonly string[]
  example: string
  options: Readonly<Record<string, Option>>
  /** Imported when it is called: short commands load nothing of the long ones. Returns the exit code. */
  load: () => Promise<{ run: (invocation: Invocation) => Promise<number> }>
}

const ticket: Argument = { name: 'TICKET', is: 'ticket', required: true }
const machine: Argument = { ...ticket, is: 'machine' }
const json: Option = { type: 'boolean', says: 'Print JSON.' }
const provider: Option = {
  type: 'string',
  value: 'NAME',
  values: ['kvm', 'tart', 'hyperv', 'aws', 'synthetic'] satisfies ProviderName[],
  says: 'The hypervisor to use; by default the first that is available.',
}
const watch: Option = { type: 'boolean', says: 'Show it again every two seconds, until Ctrl-C.' }
const dryRun: Option = { type: 'boolean', says: 'Say what would be done, and do nothing.' }
const detach: Option = { type: 'boolean', says: 'Do it in the background; status shows how it goes.' }
const changing = { 'dry-run': dryRun, detach, json }
const start: Option = {
  type: 'boolean',
  says: 'Start a stopped machine, or wait for one that is being made, without asking.',
}
const port: Option = { type: 'string', value: 'N', says: 'The port to listen on (3000).' }
const dryJson: Option = { type: 'boolean', says: 'With --dry-run: print JSON, one line for each.' }
const dry: Option = {
  type: 'boolean',
  says: 'Decide everything and do nothing: show each delivery with its verdict, the actions and what would be written. What is delivered is kept; the next start without this decides it anew, and acts.',
}
const host: Option = { type: 'string', value: 'ADDRESS', says: 'The address to listen on (127.0.0.1).' }

/** What every command knows. */
export const commonOptions: Readonly<Record<string, Option>> = {
  quiet: { type: 'boolean', short: 'q', says: 'No progress and no sentences: only data, and errors.' },
  verbose: { type: 'boolean', short: 'v', says: 'Show each outside command with its time, as one could paste it.' },
  help: { type: 'boolean', short: 'h', says: 'Show this help.' },
}

const secretFile = (what: string, env: string): Option => ({
  type: 'string',
  value: 'FILE',
  says: `The file that holds ${what} (- is standard input); otherwise ${env}.`,
})

export const commands: Readonly<Record<string, Command>> = {
  init: {
    arguments: [],
    says: 'Set up GitHub, Jira and the hypervisor: asks, tries every answer, and writes config.yaml.',
    more: [
      'Without a terminal it asks nothing: answers come from flags, from the file that is there, and from environment variables',
      '(docs/configuration.md), in this order. Secrets are no arguments, which other users of this machine could read.',
    ],
    example: 'agent-swarm init --github token --github-repositories acme/shop --jira polling --jira-projects DROP',
    options: {
      github: {
        type: 'string',
        value: 'WAY',
        values: ['token', 'new-app', 'app', 'none'],
        says: 'How GitHub is reached: a personal token and polling, an App that GitHub makes now, an App that is there.',
      },
      'github-token-file': secretFile('a personal token', 'GITHUB_TOKEN'),
      'github-repositories': {
        type: 'string',
        value: 'LIST',
        says: 'What is watched by a token, as acme/shop,acme/web.',
      },
      'github-api-url': { type: 'string', value: 'URL', says: 'For GitHub Enterprise Server.' },
      'public-url': { type: 'string', value: 'URL', says: 'With --github new-app: where GitHub reaches the bot.' },
      organization: { type: 'string', value: 'NAME', says: 'With --github new-app: who owns it; otherwise you do.' },
      'app-id': { type: 'string', value: 'N', says: "The App's id." },
      'private-key-file': {
        type: 'string',
        value: 'FILE',
        says: "The file of the App's private key, which stays there.",
      },
      'webhook-secret-file': secretFile("the App's webhook secret", 'WEBHOOK_SECRET'),
      jira: {
        type: 'string',
        value: 'WAY',
        values: ['polling', 'webhook', 'none'],
        says: 'How Jira Cloud is reached: by searching it every minute, or by a webhook.',
      },
      'jira-host': { type: 'string', value: 'NAME', says: 'The site, as example.atlassian.net.' },
      'jira-email': { type: 'string', value: 'ADDRESS', says: 'The account whose token it is.' },
      'jira-token-file': secretFile('its API token', 'JIRA_API_TOKEN'),
      'jira-projects': { type: 'string', value: 'LIST', says: 'The projects whose tickets get machines, as DROP,WEB.' },
      'jira-assignees': { type: 'string', value: 'WHO', says: 'Whose tickets: me, any, or account ids.' },
      'jira-webhook-secret-file': secretFile('the secret of the webhook', 'JIRA_WEBHOOK_SECRET'),
      provider,
      'dry-run': { type: 'boolean', says: 'Ask and try, show what would be written, and write nothing.' },
      json,
    },
    load: () => import('./commands/init.ts'),
  },
  create: {
    arguments: [ticket],
    says: 'Make the machine of a ticket, and wait until it answers over SSH.',
    example: 'agent-swarm create DROP-2100',
    options: { provider, ...changing },
    load: () => import('./commands/create.ts'),
  },
  list: {
    arguments: [],
    says: 'All environments.',
    example: 'agent-swarm list --sort disk --status running',
    options: {
      sort: {
        type: 'string',
        value: 'COLUMN',
        values: ['ticket', 'provider', 'state', 'age', 'checkpoints', 'disk', 'by'],
        says: 'Order by this column (ticket); the largest and the oldest come first.',
      },
      status: {
        type: 'string',
        value: 'STATE',
        values: ['creating', 'running', 'stopped', 'deleting', 'failed', 'lost'] satisfies EnvironmentStatus[],
        says: 'Only those in this state.',
      },
      provider: { ...provider, says: 'Only those of this hypervisor.' },
      watch,
      json,
    },
    load: () => import('./commands/list.ts'),
  },
  ssh: {
    arguments: [
      { name: 'TICKET', is: 'machine' },
      { name: '-- command', is: 'command line', many: true },
    ],
    says: 'Open a shell in the machine, or run a command there. Or, with --config, make each machine a host of ssh itself.',
    example: 'agent-swarm ssh DROP-2100 -- git status',
    options: {
      start,
      config: { type: 'boolean', says: 'Print an OpenSSH host for the ticket, or for all.' },
      install: {
        type: 'boolean',
        says: 'With --config: keep a file of all hosts in ~/.ssh, up to date with each change, and include it. One home of agent-swarm at a time.',
      },
      uninstall: { type: 'boolean', says: 'With --config: take that file and its line away again.' },
      'dry-run': {
        type: 'boolean',
        says: 'With --install or --uninstall: say what would be written, and write nothing.',
      },
      json: { type: 'boolean', says: 'With --config: print JSON.' },
    },
    load: () => import('./commands/ssh.ts'),
  },
  forward: {
    arguments: [machine, { name: 'port', is: 'port', required: true, many: true }],
    says: "Make ports of the machine ports of this one's loopback, until Ctrl-C. 8080:3000 is its port 3000 as 8080 here.",
    example: 'agent-swarm forward DROP-2100 3000 15432:5432',
    options: { start, json },
    load: () => import('./commands/forward.ts'),
  },
  checkpoint: {
    arguments: [ticket, { name: 'name', is: 'checkpoint' }],
    says: 'Make a checkpoint of the machine; without a name, the time is its name.',
    example: 'agent-swarm checkpoint DROP-2100 before-refactor',
    options: {
      delete: { type: 'boolean', says: 'Delete this checkpoint instead; the machine stays as it is.' },
      ...changing,
    },
    load: () => import('./commands/checkpoint.ts'),
  },
  checkpoints: {
    arguments: [ticket],
    says: 'The checkpoints of a machine, oldest first.',
    example: 'agent-swarm checkpoints DROP-2100',
    options: { json },
    load: () => import('./commands/checkpoints.ts'),
  },
  restore: {
    arguments: [ticket, { name: 'name', is: 'checkpoint' }],
    says: 'Bring a checkpoint back, by default the newest. What it replaces is kept as pre-restore-….',
    example: 'agent-swarm restore DROP-2100 before-refactor',
    options: changing,
    load: () => import('./commands/restore.ts'),
  },
  stop: {
    arguments: [ticket],
    says: 'Shut the machine down. Its disk and its checkpoints are kept.',
    example: 'agent-swarm stop DROP-2100',
    options: changing,
    load: () => import('./commands/stop.ts'),
  },
  start: {
    arguments: [ticket],
    says: 'Start a stopped machine, and wait until it answers over SSH.',
    example: 'agent-swarm start DROP-2100',
    options: changing,
    load: () => import('./commands/start.ts'),
  },
  delete: {
    arguments: [ticket],
    says: 'Delete the machine with its checkpoints. Unsaved work in it is saved first; where it cannot be, the machine is stopped and kept.',
    example: 'agent-swarm delete DROP-2100',
    options: {
      force: { type: 'boolean', says: 'Save nothing, and delete it even if work is lost with it.' },
      ...changing,
    },
    load: () => import('./commands/delete.ts'),
  },
  status: {
    arguments: [{ name: 'TICKET', is: 'ticket' }],
    says: 'What this machine has and holds, or everything about one environment and what was done to it last.',
    example: 'agent-swarm status DROP-2100',
    options: { watch, json },
    load: () => import('./commands/status.ts'),
  },
  providers: {
    arguments: [],
    says: 'The hypervisors that are known, and whether they can be used here.',
    example: 'agent-swarm providers',
    options: { json },
    load: () => import('./commands/providers.ts'),
  },
  'init-base': {
    arguments: [{ name: 'name', is: 'image' }],
    says: 'Make the base image that machines are cloned from.',
    example: 'agent-swarm init-base --from debian-12-genericcloud-amd64.qcow2',
    options: {
      from: {
        type: 'string',
        value: 'FILE|debian-packages',
        is: 'source',
        says: 'A cloud image on disk, or "debian-packages": built from the package mirror of this machine.',
      },
      provider,
      'dry-run': dryRun,
      json,
    },
    load: () => import('./commands/init-base.ts'),
  },
  completion: {
    arguments: [
      { name: 'bash|zsh|fish|powershell', is: 'shell', required: true },
      { name: '-- words', is: 'command line', many: true },
    ],
    says: 'Print what makes a shell complete commands, options, tickets and checkpoints.',
    more: [
      'bash, in ~/.bashrc:        eval "$(agent-swarm completion bash)"',
      'zsh, in ~/.zshrc:          eval "$(agent-swarm completion zsh)"     (after compinit)',
      'fish, once:                agent-swarm completion fish > ~/.config/fish/completions/agent-swarm.fish',
      'PowerShell, in $PROFILE:   agent-swarm completion powershell | Out-String | Invoke-Expression',
      'With words, the last of them half typed, it prints what can come next: that is how the shells ask it.',
    ],
    example: 'agent-swarm completion bash',
    options: {},
    load: () => import('./commands/completion.ts'),
  },
  bot: {
    arguments: [],
    says: 'Run the bot: it hears GitHub and Jira, and hands the work to runners.',
    example: 'agent-swarm bot --port 3000',
    options: { port, host, 'dry-run': dry, json: dryJson },
    load: () => import('./commands/bot.ts'),
  },
  'bot inbox': {
    arguments: [{ name: 'filter', is: 'delivery', many: true }],
    says: 'What was delivered, newest first, each with its verdict and why. Filters: a verdict (actions, ignored, refused, failed, waiting), source, event, id, ticket or pull request (acme/shop#7).',
    example: 'agent-swarm bot inbox refused issue_comment',
    options: { limit: { type: 'string', value: 'N', says: 'How many at most (50).' }, json },
    load: () => import('./commands/bot-inbox.ts'),
  },
  'bot audit': {
    arguments: [],
    says: 'Which commands people gave in comments, newest first: who, where, what, whether it was allowed or refused, and why.',
    example: 'agent-swarm bot audit --ticket DROP-2100',
    options: {
      ticket: { type: 'string', value: 'TICKET', is: 'ticket', says: 'Only those about this ticket.' },
      limit: { type: 'string', value: 'N', says: 'How many at most (50).' },
      json,
    },
    load: () => import('./commands/bot-audit.ts'),
  },
  'bot replay': {
    arguments: [{ name: 'id', is: 'delivery id', required: true }],
    says: 'Have one delivery decided again. One that had no effect takes effect; one that had does nothing a second time.',
    example: 'agent-swarm bot replay 0b7e2a52-8f5c-11f0-9d1c-6d4d3a1f0b11',
    options: { json },
    load: () => import('./commands/bot-replay.ts'),
  },
  runner: {
    arguments: [],
    says: 'Run the runner: it asks the bot for work, and does it on this machine.',
    example: 'agent-swarm runner --bot-url https://swarm.example.org',
    options: { 'bot-url': { type: 'string', value: 'URL', says: 'Where the bot is (AGENT_SWARM_BOT_URL).' }, provider },
    load: () => import('./commands/runner.ts'),
  },
  up: {
    arguments: [],
    says: 'Run bot and runner in one process.',
    example: 'agent-swarm up',
    options: { port, host, provider, 'dry-run': dry, json: dryJson },
    load: () => import('./commands/up.ts'),
  },
}

/** `forward <TICKET> <port>...` */
export const usageOf = (name: string, { arguments: all }: Command): string =>
  [
    name,
    ...all.map(one => {
      const more = one.many && one.is !== 'command line' ? '...' : ''
      return one.required ? `<${one.name}>${more}` : `[${one.name}]${more}`
    }),
  ].join(' ')

/** A command's name has one word or two; the rest is what it is called with. */
export const nameIn = (argv: readonly string[]): [name: string | undefined, ...rest: string[]] => {
  const two = argv.slice(0, 2).join(' ')
  return argv.length > 1 && Object.hasOwn(commands, two) ? [two, ...argv.slice(2)] : [argv[0], ...argv.slice(1)]
}
