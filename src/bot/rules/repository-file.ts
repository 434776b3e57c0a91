/**
 * `.github/agent-swarm.yml`: a repository's rules for its own pull requests and tickets. Its schema is the parser, the schema for
 * editors and the documentation. It narrows what the operator configured, member by member, and permits nothing more.
 */
import * as v from 'valibot'
import type { Rules } from '../../../handlers/handler.ts'
import { type CommandName, slashCommands } from '../../../handlers/slash-commands.ts'
import {
  assignees,
  closedObject,
  GITHUB_LOGIN,
  integer,
  listOf,
  oneOf,
  pattern,
  projectKey,
} from '../../schema/forms.ts'
import { machineMembers, projectMembers, REPOSITORY_FILE, readFileOfRepository } from '../../schema/repository-file.ts'
import {
  member as described,
  type OperatorAgent,
  type RepositoryAgent,
  type Transitions,
} from '../../schema/workspace.ts'
import { problemsOf } from '../../schema/yaml.ts'

const ending = oneOf('stop', 'delete', 'nothing')
const branch = pattern(/^[^\s~^:?[\\]{1,200}$/, 'is not a branch pattern (`*` stands for any text)')
const commander = pattern(
  new RegExp(`^(jira:[\\w:.@-]{1,128}|${GITHUB_LOGIN}(/[A-Za-z0-9._-]{1,100})?)$`),
  'is not a login, a team (org/team) or a Jira account (jira:<account id>)',
)
const label = pattern(/^\S{1,255}$/, 'is not a Jira label')

export const repositoryFile = closedObject({
  projects: described(
    listOf(projectKey),
    'The projects that this repository serves, among those that the bot lets it serve (`jiraProjects`). Default: all of these. The tickets of a project that is named here follow the rules of this file.',
    ['DROP'],
  ),
  assignees: described(
    assignees,
    "Whose tickets get machines automatically, among those of the bot (`jiraAssignees`): `me` (the bot's own account), or Jira account ids. Default: `any`, all of those.",
    ['5b10a2844c20165700ede21g'],
  ),
  labels: described(
    listOf(label),
    'A ticket needs one of these Jira labels to get a machine automatically. Default: no label is needed.',
    ['agent'],
  ),
  branches: described(
    listOf(branch),
    'The branches that are served, `*` for any text. Pushes to other branches and pull requests from them do nothing. Default: every branch.',
    ['feature/*', 'fix/*'],
  ),
  ...machineMembers,
  closed: described(
    ending,
    'What happens to the machine when its pull request is closed unmerged. Default: `stop`.',
    'nothing',
  ),
  merged: described(
    ending,
    'What happens to the machine when its pull request is merged. Default: `delete`. Unsaved work is saved first; when it cannot be saved, the machine is kept.',
    'stop',
  ),
  done: described(
    ending,
    'What happens to the machine when its ticket is done. Default: `stop`, or `delete` when the ticket never had a pull request.',
    'delete',
  ),
  commands: described(
    closedObject(
      Object.fromEntries(
        (Object.keys(slashCommands) as CommandName[]).map(name => [name, v.optional(listOf(commander))]),
      ) as Record<CommandName, v.OptionalSchema<ReturnType<typeof listOf<typeof commander>>, undefined>>,
    ),
    'Who may give a command, by command: logins, teams as `org/team` (the App then needs permission to read members), Jira accounts as `jira:<account id>`. Write access is needed as well. Default of each command: everybody with write access.',
    { delete: ['octocat', 'acme/platform'] },
  ),
  graceMinutes: described(
    integer(0, 10_080),
    'Minutes from a merge to the delete. `/swarm start` in that time keeps the machine. Default: 0.',
    30,
  ),
  keep: described(
    closedObject({
      pushCheckpoints: described(integer(1, 100), 'How many push checkpoints are kept, 5 at most. Default: 5.', 3),
      days: described(integer(1, 365), 'How many days they are kept, checked at each push. Default: no limit.', 14),
    }),
    'How long automatic checkpoints are kept. Checkpoints that people make are kept until somebody deletes them.',
    { pushCheckpoints: 3 },
  ),
  ...projectMembers,
})

/** `rules` null: the file has errors, and none of it counts. `projects`: those that it names. */
export type ParsedRules = { rules: Rules | null; projects: readonly string[]; problems: string[] }

const narrowed = (ours: Rules['agent'], theirs: RepositoryAgent | undefined): Rules['agent'] =>
  ours === null || theirs?.use === 'none'
    ? null
    : { ...ours, rounds: Math.min(ours.rounds, theirs?.rounds ?? ours.rounds) }

/** Applies the file to the operator's rules. `name`: the file's name in error messages. */
export const readRepositoryFile = async (
  content: string,
  standard: Rules,
  name = REPOSITORY_FILE,
): Promise<ParsedRules> => {
  const file = await readFileOfRepository(content, name)
  if (file.problems.length > 0) return { rules: null, projects: [], problems: file.problems }
  const parsed = v.safeParse(repositoryFile, file.value)
  if (!parsed.success) return { rules: null, projects: [], problems: problemsOf(file, parsed.issues) }
  // The runner reads `workspace` and the limits of `agent` itself.
  const { projects, assignees, baseImage, size, keep, workspace: _, agent, ...rest } = parsed.output
  const named = projects?.map(key => key.toUpperCase())
  return {
    projects: named ?? [],
    rules: {
      ...standard,
      ...rest,
      // The file can take away, and never add: projects, assignees, checkpoints.
      projects: named === undefined ? standard.projects : standard.projects.filter(key => named.includes(key)),
      onlyAssignees: assignees ?? standard.onlyAssignees,
      agent: narrowed(standard.agent, agent),
      machine: { ...(baseImage === undefined ? {} : { baseImage }), ...size },
      keep: {
        newest: Math.min(keep?.pushCheckpoints ?? standard.keep.newest, standard.keep.newest),
        days: keep?.days ?? standard.keep.days,
      },
    },
    problems: (named ?? []).flatMap((key, index) =>
      standard.projects.includes(key)
        ? []
        : [
            `${file.at(['projects', index])}: this repository does not serve the project ${key} (JIRA_PROJECTS); the rest of the file is in effect.`,
          ],
    ),
  }
}

/** The rules of a repository without a file. */
export const standardRules = ({
  projects,
  assignees,
  jiraCommanders,
  agent = null,
  transitions = null,
}: Pick<Rules, 'projects' | 'assignees' | 'jiraCommanders'> & {
  agent?: OperatorAgent | null
  transitions?: Transitions | null
}): Rules => ({
  projects,
  assignees,
  onlyAssignees: 'any',
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
  agent: agent === null ? null : { reporters: agent.reporters ?? 'me', rounds: agent.rounds ?? 0 },
  transitions: transitions ?? {},
})
