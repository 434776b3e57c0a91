/** Commands in comments, of their table: a page, and the table in the README. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { MAX_COMMANDS } from '../../handlers/command-lines.ts'
import { commandsFor, type SlashCommand, slashCommands } from '../../handlers/slash-commands.ts'
import { table } from './words.ts'

const all = Object.values<SlashCommand>(slashCommands)
const onGitHubAlone = all.filter(one => !commandsFor('jira').includes(one))
const code = (text: string) => `\`${text}\``

export const slashPage = (): string => `# Commands in comments

<!-- Made by npm run docs, of handlers/slash-commands.ts. -->

A line \`/swarm <command>\` in a comment on a pull request, or on a ticket in Jira, gives a command. On a pull request that is a comment in its conversation: reviews, and comments on lines of code, are not read. One comment may give ${MAX_COMMANDS}, each on a line of its own; they are done in their order. A command is a line of a paragraph: in code, quotes, panels, expands, lists, tables, headings and HTML, or behind a backslash (\`\\/swarm\`), it is talk about commands, and gives none. Neither does an edited comment, one that the bot wrote, or what stands behind the first 10,000 characters.

${table([
  ['Command', 'What it does', 'Example', 'Given on'],
  ...all.map(one => [
    code(`/swarm ${one.usage}`),
    one.summary,
    code(one.example),
    onGitHubAlone.includes(one) ? 'pull request' : 'pull request, ticket in Jira',
  ]),
])}

## Who may

**On a pull request**, whoever has write access to the repository when the comment is read, and no bot. A comment by anybody else gets no answer. On a pull request from a fork nothing is done until one of them has given \`/swarm allow\` with its head commit, and no more once it has another head.

**On a ticket in Jira**, its assignee at that moment, and the accounts of \`JIRA_COMMANDERS\`, and no app. The account that the bot writes with may command as anybody, by comments that are not the bot's. A comment by anybody else gets no answer.

A repository can keep single commands for some of them: \`commands\` in \`.github/agent-swarm.yml\`, see [configuration.md](configuration.md).

## What is answered

On a pull request: 👀 when it was heard, 🚀 or 😕 when it is done, and one reply that is edited as the work goes on. On a ticket in Jira: one comment, which is edited likewise and shown to those alone who may read the question. What nobody asked for, as that a machine is ready, is shown to whoever sees the ticket: in a service project, to its customers too. A mistyped command is answered with the nearest one. Who gave which command, and whether it was allowed: \`agent-swarm bot audit\`.
`

const BEGIN = '<!-- commands: made by npm run docs -->'
const END = '<!-- commands end -->'

/** The README with the table between its marks made anew. */
export const readme = (): string => {
  const text = readFileSync(join(resolve(import.meta.dirname, '../..'), 'README.md'), 'utf8')
  const [before, after] = [text.split(BEGIN), text.split(END)]
  if (before.length !== 2 || after.length !== 2) throw new Error(`README.md has not one ${BEGIN} and one ${END}`)
  const rows = table([['Command', ''], ...all.map(one => [code(`/swarm ${one.usage}`), one.summary])])
  return `${before[0]}${BEGIN}\n\n${rows}\n\n${END}${after[1]}`
}
