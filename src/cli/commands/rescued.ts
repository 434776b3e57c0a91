/** What was rescued: the list, and one of them. A machine wrote the paths and the names of branches. */
import type { Rescued } from '../../schema/operation.ts'
import { counted } from '../../words.ts'
import type { Output } from '../json.ts'
import { print, printJson, printNote, type RunCommand, stripControls, type Terminal } from '../terminal/output.ts'
import { pairs, table } from '../terminal/table.ts'
import { requesterName, size, when } from '../terminal/text.ts'

const listTable = (all: readonly Rescued[], now: Date, terminal: Terminal): string =>
  table(
    [{ title: 'NAME', whole: true }, 'SAVED', 'SIZE', 'REPOSITORIES'],
    all.map(({ name, savedAt, bytes, repositories }) => [
      name,
      when(savedAt, now, terminal),
      size(bytes),
      stripControls(repositories?.join(', ') ?? 'rescued.json cannot be read'),
    ]),
    terminal,
  )

export const list: RunCommand = async ({ config, json, terminal }) => {
  const { home } = await config()
  const { listRescued } = await import('../../runner/rescue/list.ts')
  const all = await listRescued(home)
  if (json) printJson<'rescued list'>(all, terminal)
  else if (all.length > 0) print(listTable(all, new Date(), terminal), terminal)
  else printNote('Nothing was rescued.', terminal)
  return 0
}

type Details = Output<'rescued show'>

const detailsOf = async (home: string, name: string): Promise<Details> => {
  const { readRescued } = await import('../../runner/rescue/list.ts')
  const { folder, note } = await readRescued(home, name)
  const { ticket, savedAt, by, machine, repositories } = note
  return {
    ...{ name, ticket, savedAt, folder, by, machine },
    repositories: repositories.map(({ commits: _, files: __, refs, branch = null, ...repository }) => ({
      ...repository,
      branch,
      branches: Object.keys(refs).flatMap(ref => (ref.startsWith('refs/heads/') ? [ref.slice(11)] : [])),
    })),
  }
}

const MAX_BRANCHES = 10

const repositoryText = (repository: Details['repositories'][number], terminal: Terminal): string => {
  const { path, uncommitted, untracked, stashes, unpushed, reflog = 0, branch, branches, bundle, bytes } = repository
  const more = branches.length > MAX_BRANCHES ? `, and ${branches.length - MAX_BRANCHES} more` : ''
  const work = [
    ...(uncommitted > 0 ? [counted(uncommitted, 'uncommitted change')] : []),
    ...(untracked > 0 ? [counted(untracked, 'untracked file')] : []),
    ...(stashes > 0 ? [stashes === 1 ? '1 stash' : `${stashes} stashes`] : []),
    ...(unpushed > 0 ? [counted(unpushed, 'unpushed commit')] : []),
    ...(reflog > 0 ? [`${counted(reflog, 'commit')} in the reflog alone`] : []),
  ]
  return pairs(
    [
      ['repository', stripControls(path)],
      ['unsaved work', work.join(', ')],
      ['checked out', stripControls(branch ?? '-')],
      ['branches', stripControls(branches.slice(0, MAX_BRANCHES).join(', ') + more)],
      ['bundle', `${bundle}, ${size(bytes)}`],
    ],
    terminal,
    null,
  )
}

export const show: RunCommand = async ({ config, json, terminal, words }) => {
  const details = await detailsOf((await config()).home, words[0] ?? '')
  if (json) {
    printJson<'rescued show'>(details, terminal)
    return 0
  }
  const { name, ticket, savedAt, folder, by, machine, repositories } = details
  const head = pairs(
    [
      ['name', name],
      ['ticket', ticket],
      ['saved', `${when(savedAt, new Date(), terminal)}, before a delete by ${requesterName(by)}`],
      ['machine', stripControls(`${machine.vmId} (${machine.provider}, ${machine.baseImage})`)],
      ['folder', folder],
    ],
    terminal,
    null,
  )
  print([head, ...repositories.map(repository => `\n${repositoryText(repository, terminal)}`)].join('\n'), terminal)
  printNote(
    `To bring it back: agent-swarm rescued restore ${name}\nBy hand: the commands in ${folder}/rescued.json`,
    terminal,
  )
  return 0
}
