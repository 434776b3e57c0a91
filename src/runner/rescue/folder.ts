/** The folders of rescued work, `AGENT_SWARM_HOME/rescued/DROP-1-20261123-094500`, and the note that each holds. */
import { join } from 'node:path'
import { type EnvironmentKey, fileNameOf, KEY_FILE_NAME, keyOfFileName, timestamp } from '../../domain.ts'
import { checkName } from '../../errors.ts'
import { shellWord } from '../../shell-word.ts'
import { type BundleReport, countStashes, isSha256, RESCUED } from './bundle-report.ts'

export const NOTE = 'rescued.json'
export const rescuedFolder = (home: string): string => join(home, 'rescued')

const KEY = KEY_FILE_NAME.source.slice(1, -1)
const FOLDER = new RegExp(String.raw`^(${KEY})-(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)(?:-\d{1,3})?$`)
const UNFINISHED = new RegExp(`^\\.new-(${KEY})-[0-9a-f]{8}$`)

/** `attempt` counts from 1: several folders of one second have different names. */
export const folderName = (ticket: EnvironmentKey, savedAt: Date, attempt: number): string =>
  `${fileNameOf(checkName('environment', ticket))}-${timestamp(savedAt)}${attempt === 1 ? '' : `-${attempt}`}`
/** `savedAt` in ISO 8601, UTC. */
export const parseFolderName = (name: string): { ticket: EnvironmentKey; savedAt: string } | null => {
  const [, key = '', year, month, day, hour, minute, second] = name.match(FOLDER) ?? []
  const ticket = keyOfFileName(key)
  return ticket === null ? null : { ticket, savedAt: `${year}-${month}-${day}T${hour}:${minute}:${second}Z` }
}

/** A folder that is not complete yet. `random`: 8 hex digits. */
export const unfinishedName = (ticket: EnvironmentKey, random: string): string =>
  `.new-${fileNameOf(checkName('environment', ticket))}-${random}`
export const parseUnfinishedName = (name: string): EnvironmentKey | null =>
  keyOfFileName(name.match(UNFINISHED)?.[1] ?? '')

/** Part of a file name, from a path in the guest. */
export const slugOf = (path: string): string =>
  path
    .slice(path.lastIndexOf('/') + 1)
    .replaceAll(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[.-]+/, '')
    .slice(0, 40) || 'repository'

/**
 * The shell commands that bring a repository back into the new folder `name`. `file`: the path of the bundle without its ending.
 * The only text of the guest in them is `name`, made by `slugOf`.
 */
export const getBackCommands = (ticket: EnvironmentKey, name: string, file: string, report: BundleReport): string[] => {
  const has = (part: string) => report.refs.has(RESCUED + part)
  const stashes = countStashes(report)
  const hasOthers = [...report.refs.keys()].some(
    ref => !/^refs\/(?:heads|tags|agent-swarm|stash|replace)(?:\/|$)/.test(ref),
  )
  return [
    `git init ${isSha256(report) ? '--object-format=sha256 ' : ''}${name}`,
    ...(report.shallow.length === 0 ? [] : [`cp ${shellWord(`${file}.shallow`)} ${name}/.git/shallow`]),
    `git -C ${name} fetch ${shellWord(`${file}.bundle`)} '+refs/agent-swarm/*:refs/*' '+refs/heads/*:refs/rescued/heads/*'${hasOthers ? " '+refs/*:refs/rescued/*'" : ''}`,
    ...(has('head') ? [`git -C ${name} switch -c rescued-${fileNameOf(ticket)} refs/rescued/head`] : []),
    ...(has('worktree') ? [`git -C ${name} restore --source=refs/rescued/worktree --worktree .`] : []),
    ...(has('staged') ? [`git -C ${name} restore --source=refs/rescued/staged --staged .`] : []),
    // The oldest stash first, which restores their order.
    ...Array.from({ length: stashes }, (_, index) => stashes - 1 - index).map(
      index => `git -C ${name} stash store -m 'rescued stash ${index}' refs/rescued/stash-${index}`,
    ),
  ]
}

/** The explanation in each note. */
export const HOW = [
  'Each bundle is complete: it needs no remote, and holds every branch, tag, note, other ref and stash with its history (of a shallow clone: as far as the clone had it).',
  'The working tree is the commit refs/agent-swarm/rescued/worktree. The staged changes are the commit refs/agent-swarm/rescued/staged. Both are there where they differ from their parent refs/agent-swarm/rescued/head, the commit that was checked out.',
  'Commits that only reflogs held are refs/agent-swarm/rescued/reflog-0 and on, and their ancestors.',
  'Files are as they were on disk: no filter or line-ending conversion was applied.',
  'Not included: files that git ignores (but those of `workspace.save`), the configuration and hooks of the repository, remote-tracking branches, files of Git LFS and git-annex that are unchanged since their commit (the bundle has their pointers).',
  'What `--autostash` of a rebase or merge put aside is among the stashes, after the others.',
  'A submodule, another work tree or a repository inside another one has a bundle of its own when it had unsaved work.',
  'The commands in "getBack" make a new repository. To use a clone that you have, leave out "git init" and "cp".',
].join(' ')
