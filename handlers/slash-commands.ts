/** Every command on a pull request: usage, permission, help and meaning in one row. */
import { type Action, checkpointName, type ReplyTo, type Requester, type Ticket } from '../src/domain.ts'
import { nearest } from '../src/nearest.ts'

type Asked = { ticket: Ticket; by: Requester; replyTo: ReplyTo }
type Meaning = { action: Action } | { reply: string; ok: boolean }
export type SlashCommand = {
  usage: string
  says: string
  example: string
  /** How many words may follow, at most. */
  most: number
  /** The one flag it knows. */
  flag?: string
  toAction: (words: readonly string[], asked: Asked, flagged: boolean) => Meaning
}

const NAME_RULE = 'A name has letters, digits and hyphens, at most 41, and begins with a letter or a digit.'
/** A name that was given, `null` when none was, `undefined` when it cannot be one. */
const nameIn = ([word]: readonly string[]) => (word === undefined ? null : (checkpointName(word) ?? undefined))
const badName = (word: string | undefined): Meaning => ({
  reply: `\`${quoted(word ?? '')}\` is no checkpoint name. ${NAME_RULE}`,
  ok: false,
})
/** A stranger's word on our page: nothing in it works as Markdown. */
const quoted = (word: string) => word.replaceAll(/[^\w./:=-]/g, '?').slice(0, 60)

export const slashCommands: Readonly<Record<string, SlashCommand>> = {
  create: {
    usage: 'create',
    says: "Makes the ticket's machine.",
    example: '/swarm create',
    most: 0,
    toAction: (_words, asked) => ({ action: { kind: 'create', ...asked } }),
  },
  status: {
    usage: 'status',
    says: 'Says how the machine is, where it is and what it has.',
    example: '/swarm status',
    most: 0,
    toAction: (_words, asked) => ({ action: { kind: 'status', ...asked } }),
  },
  checkpoint: {
    usage: 'checkpoint [name]',
    says: 'Makes a checkpoint of the machine as it is. Without a name, the time is its name.',
    example: '/swarm checkpoint before-refactor',
    most: 1,
    toAction: (words, asked) => {
      const name = nameIn(words)
      return name === undefined
        ? badName(words[0])
        : { action: { kind: 'checkpoint', name, why: 'command', commit: null, ...asked } }
    },
  },
  checkpoints: {
    usage: 'checkpoints',
    says: 'Lists the checkpoints, oldest first.',
    example: '/swarm checkpoints',
    most: 0,
    toAction: (_words, asked) => ({ action: { kind: 'status', ...asked } }),
  },
  restore: {
    usage: 'restore [name]',
    says: 'Brings a checkpoint back, by default the newest. What it replaces is kept as `pre-restore-…`.',
    example: '/swarm restore before-refactor',
    most: 1,
    toAction: (words, asked) => {
      const name = nameIn(words)
      return name === undefined ? badName(words[0]) : { action: { kind: 'restore', name, ...asked } }
    },
  },
  start: {
    usage: 'start',
    says: 'Starts a stopped machine.',
    example: '/swarm start',
    most: 0,
    toAction: (_words, asked) => ({ action: { kind: 'start', ...asked } }),
  },
  stop: {
    usage: 'stop',
    says: 'Shuts the machine down. Its disk and its checkpoints are kept.',
    example: '/swarm stop',
    most: 0,
    toAction: (_words, asked) => ({ action: { kind: 'stop', ...asked } }),
  },
  delete: {
    usage: 'delete [--force]',
    says: 'Deletes the machine with its checkpoints. Unsaved work in it is saved first; where it cannot be, the machine is stopped and kept. `--force` saves nothing.',
    example: '/swarm delete',
    most: 0,
    flag: '--force',
    toAction: (_words, asked, force) => ({ action: { kind: 'delete', force, ...asked } }),
  },
  help: {
    usage: 'help',
    says: 'Shows this list.',
    example: '/swarm help',
    most: 0,
    toAction: () => ({ reply: help(), ok: true }),
  },
}

export const help = (): string =>
  [
    'Commands, each on a line of its own, for people with write access:',
    '',
    '| Command | What it does | Example |',
    '| --- | --- | --- |',
    ...Object.values(slashCommands).map(
      ({ usage, says, example }) => `| \`/swarm ${usage}\` | ${says} | \`${example}\` |`,
    ),
  ].join('\n')

/** What one command line means: an action, or an answer that needs none. */
export const meaningOf = (words: readonly string[], asked: Asked): Meaning => {
  const [first = 'help', ...rest] = words
  const name = first.toLowerCase()
  const command = Object.hasOwn(slashCommands, name) ? slashCommands[name] : undefined
  if (command === undefined) {
    const near = nearest(name, Object.keys(slashCommands))
    const hint = near === null ? '' : ` Did you mean \`/swarm ${near}\`?`
    return { reply: `There is no command \`${quoted(first)}\`.${hint}\n\n${help()}`, ok: false }
  }
  const flags = rest.filter(word => word.startsWith('-'))
  const plain = rest.filter(word => !word.startsWith('-'))
  if (plain.length > command.most || flags.some(word => word !== command.flag)) {
    return {
      reply: `That is not how \`${name}\` is used: \`/swarm ${command.usage}\`, as in \`${command.example}\`.`,
      ok: false,
    }
  }
  return command.toAction(plain, asked, flags.length > 0)
}
