/** The table of commands, and the way into one. */
import { parseArgs } from 'node:util'
import { readConfig } from '../config.ts'
import { failureOf } from '../errors.ts'
import { type Command, print, printJson, tell } from './command.ts'

const json = { type: 'boolean', says: 'Print JSON.' } as const
const provider = {
  type: 'string',
  value: 'NAME',
  says: 'The hypervisor to use; by default the first that is available.',
} as const

export const commands: Readonly<Record<string, Command>> = {
  create: {
    arguments: '<TICKET>',
    says: 'Make the machine of a ticket, and wait until it answers over SSH.',
    example: 'agent-swarm create DROP-2100',
    options: { provider, json },
    load: () => import('./create.ts'),
  },
  list: {
    arguments: '',
    says: 'All environments.',
    example: 'agent-swarm list --json',
    options: { json },
    load: () => import('./list.ts'),
  },
  ssh: {
    arguments: '<TICKET> [-- command]',
    says: 'Open a shell in the machine, or run a command there.',
    example: 'agent-swarm ssh DROP-2100 -- git status',
    options: {},
    load: () => import('./ssh.ts'),
  },
  checkpoint: {
    arguments: '<TICKET> [name]',
    says: 'Make a checkpoint of the machine; without a name, the time is its name.',
    example: 'agent-swarm checkpoint DROP-2100 before-refactor',
    options: { json },
    load: () => import('./checkpoint.ts'),
  },
  checkpoints: {
    arguments: '<TICKET>',
    says: 'The checkpoints of a machine, oldest first.',
    example: 'agent-swarm checkpoints DROP-2100',
    options: { json },
    load: () => import('./checkpoints.ts'),
  },
  restore: {
    arguments: '<TICKET> [name]',
    says: 'Bring a checkpoint back, by default the newest. What it replaces is kept as pre-restore-….',
    example: 'agent-swarm restore DROP-2100 before-refactor',
    options: { json },
    load: () => import('./restore.ts'),
  },
  stop: {
    arguments: '<TICKET>',
    says: 'Shut the machine down. Its disk and its checkpoints are kept.',
    example: 'agent-swarm stop DROP-2100',
    options: { json },
    load: () => import('./stop.ts'),
  },
  start: {
    arguments: '<TICKET>',
    says: 'Start a stopped machine, and wait until it answers over SSH.',
    example: 'agent-swarm start DROP-2100',
    options: { json },
    load: () => import('./start.ts'),
  },
  delete: {
    arguments: '<TICKET>',
    says: 'Delete the machine with its checkpoints. One that holds unsaved work is stopped and kept instead.',
    example: 'agent-swarm delete DROP-2100',
    options: { force: { type: 'boolean', says: 'Delete it even if work is lost with it.' }, json },
    load: () => import('./delete.ts'),
  },
  status: {
    arguments: '[TICKET]',
    says: 'This host and its environments, or everything about one.',
    example: 'agent-swarm status DROP-2100',
    options: { json },
    load: () => import('./status.ts'),
  },
  providers: {
    arguments: '',
    says: 'The hypervisors that are known, and whether they can be used here.',
    example: 'agent-swarm providers',
    options: { json },
    load: () => import('./providers.ts'),
  },
  'init-base': {
    arguments: '[name]',
    says: 'Make the base image that machines are cloned from.',
    example: 'agent-swarm init-base --from debian-12-genericcloud-amd64.qcow2',
    options: {
      from: {
        type: 'string',
        value: 'FILE|debian-packages',
        says: 'A cloud image on disk, or "debian-packages": built from the package mirror of this machine.',
      },
      provider,
      json,
    },
    load: () => import('./init-base.ts'),
  },
  bot: {
    arguments: '',
    says: 'Run the bot: it hears GitHub and Jira, and hands the work to runners.',
    example: 'agent-swarm bot --port 3000',
    options: {
      port: { type: 'string', value: 'N', says: 'The port to listen on (3000).' },
      host: { type: 'string', value: 'ADDRESS', says: 'The address to listen on (127.0.0.1).' },
    },
    load: () => import('./bot.ts'),
  },
  runner: {
    arguments: '',
    says: 'Run the runner: it asks the bot for work, and does it on this machine.',
    example: 'agent-swarm runner --bot-url https://swarm.example.org',
    options: { 'bot-url': { type: 'string', value: 'URL', says: 'Where the bot is (AGENT_SWARM_BOT_URL).' }, provider },
    load: () => import('./runner.ts'),
  },
  up: {
    arguments: '',
    says: 'Run bot and runner in one process.',
    example: 'agent-swarm up',
    options: {
      port: { type: 'string', value: 'N', says: 'The port to listen on (3000).' },
      host: { type: 'string', value: 'ADDRESS', says: 'The address to listen on (127.0.0.1).' },
      provider,
    },
    load: () => import('./up.ts'),
  },
}

const usageOf = (name: string, command: Command) => `${name}${command.arguments === '' ? '' : ` ${command.arguments}`}`

const help = async (): Promise<string> => {
  const { columns } = await import('./command.ts')
  return [
    'One ticket, one virtual machine.',
    '',
    'Usage: agent-swarm <command> [arguments]',
    '',
    columns(Object.entries(commands).map(([name, command]) => [`  ${usageOf(name, command)}`, command.says])),
    '',
    'agent-swarm <command> --help tells more. Exit status: 0 done, 1 failed, 2 wrong usage.',
  ].join('\n')
}

const helpOf = async (name: string, command: Command): Promise<string> => {
  const { columns } = await import('./command.ts')
  const options = Object.entries(command.options).map(([flag, { value, says }]) => [
    `  --${flag}${value === undefined ? '' : ` ${value}`}`,
    says,
  ])
  return [
    `Usage: agent-swarm ${usageOf(name, command)}${options.length === 0 ? '' : ' [options]'}`,
    '',
    command.says,
    ...(options.length === 0 ? [] : ['', 'Options:', columns(options)]),
    '',
    `Example: ${command.example}`,
  ].join('\n')
}

/** Ctrl-C and SIGTERM ask to end; what is under way undoes or finishes itself. The second Ctrl-C ends at once. */
const endingSignal = (): AbortSignal => {
  const ending = new AbortController()
  const ask = () => {
    if (ending.signal.aborted) {
      tell('Ended at once. What was left half-done is settled by the next command or the runner.')
      process.exit(130)
    }
    ending.abort()
  }
  process.on('SIGINT', ask)
  process.on('SIGTERM', ask)
  return ending.signal
}

export const main = async (argv: string[]): Promise<number> => {
  const [name, ...rest] = argv
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    const about = name === 'help' ? rest[0] : undefined
    const command = about === undefined ? undefined : commands[about]
    print(command === undefined || about === undefined ? await help() : await helpOf(about, command))
    return name === undefined ? 2 : 0
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (command === undefined) {
    tell(
      `agent-swarm: there is no command "${name}".\nThe commands: ${Object.keys(commands).join(', ')}. More: agent-swarm --help`,
    )
    return 2
  }
  let asJson = false
  try {
    let parsed: ReturnType<typeof parseArgs>
    try {
      const options = Object.fromEntries(Object.entries(command.options).map(([flag, { type }]) => [flag, { type }]))
      parsed = parseArgs({
        args: rest,
        allowPositionals: true,
        options: { ...options, help: { type: 'boolean', short: 'h' } },
      })
    } catch (error) {
      tell(
        `agent-swarm ${name}: ${error instanceof Error ? error.message : error}\nUsage: agent-swarm ${usageOf(name, command)}`,
      )
      return 2
    }
    const flags = parsed.values as Record<string, string | boolean | undefined>
    if (flags.help === true) {
      print(await helpOf(name, command))
      return 0
    }
    asJson = flags.json === true
    const text = (flag: string) => (typeof flags[flag] === 'string' ? flags[flag] : undefined)
    const { run } = await command.load()
    return await run({
      words: parsed.positionals,
      flags,
      json: asJson,
      signal: endingSignal(),
      config: () => {
        const given = { provider: text('provider'), port: text('port'), host: text('host'), botUrl: text('bot-url') }
        return readConfig(Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)))
      },
    })
  } catch (error) {
    const failure = failureOf(error, name)
    if (asJson) printJson({ error: failure })
    tell(`agent-swarm ${name}: ${failure.message}${failure.remedy === null ? '' : `\n${failure.remedy}`}`)
    return failure.kind === 'usage' ? 2 : 1
  }
}
