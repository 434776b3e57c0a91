/** docs/commands.md and the table in the README, from the table of commands in comments. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { MAX_COMMANDS } from '../../handlers/command-lines.ts'
import { commandsFor, type SlashCommand, slashCommands } from '../../handlers/slash-commands.ts'
import { table } from './words.ts'

const rows = Object.values<SlashCommand>(slashCommands)
const code = (text: string) => `\`${text}\``
const usageOf = ({ usage }: SlashCommand) => code(`/swarm ${usage}`)
const summaryOf = ({ summary }: SlashCommand) => summary
const placeOf = (row: SlashCommand) =>
  commandsFor('jira').includes(row) ? 'pull request, ticket in Jira' : 'pull request'

export const slashPage = (): string => `# Commands in comments

<!-- Made by npm run docs, from handlers/slash-commands.ts. -->

A line \`/swarm <command>\` gives a command, in a comment on a pull request or on a ticket in Jira. On a pull request only comments in its conversation count, not reviews and not comments on lines of code. A comment may give up to ${MAX_COMMANDS} commands, each on a line of its own; they run in their order. A command must stand in a paragraph, as GitHub and Jira show the comment: in code, quotes, panels, expands, lists, tables, footnotes, formulas, headings, between HTML tags (\`<details>\` too), struck through, and after a backslash (\`\\/swarm\`), the line is only text. A mention (\`@octocat\`) in the line is left out, and in Jira colours do not matter. Reading ends where a quoted mail begins: \`On … wrote:\`, \`-----Original Message-----\`, GitHub's "Reply to this email directly", or \`From:\` followed by \`Sent:\`, \`Date:\`, \`To:\` or \`Subject:\`. Edited comments, comments of the bot and everything after the first 10,000 characters give no commands; nor does a comment that has more than 1,000 signs of markup in these.

${table([['Command', 'Effect', 'Example', 'Where'], ...rows.map(row => [usageOf(row), summaryOf(row), code(row.example), placeOf(row)])])}

## Who may give commands

**On a pull request**: everybody who has write access to the repository when the comment is read, except bots. A permission is remembered for ten minutes. Colleagues who may not give commands get a 😕 and no more: in a private repository everybody who can read it; in a public one those who have triage access, and members of its organization who can read it. Comments of others get no answer. On a pull request from a fork, commands do nothing until one of these people has given \`/swarm allow\` with its head commit, and again after each new commit.

**On a ticket in Jira**: its assignee at that moment, and the accounts in \`JIRA_COMMANDERS\`, except apps. The account that the bot writes with may give commands like a person, in comments that the bot did not write. Comments of others get no answer.

A repository can reserve commands for some of these people: \`commands\` in \`.github/agent-swarm.yml\`, see [configuration.md](configuration.md).

## Agents

\`/swarm tell\` and \`/swarm agent\` obey the same rules as every other command, and so do reviews: with \`agent.rounds\`, a review that asks for changes is passed on to the agent of its ticket when its author may give \`/swarm tell\` there. Failed checks are told when their commit is the head of the ticket's branch in the repository itself. Reviews of bots, and everything about a pull request from a fork, are left alone.

Whoever may give \`/swarm logs\` puts the last lines of the logs into a comment. On a public repository everybody can read it: setup scripts and agents may print what was meant for the machine alone. Where that matters, reserve the command (\`{ logs: [acme/platform] }\` in \`.github/agent-swarm.yml\`, or \`logs: []\` for nobody), and read the logs with \`agent-swarm logs\` on the runner's host.

One comment says how an agent ended, on the ticket's open pull request, or on the ticket when it has none. What the agent wrote is quoted there and shown as plain text; nothing in it notifies anybody or gives a command.

## Answers

On a pull request: 👀 when the command is accepted, 🚀 or 😕 when it has ended, and one reply that is edited while the work goes on. On a ticket in Jira: one comment, edited in the same way, with the visibility of the command's comment. Notes without a command, for example that a machine is ready, are visible to everybody who sees the ticket; in a service project that includes its customers. A mistyped command is answered with the nearest one. \`agent-swarm bot audit\` lists who gave which command, and whether it was allowed.
`

const BEGIN = '<!-- commands: made by npm run docs -->'
const END = '<!-- commands end -->'

/** The README with a new table between its marks. */
export const readme = (): string => {
  const text = readFileSync(join(resolve(import.meta.dirname, '../..'), 'README.md'), 'utf8')
  const [[before, ...begins], [, ...ends]] = [text.split(BEGIN), text.split(END)]
  if (begins.length !== 1 || ends.length !== 1) throw new Error(`README.md must have one ${BEGIN} and one ${END}`)
  const commandTable = table([['Command', ''], ...rows.map(row => [usageOf(row), summaryOf(row)])])
  return `${before}${BEGIN}\n\n${commandTable}\n\n${END}${ends[0]}`
}
