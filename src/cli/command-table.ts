/** The table of commands: arguments, options, help and file of each. Parsing, help, completion and docs come out of it. */
import { IMAGE_PROFILES } from '../domain.ts'
import type { EnvironmentStatus } from '../schema/environment.ts'
import type { ChangeCommand } from './change-kinds.ts'
import type { Argument, Command, Option } from './command.ts'

const ticket: Argument = { name: 'TICKET', kind: 'ticket', required: true }
const tickets: Argument = { ...ticket, many: true }
const machine: Argument = { ...ticket, kind: 'machine' }
const flag = (help: string): Option => ({ type: 'boolean', help })
const valued = (value: string, help: string): Option => ({ type: 'string', value, help })

const json = flag('Print JSON.')
const provider: Option = {
  ...valued('NAME', 'The hypervisor to use. Default: the first one that is available.'),
  values: async () => (await import('../../providers/index.ts')).providerNames,
}
const watch = flag('Redraw every 2 seconds until Ctrl-C.')
const dryRun = flag('Show what the command would do, without doing it.')
const detach = flag('Run in the background; status shows the progress.')
const changeOptions = { 'dry-run': dryRun, detach, json }
const start = flag('Start a stopped machine, or wait for one that is being created, without asking.')
const limit = valued('N', 'Show at most this many (50).')
const port = valued('N', 'The port to listen on (3000).')
const host = valued('ADDRESS', 'The address to listen on (127.0.0.1).')
const botDryRun = flag(
  'Decide everything and do nothing: show each delivery with its verdict, its actions and what would be written. Deliveries are kept; the next start without this option decides them again, and acts.',
)
const fromBackup = flag(
  'Put the newest good backup in the place of a damaged database, and go on. The damaged file is kept. What the backup had queued is not carried out (bot held).',
)
const home = valued('DIR', 'The AGENT_SWARM_HOME, instead of the variable.')
const log = valued(
  'FILE',
  'Write the log into this file instead of standard error. At 10 MB it goes on as FILE.1, once.',
)
const service: Argument = { name: 'up|bot|runner', kind: 'service' }
const system = flag('The unit of the system, instead of your own. Only with systemd.')
const botDryRunJson = flag('With --dry-run: print JSON, one value a line.')
const secretFile = (secret: string, variable: string): Option =>
  valued('FILE', `File with ${secret} (- reads standard input). Default: ${variable}.`)

/** The commands that change an environment share a file. */
const change =
  (name: Exclude<ChangeCommand, 'delete'>): Command['load'] =>
  async () => ({ run: (await import('./commands/changes.ts')).changes[name] })

/** Options of every command. */
export const commonOptions: Readonly<Record<string, Option>> = {
  quiet: { ...flag('Print only data and errors.'), short: 'q' },
  verbose: { ...flag('Show each outside command with its time, ready to paste.'), short: 'v' },
  help: { ...flag('Show this help.'), short: 'h' },
}

const machineCommands = {
  create: {
    arguments: [{ ...tickets, kind: 'new ticket' }],
    summary: 'Create the machine of a ticket, and wait until SSH answers.',
    details:
      "The project is cloned into it, on the ticket's branch, set up and started (docs/projects.md). Again on a machine whose project is not complete, it goes on. Where there is a bot, a ticket whose machine is on another host is refused.",
    example: 'agent-swarm create DROP-2100',
    options: {
      provider,
      wait: flag('Wait while the host has no room for the machine, and show behind what.'),
      repo: valued('OWNER/NAME', "The repository to clone. Default: the one that serves the ticket's project."),
      ...changeOptions,
    },
    load: change('create'),
  },
  list: {
    arguments: [],
    summary: 'List all machines.',
    example: 'agent-swarm list --sort disk --status running',
    options: {
      sort: {
        ...valued('COLUMN', 'Order by this column (ticket). The largest and the oldest come first.'),
        values: ['ticket', 'provider', 'state', 'age', 'checkpoints', 'disk', 'by'],
      },
      status: {
        ...valued('STATE', 'Show only machines in this state.'),
        values: ['creating', 'running', 'stopped', 'deleting', 'failed', 'lost'] satisfies EnvironmentStatus[],
      },
      provider: { ...provider, help: 'Show only machines of this hypervisor.' },
      watch,
      json,
    },
    load: () => import('./commands/list.ts'),
  },
  status: {
    arguments: [{ name: 'TICKET', kind: 'ticket' }],
    summary: 'Show host capacity, or the details and history of one ticket.',
    example: 'agent-swarm status DROP-2100',
    options: { watch, json },
    load: () => import('./commands/status.ts'),
  },
  reconcile: {
    arguments: [],
    summary: 'Bring registry and hypervisor together, as the runner does.',
    details:
      'Machines come back to what was last asked for; what is gone is marked lost; what nobody knows is adopted, or kept and listed. Nothing that may hold work is removed.',
    example: 'agent-swarm reconcile --dry-run',
    options: { 'dry-run': dryRun, json },
    load: () => import('./commands/reconcile.ts'),
  },
  prune: {
    arguments: [],
    summary: 'Remove disks, images, logs and more that nobody needs.',
    details:
      "Shows what it would remove, why, and what it keeps, and does it when you agree, or with --yes. A disk that no machine has is read first, and unsaved work in it is rescued. What is another home's stays. How long things stay: `retention` in config.yaml.",
    example: 'agent-swarm prune --dry-run',
    options: { 'dry-run': dryRun, yes: { ...flag('Remove it without asking.'), short: 'y' }, json },
    load: () => import('./commands/prune.ts'),
  },
  start: {
    arguments: [tickets],
    summary: 'Start a stopped or paused machine, and wait until SSH answers.',
    example: 'agent-swarm start DROP-2100',
    options: changeOptions,
    load: change('start'),
  },
  stop: {
    arguments: [tickets],
    summary: 'Shut a machine down; its disk and its checkpoints stay.',
    details: 'With --save, its programs go on where they are at the next start, ssh or command that needs it.',
    example: 'agent-swarm stop DROP-2100',
    options: {
      save: flag(
        'Keep its memory on the disk. Not every hypervisor can: agent-swarm providers --json lists those with save.',
      ),
      ...changeOptions,
    },
    load: change('stop'),
  },
  restart: {
    arguments: [tickets],
    summary: 'Stop a machine and start it again, and wait until SSH answers.',
    details: 'A stopped machine is started.',
    example: 'agent-swarm restart DROP-2100',
    options: changeOptions,
    load: change('restart'),
  },
  delete: {
    arguments: [{ name: 'TICKET', kind: 'ticket', many: true }],
    summary: 'Delete a machine with its checkpoints.',
    details:
      'Unsaved work is rescued first. When that fails, the machine is stopped and kept. The attempts of a ticket stay: they are deleted by their own keys. On a terminal, it asks first.',
    example: 'agent-swarm delete DROP-2100',
    options: {
      force: flag('Rescue nothing, and delete even when work is lost. It still asks.'),
      yes: { ...flag('Do not ask.'), short: 'y' },
      stopped: flag('Delete all stopped machines, also those that sleep. Without a terminal, it needs --yes.'),
      'older-than': valued('AGE', 'With --stopped: only machines that were stopped this long ago (12h, 7d, 2w).'),
      ...changeOptions,
    },
    load: () => import('./commands/delete.ts'),
  },
} satisfies Record<string, Command>

const checkpointCommands = {
  checkpoint: {
    arguments: [ticket, { name: 'name', kind: 'checkpoint' }],
    summary: 'Make a checkpoint, named after the time unless you name it.',
    example: 'agent-swarm checkpoint DROP-2100 before-refactor',
    options: { delete: flag('Delete this checkpoint instead; the machine stays as it is.'), ...changeOptions },
    load: change('checkpoint'),
  },
  checkpoints: {
    arguments: [ticket],
    summary: 'List the checkpoints of a machine, oldest first.',
    example: 'agent-swarm checkpoints DROP-2100',
    options: { json },
    load: () => import('./commands/checkpoints.ts'),
  },
  restore: {
    arguments: [ticket, { name: 'name', kind: 'checkpoint' }],
    summary: 'Restore a checkpoint, by default the newest.',
    details:
      'The previous state is kept as checkpoint pre-restore-<time>. Pushed commits and sent messages are not undone.',
    example: 'agent-swarm restore DROP-2100 before-refactor',
    options: {
      cold: flag('Restore the disk alone and boot it: for a memory that does not come back.'),
      ...changeOptions,
    },
    load: change('restore'),
  },
} satisfies Record<string, Command>

const attemptCommands = {
  fork: {
    arguments: [ticket],
    summary: "Make attempts: copies of a ticket's machine.",
    details:
      "Each has its own key (DROP-2100~1) and branch (…-attempt-1), and a copy of the agent's conversation. Where the hypervisor copies only disks, they boot. To keep one: agent-swarm promote.",
    example: 'agent-swarm fork DROP-2100 --count 3',
    options: {
      count: valued('N', 'How many, from 1 to 9 (1).'),
      from: { ...valued('CHECKPOINT', 'From this checkpoint, and not from the present state.'), kind: 'checkpoint' },
      ...changeOptions,
    },
    load: change('fork'),
  },
  promote: {
    arguments: [{ name: 'TICKET~N', kind: 'attempt', required: true }],
    summary: 'Make an attempt the machine of its ticket, and delete the others.',
    details:
      'It deletes the former machine of the ticket with its checkpoints, and the other attempts. Unsaved work is rescued first. When that fails, that machine is stopped and kept as an attempt. On a terminal, it asks first.',
    example: 'agent-swarm promote DROP-2100~2',
    options: { yes: { ...flag('Do not ask.'), short: 'y' }, ...changeOptions },
    load: change('promote'),
  },
} satisfies Record<string, Command>

const reachCommands = {
  ssh: {
    arguments: [
      { name: 'TICKET', kind: 'machine' },
      { name: '-- command', kind: 'command line', many: true },
    ],
    summary: 'Open a shell in a machine, or run a command there.',
    details:
      'With --config, print or install the ssh configuration of the machines, for scp, rsync and editors too. With --via, of a runner on another host, through your own ssh.',
    example: 'agent-swarm ssh DROP-2100 -- git status',
    options: {
      start,
      config: flag('Print the ssh configuration for the ticket, or for all tickets.'),
      install: flag(
        'With --config: keep a file with all hosts in ~/.ssh, updated at each change, and include it in ~/.ssh/config. For one AGENT_SWARM_HOME at a time.',
      ),
      uninstall: flag('With --config: remove that file and its line in ~/.ssh/config.'),
      'dry-run': flag('With --install or --uninstall: show what would be written, without writing it.'),
      json: flag('With --config: print JSON.'),
      stdio: flag(
        "Carry bytes between standard input and output and the machine's SSH server, and wake it first: for ProxyCommand of ssh.",
      ),
      home,
      via: valued(
        'HOST',
        "The host of the runner, as your own ssh names it: agent-swarm ssh runs there. With --config --install: keep a file with that host's machines in ~/.ssh; you log in to them with your own key (authorizedKeys).",
      ),
    },
    load: () => import('./commands/ssh.ts'),
  },
  forward: {
    arguments: [machine, { name: 'port', kind: 'port', many: true }],
    summary: 'Forward ports of the machine to localhost, until Ctrl-C.',
    details: "8080:3000 forwards the machine's port 3000 to the local port 8080. Without ports: those of its project.",
    example: 'agent-swarm forward DROP-2100 3000 15432:5432',
    options: { start, json },
    load: () => import('./commands/forward.ts'),
  },
  logs: {
    arguments: [machine],
    summary: 'Show the logs of setup and start, and what the agent did.',
    details:
      "Without --setup, --start and --agent, all of them. The agent's log is on this host: its machine need not run. The others are in the machine, and are left out while that is stopped.",
    example: 'agent-swarm logs DROP-2100 --setup',
    options: {
      follow: { ...flag('Go on with what is added, until Ctrl-C.'), short: 'f' },
      setup: flag('Show the log of setup.'),
      start: flag('Show the log of start.'),
      agent: flag('Show what the agent did.'),
      json,
    },
    load: () => import('./commands/logs.ts'),
  },
} satisfies Record<string, Command>

const rescuedCommands = {
  'rescued list': {
    arguments: [],
    summary: 'List the work that was saved before deletes.',
    example: 'agent-swarm rescued list',
    options: { json },
    load: async () => ({ run: (await import('./commands/rescued.ts')).list }),
  },
  'rescued show': {
    arguments: [{ name: 'NAME', kind: 'rescued', required: true }],
    summary: 'Show what one rescue holds, and how to restore it by hand.',
    example: 'agent-swarm rescued show DROP-2100-20261123-094500',
    options: { json },
    load: async () => ({ run: (await import('./commands/rescued.ts')).show }),
  },
  'rescued restore': {
    arguments: [
      { name: 'NAME', kind: 'rescued', required: true },
      { name: 'DIR', kind: 'folder' },
    ],
    summary: 'Bring rescued work back; it overwrites nothing.',
    details:
      'Each repository becomes a new one in DIR, with its branches, stashes and uncommitted changes as they were. Default of DIR: a folder named NAME here. With --into, they become branches rescued/NAME/… of the project in a running machine.',
    example: 'agent-swarm rescued restore DROP-2100-20261123-094500 --into DROP-2100',
    options: {
      into: { ...valued('TICKET', "Restore into the project's clone in this running machine."), kind: 'machine' },
      json,
    },
    load: () => import('./commands/rescued-restore.ts'),
  },
} satisfies Record<string, Command>

const agentCommands = {
  'agent start': {
    arguments: [machine],
    summary: 'Start the agent of a machine, in its session if it has one.',
    details: 'The runner starts it (agent-swarm up, or agent-swarm runner).',
    example: 'agent-swarm agent start DROP-2100',
    options: { json },
    load: async () => ({ run: (await import('./commands/agent.ts')).startAgent }),
  },
  'agent stop': {
    arguments: [machine],
    summary: 'Stop the agent of a machine; the machine runs on.',
    example: 'agent-swarm agent stop DROP-2100',
    options: { json },
    load: async () => ({ run: (await import('./commands/agent.ts')).stopAgent }),
  },
  tell: {
    arguments: [machine, { name: 'text', kind: 'text', required: true, many: true }],
    summary: 'Give the agent a message; it goes on in its session.',
    example: "agent-swarm tell DROP-2100 'Use the existing helper.'",
    options: { json },
    load: async () => ({ run: (await import('./commands/agent.ts')).tellAgent }),
  },
  attach: {
    arguments: [machine],
    summary: 'Watch the agent in its machine, with a shell beside it.',
    details: 'In tmux: Ctrl-b d leaves, and the agent goes on.',
    example: 'agent-swarm attach DROP-2100',
    options: { start },
    load: () => import('./commands/attach.ts'),
  },
} satisfies Record<string, Command>

const serverCommands = {
  up: {
    arguments: [],
    summary: 'Run bot and runner in one process.',
    example: 'agent-swarm up',
    options: { port, host, provider, home, log, 'from-backup': fromBackup, 'dry-run': botDryRun, json: botDryRunJson },
    load: () => import('./commands/up.ts'),
  },
  bot: {
    arguments: [],
    summary: 'Run the bot: events of GitHub and Jira become actions.',
    example: 'agent-swarm bot --port 3000',
    options: { port, host, home, log, 'from-backup': fromBackup, 'dry-run': botDryRun, json: botDryRunJson },
    load: () => import('./commands/bot.ts'),
  },
  'bot inbox': {
    arguments: [{ name: 'filter', kind: 'delivery', many: true }],
    summary: 'List deliveries, newest first, with their verdicts.',
    details:
      'Filters: a verdict (actions, ignored, refused, failed, waiting), source, event, id, ticket or pull request (acme/shop#7).',
    example: 'agent-swarm bot inbox refused issue_comment',
    options: { limit, json },
    load: () => import('./commands/bot-inbox.ts'),
  },
  'bot audit': {
    arguments: [],
    summary: 'List the commands given in comments, newest first.',
    details: 'Shows who gave it, where, whether it was allowed, and why.',
    example: 'agent-swarm bot audit --ticket DROP-2100',
    options: { ticket: { ...valued('TICKET', 'Show only this ticket.'), kind: 'ticket' }, limit, json },
    load: () => import('./commands/bot-audit.ts'),
  },
  'bot held': {
    arguments: [],
    summary: 'List what was queued in a restored backup, oldest first.',
    details:
      'After a restore, nothing that the backup had queued is carried out by itself: it may be done long ago. To carry out one: agent-swarm bot replay ID.',
    example: 'agent-swarm bot held',
    options: { limit, json },
    load: () => import('./commands/bot-held.ts'),
  },
  'bot replay': {
    arguments: [{ name: 'id', kind: 'delivery id', required: true }],
    summary: 'Decide a delivery again, or carry out what is held.',
    details:
      'A delivery without an effect takes effect now. One that had an effect does nothing a second time. What bot held lists is queued again.',
    example: 'agent-swarm bot replay 0b7e2a52-8f5c-11f0-9d1c-6d4d3a1f0b11',
    options: { json },
    load: () => import('./commands/bot-replay.ts'),
  },
  'bot runner add': {
    arguments: [{ name: 'NAME', kind: 'runner', required: true }],
    summary: 'Make a token for a runner, and print it once.',
    details:
      'The token says who the runner is. Set it as AGENT_SWARM_RUNNER_TOKEN on the host of the runner; the first runner that shows it keeps it.',
    example: 'agent-swarm bot runner add studio',
    options: {
      as: valued('ID', 'Give the token to a runner that the bot knows, which keeps its tickets (bot runner list).'),
      json,
    },
    load: async () => ({ run: (await import('./commands/bot-runner.ts')).add }),
  },
  'bot runner list': {
    arguments: [],
    summary: 'List the runners, with their names, ids and hosts.',
    example: 'agent-swarm bot runner list',
    options: { json },
    load: async () => ({ run: (await import('./commands/bot-runner.ts')).list }),
  },
  'bot runner revoke': {
    arguments: [{ name: 'NAME', kind: 'runner', required: true }],
    summary: 'Revoke the token of a runner, at once.',
    details: 'Its machines and tickets stay with it. To give it a new token: agent-swarm bot runner add NAME --as ID.',
    example: 'agent-swarm bot runner revoke studio',
    options: { json },
    load: async () => ({ run: (await import('./commands/bot-runner.ts')).revoke }),
  },
  'bot runner forget': {
    arguments: [{ name: 'NAME|ID', kind: 'known runner', required: true }],
    summary: 'Give up a runner that is gone; its tickets are free.',
    details:
      'Shows its machines and what waits for it, and does it when you agree, or with --yes. Its machines count as gone, a comment on each ticket says so, and its token stops working. Refused while it is connected.',
    example: 'agent-swarm bot runner forget studio --yes',
    options: { 'dry-run': dryRun, yes: { ...flag('Do it without asking.'), short: 'y' }, json },
    load: async () => ({ run: (await import('./commands/bot-runner.ts')).forget }),
  },
  runner: {
    arguments: [],
    summary: "Run the runner, which does the bot's actions on this host.",
    example: 'agent-swarm runner --bot-url https://swarm.example.org',
    options: {
      'bot-url': valued('URL', 'The address of the bot (AGENT_SWARM_BOT_URL).'),
      provider,
      home,
      log,
      'from-backup': fromBackup,
    },
    load: () => import('./commands/runner.ts'),
  },
} satisfies Record<string, Command>

const serviceCommands = {
  'service install': {
    arguments: [service],
    summary: 'Keep bot and runner running, also after a reboot.',
    details:
      'With a unit of systemd, an agent of launchd or a scheduled task of Windows, which starts the command again whenever it ends. It takes its settings from config.yaml alone. Again on an unchanged file, it starts the service again when config.yaml was changed since, and else does nothing; a changed file is shown first. Ends with 1 when the service does not run.',
    example: 'agent-swarm service install',
    options: {
      system: flag('Make a unit of the system, as root. Default: one of your own.'),
      user: valued('NAME', 'With --system: who runs it. Default: root.'),
      'user-home': valued(
        'DIR',
        "With --user: that user's AGENT_SWARM_HOME. Default: .agent-swarm in the home folder.",
      ),
      'dry-run': flag('Print the file and what would be run, without doing it.'),
      yes: { ...flag('Replace a file that differs without asking.'), short: 'y' },
      json,
    },
    load: async () => ({ run: (await import('./commands/service.ts')).installService }),
  },
  'service uninstall': {
    arguments: [service],
    summary: 'End the service, and remove its file.',
    details: 'Machines, settings and logs stay.',
    example: 'agent-swarm service uninstall',
    options: { system, 'dry-run': dryRun, json },
    load: async () => ({ run: (await import('./commands/service.ts')).uninstallService }),
  },
  'service status': {
    arguments: [service],
    summary: 'Show whether the service runs, and when it starts.',
    details: 'Ends with 0 also when it does not run: with --json, `running` tells.',
    example: 'agent-swarm service status',
    options: { system, json },
    load: async () => ({ run: (await import('./commands/service.ts')).serviceStatus }),
  },
  'service logs': {
    arguments: [service],
    summary: 'Show the last lines of what the service wrote.',
    example: 'agent-swarm service logs -f',
    options: { system, follow: { ...flag('Go on with what is added, until Ctrl-C.'), short: 'f' } },
    load: async () => ({ run: (await import('./commands/service.ts')).serviceLogs }),
  },
} satisfies Record<string, Command>

const setUpCommands = {
  init: {
    arguments: [],
    summary: 'Set up GitHub, Jira and the hypervisor, and write config.yaml.',
    details:
      'Asks for each answer and tries it. Without a terminal, it asks no questions: answers come from flags, the existing file and environment variables (docs/configuration.md), in this order. Secrets are never arguments, because other users of the host can read those.',
    example: 'agent-swarm init --github token --github-repositories acme/shop --jira polling --jira-projects DROP',
    options: {
      github: {
        ...valued(
          'WAY',
          'How to reach GitHub: a personal token and polling, a new App, an existing App, or not at all.',
        ),
        values: ['token', 'new-app', 'app', 'none'],
      },
      'github-token-file': secretFile('a personal token', 'GITHUB_TOKEN'),
      'github-repositories': valued(
        'LIST',
        'The repositories that may act on tickets, for example acme/shop,acme/web.',
      ),
      'github-api-url': valued('URL', 'The API address of GitHub Enterprise Server.'),
      'public-url': valued(
        'URL',
        'The address at which GitHub and Jira reach the bot; required with --github new-app.',
      ),
      organization: valued('NAME', 'With --github new-app: the organization that owns the App. Default: your account.'),
      'app-id': valued('N', 'The id of the App.'),
      'private-key-file': valued('FILE', 'The file with the private key of the App. It stays where it is.'),
      'webhook-secret-file': secretFile('the webhook secret of the App', 'WEBHOOK_SECRET'),
      jira: {
        ...valued(
          'WAY',
          'How to reach Jira Cloud: poll it every minute, a webhook, polling and a rule of Jira automation, or not at all.',
        ),
        values: ['polling', 'webhook', 'automation', 'none'],
      },
      'jira-host': valued('NAME', 'The site, for example example.atlassian.net.'),
      'jira-email': valued('ADDRESS', 'The account of the API token.'),
      'jira-token-file': secretFile('the API token', 'JIRA_API_TOKEN'),
      'jira-projects': valued(
        'LIST',
        'The projects whose tickets get machines, for example DROP,WEB; with the repositories that serve one, DROP:acme/shop+acme/api.',
      ),
      'jira-assignees': valued('WHO', 'Whose tickets get machines: me, any, or account ids.'),
      'jira-webhook-secret-file': secretFile('the secret of the Jira webhook', 'JIRA_WEBHOOK_SECRET'),
      'jira-automation-secret-file': secretFile('the secret of the automation rule', 'JIRA_AUTOMATION_SECRET'),
      provider,
      'dry-run': flag('Check everything and show what would be written, without writing it.'),
      json,
    },
    load: () => import('./commands/init.ts'),
  },
  doctor: {
    arguments: [],
    summary: 'Check this host, and show a remedy for each problem.',
    details:
      'It looks at the home (modes of files, databases, backups), the hypervisors (tools, permissions, a test guest that boots, network, storage, room, isolation), the runner, and the bot (credentials, webhooks, deliveries, what waits). Nothing is changed. It exits with 1 when there is a problem. With --selftest, it proves a hypervisor by machines of its own, which it makes from the base image, tries and removes; it does not touch yours. With --rebuild-registry, it makes a registry from the machines that the hypervisors have: it shows them first, and does it with --yes. A machine needs the keys in ssh/ of AGENT_SWARM_HOME to be logged in to.',
    example: 'agent-swarm doctor',
    options: {
      selftest: flag(
        'Try everything that agent-swarm needs of the hypervisor, with throw-away machines. Takes minutes; the transcript is kept in proven/ of AGENT_SWARM_HOME.',
      ),
      provider,
      'rebuild-registry': flag('Show which machines a new registry would have, for one that is damaged or lost.'),
      'home-id': valued(
        'ID',
        'With --rebuild-registry, in an empty home: take over the machines of a lost home, which doctor lists with its id.',
      ),
      yes: { ...flag('Rebuild it; the damaged file is kept beside it.'), short: 'y' },
      json,
    },
    load: () => import('./commands/doctor.ts'),
  },
  'support-bundle': {
    arguments: [{ name: 'FILE', kind: 'bundle' }],
    summary: 'Collect checks, state and logs in one file, without secrets.',
    details:
      'The file is a .tar.gz that its owner alone can read, by default in this folder. It holds what doctor says, the settings that are no secret, machines, the journal, counts and rows of the queue without bodies, and logs. Secrets are not collected, and what looks like one is replaced. It says what is in it; look through it before you send it.',
    example: 'agent-swarm support-bundle',
    options: { json },
    load: () => import('./commands/support-bundle.ts'),
  },
  providers: {
    arguments: [],
    summary: 'List the known hypervisors, and whether they work here.',
    example: 'agent-swarm providers',
    options: { json },
    load: () => import('./commands/providers.ts'),
  },
  'init-base': {
    arguments: [{ name: 'name', kind: 'image' }],
    summary: 'Build the base image that machines are cloned from.',
    details:
      'Images stand side by side under their names, and none replaces another. Scripts in base-image.d of AGENT_SWARM_HOME run last in the set-up.',
    example: 'agent-swarm init-base --from debian-12-genericcloud-amd64.qcow2',
    options: {
      from: {
        ...valued(
          'FILE|URL|oci:IMAGE|debian-packages|ami-…',
          'A cloud image on disk or at an https address; debian-packages to build Debian 12 from deb.debian.org; with tart, oci:IMAGE takes a base image from a registry; with aws, an image of AWS. Default with kvm and tart: the cloud image of Ubuntu 24.04.',
        ),
        kind: 'source',
      },
      sha256: valued(
        'HEX',
        'The checksum of the image. Required with a URL; compared before anything reads the image. NAME=HEX is that of a file of a step; several with commas.',
      ),
      profile: {
        ...valued('NAME', 'minimal: what every machine needs. full (default): databases, languages and tools besides.'),
        values: IMAGE_PROFILES,
      },
      skip: valued('STEP,...', 'Steps of the set-up to leave out, for example gcloud,pubsub.'),
      steps: valued('DIR', 'The folder with scripts of your own, instead of base-image.d.'),
      list: flag('List the base images, and what uses them.'),
      delete: { ...valued('NAME', 'Delete a base image that nothing uses.'), kind: 'image' },
      provider,
      'dry-run': dryRun,
      json,
    },
    load: () => import('./commands/init-base.ts'),
  },
  completion: {
    arguments: [
      { name: 'bash|zsh|fish|powershell', kind: 'shell', required: true },
      { name: '-- words', kind: 'command line', many: true },
    ],
    summary: 'Print the script that completes commands, tickets and names.',
    details: 'With words, it prints the candidates for the last of them. The scripts call it this way.',
    lines: [
      'bash, in ~/.bashrc:        eval "$(agent-swarm completion bash)"',
      'zsh, in ~/.zshrc:          eval "$(agent-swarm completion zsh)"     (after compinit)',
      'fish, once:                agent-swarm completion fish > ~/.config/fish/completions/agent-swarm.fish',
      'PowerShell, in $PROFILE:   agent-swarm completion powershell | Out-String | Invoke-Expression',
    ],
    example: 'agent-swarm completion bash',
    options: {},
    // It completes this very table.
    load: async () => ({ run: (await import('./commands/completion.ts')).completionOf({ commands, commonOptions }) }),
  },
} satisfies Record<string, Command>

/** The commands under the headings of the overview. */
export const commandGroups: Readonly<Record<string, Readonly<Record<string, Command>>>> = {
  Machines: machineCommands,
  Checkpoints: checkpointCommands,
  Attempts: attemptCommands,
  'Reach a machine': reachCommands,
  'Rescued work': rescuedCommands,
  Agents: agentCommands,
  'Bot and runner': serverCommands,
  'As a service': serviceCommands,
  'Set-up': setUpCommands,
}
export const commands: Readonly<Record<string, Command>> = Object.assign({}, ...Object.values(commandGroups))
