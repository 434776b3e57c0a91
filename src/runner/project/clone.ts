/** The project's clone in a machine: git set up, cloned, and the ticket's branch checked out. */
import type { EnvironmentKey, Ticket } from '../../domain.ts'
import { explainBy, fail, isFailure } from '../../errors.ts'
import type { ProjectAccess } from './access.ts'
import { type Branch, chooseBranch } from './branch.ts'
import { answered, askGuest, type Guest } from './guest.ts'

const CLONE_DEADLINE_MS = 30 * 60_000

/** What git's message means for people. git 2.39 */
const explainClone = explainBy([
  [
    /could not read Username|Authentication failed|Repository not found|returned error: 40[134]|terminal prompts disabled/i,
    'permission',
    'Check its name. A private repository needs GitHub settings on this host, or a bot that has them (docs/projects.md).',
  ],
  [/Could not resolve host|Failed to connect|Couldn't connect|timed out|returned error: 5\d\d/i, 'network', null],
  [/No space left on device/i, 'disk-full', 'Give machines a larger disk.'],
])

/** What the gateway says, which has what to do; else what git says, without the address of the link, which is a secret of it. */
const reasonOf = (message: string, { remote, through }: ProjectAccess): string => {
  const told = [...message.matchAll(/^remote: (agent-swarm: .*)$/gm)].map(([, line]) => line)
  if (told.length > 0) return told.join('\n').trim()
  return through === null ? message : message.replaceAll(through, remote)
}

/** A value in a configuration file of git. */
const quoted = (value: string): string => `"${value.replaceAll(/["\\]/g, '\\$&')}"`

/** The forms in which a remote of this host is written. */
const formsOf = (remote: string): string[] => {
  const { host } = new URL(remote)
  return [remote, `git@${host}:`, `ssh://git@${host}/`]
}

/**
 * Settings of git for the whole machine: through whom remotes are reached, that a first push needs no options, and who commits
 * unless a person has said it in a configuration of their own.
 */
const gitConfig = (
  ticket: Ticket,
  { remote, through }: Pick<ProjectAccess, 'remote' | 'through'>,
  /** Whether the machine has our program for pushes, which says so when the runner is away. */
  hasPushProgram: boolean,
): string =>
  [
    '# Written by agent-swarm at each create. Your own settings win: git config --global …',
    '[user]',
    `\tname = ${quoted(`${ticket} (agent-swarm)`)}`,
    `\temail = ${quoted(`${ticket.toLowerCase()}@agent-swarm.invalid`)}`,
    '[push]',
    '\tautoSetupRemote = true',
    ...(through === null
      ? []
      : [`[url ${quoted(through)}]`, ...formsOf(remote).map(form => `\tinsteadOf = ${quoted(form)}`)]),
    ...(through === null || !hasPushProgram
      ? []
      : [
          `[url ${quoted(`agent-swarm::${through}`)}]`,
          ...formsOf(remote).map(form => `\tpushInsteadOf = ${quoted(form)}`),
        ]),
    '',
  ].join('\n')

/** A machine that is reached over SSH has our files. */
const hasPushProgram = ({ provider }: Guest): boolean => provider.runInGuest === undefined

/**
 * Replaces our settings of git in a machine, by another `through`: the link that they name has ended, or has opened.
 */
export const setGitUp = async (
  guest: Guest,
  { ticket, path }: { ticket: Ticket; path: string },
  access: Pick<ProjectAccess, 'remote' | 'through'>,
  signal: AbortSignal,
): Promise<void> => {
  const gitconfig = gitConfig(ticket, access, hasPushProgram(guest))
  await askGuest(guest, 'git-config.sh', { variables: { path, gitconfig } }, { signal })
}

/** The address that a clone of the repository has as its `origin`. */
export const originOf = ({ remote }: Pick<ProjectAccess, 'remote'>, repo: string): string => `${remote}${repo}.git`

/** `ticket`: or `pool`, for a machine that has none yet. Returns the branches of the remote that name it. */
export const cloneRepository = async (
  guest: Guest,
  access: ProjectAccess,
  spec: { ticket: Ticket; repo: string; branch: string | null; path: string },
  signal: AbortSignal,
): Promise<string[]> => {
  const { ticket, repo, path } = spec
  const url = originOf(access, repo)
  const variables = {
    path,
    url,
    ticket,
    wanted: spec.branch ?? '',
    gitconfig: gitConfig(ticket, access, hasPushProgram(guest)),
  }
  const answer = await askGuest(guest, 'clone.sh', { variables }, { signal, deadline: CLONE_DEADLINE_MS }).catch(
    error => {
      if (!isFailure(error) || error.failure.kind !== 'unknown') throw error
      const reason = reasonOf(error.failure.message, access)
      const explained = explainClone(`cloning ${repo}`, reason)
      throw reason.startsWith('agent-swarm: ')
        ? fail(explained.failure.kind, explained.failure.message, null)
        : explained
    },
  )
  return (answered(answer, 'branches') ?? '').split('\n').filter(name => name !== '')
}

export const cloneProject = async (
  guest: Guest,
  access: ProjectAccess,
  spec: { ticket: Ticket; repo: string; branch: string | null; summary: string | null; path: string },
  { projects, signal }: { projects: () => Promise<readonly string[]>; signal: AbortSignal },
): Promise<Branch> => {
  const { ticket, path } = spec
  const remote = await cloneRepository(guest, access, spec, signal)
  const branch = chooseBranch({ ticket, wanted: spec.branch, summary: spec.summary }, remote, await projects())
  const checkout = { path, branch: branch.name, remote: branch.isRemote ? '1' : '' }
  await askGuest(guest, 'checkout.sh', { variables: checkout }, { signal })
  return branch
}

/** Checks a new branch out in an attempt, whose git is its own from then on. The link of its source is none of it. */
export const checkOut = async (
  guest: Guest,
  { ticket, path, branch }: { ticket: EnvironmentKey; path: string; branch: string },
  remote: string,
  signal: AbortSignal,
): Promise<void> => {
  await setGitUp(guest, { ticket, path }, { remote, through: null }, signal)
  await askGuest(guest, 'checkout.sh', { variables: { path, branch, remote: '' } }, { signal })
}
