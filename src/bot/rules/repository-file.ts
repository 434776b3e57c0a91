/**
 * `.github/agent-swarm.yml`: what a repository says of its own pull requests and tickets. Its schema is its parser, its
 * editor's schema and its documentation. It narrows and refines what the operator configured; it can let nobody do more.
 */
import * as v from 'valibot'
import type { Rules } from '../../../handlers/handler.ts'
import { type CommandName, slashCommands } from '../../../handlers/slash-commands.ts'
import {
  assignees,
  closedObject,
  GITHUB_LOGIN,
  imageName,
  integer,
  listOf,
  oneOf,
  pattern,
  projectKey,
} from '../../schema/forms.ts'
import { problemsOf, readYaml } from '../../schema/yaml.ts'

export const REPOSITORY_FILE = '.github/agent-swarm.yml'
/** In characters. A file of rules is a page; a larger one is none. */
const LONGEST = 16_000

/** A form with its meaning and an example, for the editor and the documentation. */
const described = <Form extends v.GenericSchema>(form: Form, says: string, example: v.InferInput<Form>) =>
  v.optional(v.pipe(form, v.description(says), v.examples([example])))

const ending = oneOf('stop', 'delete', 'nothing')
const branch = pattern(/^[^\s~^:?[\\]{1,200}$/, 'is no pattern of a branch: `*` stands for any text')
const somebody = pattern(
  new RegExp(`^(jira:[\\w:.@-]{1,128}|${GITHUB_LOGIN}(/[A-Za-z0-9._-]{1,100})?)$`),
  'is nobody: a login, a team as org/team, or jira:<account id>',
)
const label = pattern(/^\S{1,255}$/, 'is no label of Jira')

export const repositoryFile = closedObject({
  projects: described(
    listOf(projectKey),
    'Of the projects that the bot serves, those whose tickets count in this repository. Without it, all of them. Naming a project also says that its tickets follow the rules of this file.',
    ['DROP'],
  ),
  assignees: described(
    assignees,
    "Whose tickets get machines by themselves: `me` (the bot's own account), `any`, or account ids of Jira. Without it, as the bot is configured.",
    'any',
  ),
  labels: described(
    listOf(label),
    'A ticket must have one of these labels in Jira to get a machine by itself. Without it, none is asked for.',
    ['agent'],
  ),
  branches: described(
    listOf(branch),
    'The branches that count, `*` for any text. Pushes to others, and pull requests from others, do nothing. Without it, every branch counts.',
    ['feature/*', 'fix/*'],
  ),
  baseImage: described(
    imageName,
    "The image that machines are cloned from. It must be there on the runner's hypervisor. Without it, the runner's own.",
    'node-24',
  ),
  size: described(
    closedObject({
      cpus: described(integer(1, 64), 'Virtual CPUs.', 4),
      memoryMiB: described(integer(256, 1_048_576), 'Memory, in MiB.', 8192),
      diskGiB: described(integer(2, 16_384), 'Disk, in GiB.', 60),
    }),
    "What a new machine has, within the runner's limits (`maxCpus`, `maxMemoryMiB`, `maxDiskGiB`). What is not named is the runner's own.",
    { cpus: 4 },
  ),
  closed: described(
    ending,
    'What becomes of the machine when its pull request is closed without a merge. Without it, `stop`.',
    'nothing',
  ),
  merged: described(
    ending,
    'What becomes of it when the pull request is merged. Without it, `delete`. Work that would be lost is saved first; where it cannot be, the machine is kept.',
    'stop',
  ),
  done: described(
    ending,
    'What becomes of it when its ticket is done. Without it, `stop`, and `delete` when the ticket never had a pull request.',
    'delete',
  ),
  commands: described(
    closedObject(
      Object.fromEntries(
        (Object.keys(slashCommands) as CommandName[]).map(name => [name, v.optional(listOf(somebody))]),
      ) as Record<CommandName, v.OptionalSchema<ReturnType<typeof listOf<typeof somebody>>, undefined>>,
    ),
    'Who may give a command, by command: logins, teams as `org/team` (the App then needs to read members), Jira accounts as `jira:<account id>`. Write access is needed all the same. A command that is not named is for everybody who has it.',
    { delete: ['octocat', 'acme/platform'] },
  ),
  graceMinutes: described(
    integer(0, 10_080),
    'Minutes from a merge to its delete. `/swarm start` in that time keeps the machine. Without it, none.',
    30,
  ),
  keep: described(
    closedObject({
      pushCheckpoints: described(integer(1, 100), 'How many checkpoints of pushes are kept. Without it, 5.', 3),
      days: described(
        integer(1, 365),
        'How many days they are kept. Looked at with each push. Without it, without end.',
        14,
      ),
    }),
    'What is kept of automatic checkpoints. Those that people make are kept until they delete them.',
    { pushCheckpoints: 3 },
  ),
})

/** The rules, or every mistake: then none of the file counts. */
export type Read = {
  rules: Rules | null
  /** The projects that it names. */
  named: readonly string[]
  problems: string[]
}

/** What the file says, on top of what the operator configured. `name` is how it is called in what is said of it. */
export const readRepositoryFile = async (content: string, standard: Rules, name = REPOSITORY_FILE): Promise<Read> => {
  const file = await readYaml(content, name, LONGEST)
  const isLines = typeof file.value === 'object' && !Array.isArray(file.value)
  const problems = file.problems.length > 0 || isLines ? file.problems : [`${name} must be lines of "name: value".`]
  if (problems.length > 0) return { rules: null, named: [], problems }
  const parsed = v.safeParse(repositoryFile, file.value)
  if (!parsed.success) return { rules: null, named: [], problems: problemsOf(file, parsed.issues) }
  const said = parsed.output
  const asked = said.projects?.map(key => key.toUpperCase())
  return {
    named: asked ?? [],
    rules: {
      ...standard,
      // It can take away, and never add.
      projects: asked === undefined ? standard.projects : standard.projects.filter(key => asked.includes(key)),
      assignees: said.assignees ?? standard.assignees,
      labels: said.labels ?? standard.labels,
      branches: said.branches ?? standard.branches,
      machine: { ...(said.baseImage === undefined ? {} : { baseImage: said.baseImage }), ...said.size },
      closed: said.closed ?? standard.closed,
      merged: said.merged ?? standard.merged,
      done: said.done ?? standard.done,
      commands: said.commands ?? standard.commands,
      graceMinutes: said.graceMinutes ?? standard.graceMinutes,
      keep: {
        newest: said.keep?.pushCheckpoints ?? standard.keep.newest,
        days: said.keep?.days ?? standard.keep.days,
      },
    },
    problems: (asked ?? []).flatMap((key, at) =>
      standard.projects.includes(key)
        ? []
        : [`${file.at(['projects', at])}: the bot does not serve the project ${key} (JIRA_PROJECTS); it is left out.`],
    ),
  }
}

/** What holds in a repository without a file. */
export const standardRules = ({
  projects,
  assignees,
  jiraCommanders,
}: Pick<Rules, 'projects' | 'assignees' | 'jiraCommanders'>): Rules => ({
  projects,
  assignees,
  labels: [],
  branches: [],
  machine: {},
  closed: 'stop',
  merged: 'delete',
  done: null,
  graceMinutes: 0,
  keep: { newest: 5, days: null },
  commands: {},
  jiraCommanders,
})
