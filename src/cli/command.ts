/** What a row of the table of commands is, and what help, parsing and completion read out of one. */
import type { Invocation } from './terminal/output.ts'

/** What an argument stands for. Decides how it is completed, and is its help. */
export const argumentHelp = {
  'new ticket': 'A Jira key in any case, for example DROP-2100.',
  ticket:
    'A Jira key in any case, for example DROP-2100, or DROP-2100~1 for an attempt. For an existing machine, also a unique beginning of its id.',
  machine: 'The ticket of an existing machine, or an attempt of it, or a unique beginning of its id.',
  checkpoint: 'Letters, digits and hyphens, at most 41 characters, a letter or a digit first.',
  image: 'Lower-case letters, digits and hyphens, at most 41 characters (agent-swarm-base).',
  shell: 'The shell to complete for.',
  source: 'What to build the base image from.',
  'command line': 'Everything after -- is passed on unchanged.',
  port: "A port of the machine (3000), or a local port and the machine's (8080:3000).",
  delivery: 'A word that a delivery must match. With several, it must match all of them.',
  rescued: 'The name of a rescue, as rescued list shows it, for example DROP-2100-20261123-094500.',
  folder: 'A folder of this host.',
  bundle: 'The file to write, which must not exist yet.',
  runner: 'The name of a runner: lower-case letters, digits, dots and hyphens, at most 63 characters.',
  'known runner': 'The name of a runner, or its id where it has none, as bot runner list shows them.',
  text: 'What it shall know or do.',
  service: 'Which command runs as the service: up (bot and runner), bot or runner. Default: up.',
  attempt: 'An attempt, for example DROP-2100~2.',
  'delivery id': 'The id of a delivery, or a unique beginning of it, as bot inbox shows it.',
}
export type ArgumentKind = keyof typeof argumentHelp
export type Argument = { name: string; kind: ArgumentKind; required?: true; many?: true }
export type Option = {
  type: 'boolean' | 'string'
  help: string
  /** Name of the value in help. */
  value?: string
  /** The allowed values, or what loads them: help and completion of other options do without. */
  values?: readonly string[] | (() => Promise<readonly string[]>)
  short?: string
  /** How the value is completed, when it is not one of `values`. */
  kind?: ArgumentKind
}
export type Command = {
  arguments: readonly Argument[]
  /** At most 64 characters, and fewer beside a long name, so that the overview fits 80 columns. */
  summary: string
  /** More sentences for its own help. */
  details?: string
  /** Lines of its own help that are printed as they are. */
  lines?: readonly string[]
  example: string
  options: Readonly<Record<string, Option>>
  /** Imports the command when it is called, so that short commands load nothing of the long ones. */
  load: () => Promise<{ run: (invocation: Invocation) => Promise<number> }>
}

/** All of them: by name, and the options that each takes. */
export type CommandTable = {
  commands: Readonly<Record<string, Command>>
  commonOptions: Readonly<Record<string, Option>>
}

/** `forward <TICKET> <port>...` */
export const usageOf = (name: string, command: Command): string =>
  [
    name,
    ...command.arguments.map(({ name: argument, kind, required, many }) => {
      const dots = many && kind !== 'command line' ? '...' : ''
      return required ? `<${argument}>${dots}` : `[${argument}]${dots}`
    }),
  ].join(' ')

/** Its summary and details. */
export const descriptionOf = ({ summary, details }: Command): string =>
  details === undefined ? summary : `${summary} ${details}`

/** The values that are allowed; null when all are. */
export const allowedValues = async ({ values }: Option): Promise<readonly string[] | null> =>
  (typeof values === 'function' ? await values() : values) ?? null

/** `The hypervisor to use. One of kvm, tart.` */
export const optionHelp = async (option: Option, code: (value: string) => string = value => value): Promise<string> => {
  const values = await allowedValues(option)
  return values === null ? option.help : `${option.help} One of ${values.map(code).join(', ')}.`
}

/** The names of an option, `-q` and `--quiet`, the longer one with its value. */
export const optionNames = (flag: string, { short, value }: Option): string[] => [
  ...(short === undefined ? [] : [`-${short}`]),
  `--${flag}${value === undefined ? '' : ` ${value}`}`,
]

/** Splits off the name of the command, which has one word to three. */
export const splitName = (
  commands: CommandTable['commands'],
  argv: readonly string[],
): [name: string | undefined, ...rest: string[]] => {
  for (const words of [3, 2]) {
    const name = argv.slice(0, words).join(' ')
    if (argv.length >= words && Object.hasOwn(commands, name)) return [name, ...argv.slice(words)]
  }
  return [argv[0], ...argv.slice(1)]
}
