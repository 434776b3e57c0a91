/**
 * Brings rescued work back into the project's clone in a running machine, as branches `rescued/<name>/…`. A push by git does it:
 * it overwrites nothing, and the machine takes the objects in as from anybody else.
 */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Provider } from '../../../providers/provider.ts'
import { fail, failureOf } from '../../errors.ts'
import type { EnvironmentRow } from '../../registry/registry.ts'
import { shellWord } from '../../shell-word.ts'
import { sshArguments } from '../ssh/options.ts'
import { RESCUED } from './bundle-report.ts'
import { rescuedFolder, unfinishedName } from './folder.ts'
import { fetchBundle, gitIn, type RepositoryGit, refsOf } from './host-repository.ts'
import { readRescued } from './list.ts'
import { type HostGit, openHostGit } from './proof.ts'
import { type NotedRepository, openDeadline, type RestoreTools } from './restore.ts'

type Machine = { provider: Provider; row: Pick<EnvironmentRow, 'ticket' | 'vmId'>; projectPath: string }

/** A shallow history is taken as far as it goes. */
const RECEIVE = '--receive-pack=git -c receive.shallowUpdate=true receive-pack'
const PLACE = 'machine'

/** The command that git runs instead of ssh, with the host and the guest's command as its last arguments. */
const transport = async (home: string, { provider, row }: Machine): Promise<Record<string, string>> => {
  const wrap = (script: string) => ({
    GIT_SSH_COMMAND: `sh -c ${shellWord(script)} sh`,
    GIT_SSH_VARIANT: 'simple',
    GIT_ALLOW_PROTOCOL: 'ssh',
  })
  const shell = await provider.shellInGuest?.(row.vmId, null)
  if (shell?.env.HOME !== undefined)
    return wrap(`HOME=${shellWord(shell.env.HOME)}; export HOME; cd "$HOME" && eval "$2"`)
  const ssh = await provider.sshInfo(row.vmId)
  const argv = [...sshArguments(home, row.vmId, ssh), '-o', 'BatchMode=yes', '-T', '--', ssh.host]
  return wrap(`exec ssh ${argv.map(shellWord).join(' ')} "$2"`)
}

/** `~/shop` of the machine's user, who logs in there, or a path that begins at the root. */
const remoteOf = ({ projectPath }: Machine): string => `${PLACE}:${projectPath.replace(/^~\//, '')}`

/** What the guest has: refs and their ids. Text that is no ref is left out. */
const guestRefs = async (git: RepositoryGit, remote: string): Promise<Map<string, string>> =>
  new Map(
    (await git('listing the branches of the machine', ['ls-remote', '--quiet', remote])).split('\n').flatMap(line => {
      const [, oid, ref] = line.match(/^([0-9a-f]{40,64})\t(refs\/\S+)$/) ?? []
      return oid === undefined || ref === undefined ? [] : [[ref, oid] as const]
    }),
  )

/** Where each ref goes. Branches and tags that the machine has as they are go nowhere. */
const destinations = (
  refs: ReadonlyMap<string, string>,
  theirs: ReadonlyMap<string, string>,
  prefix: string,
): Map<string, string> => {
  const goals = new Map<string, string>()
  for (const [ref, oid] of refs) {
    if (theirs.get(ref) === oid) continue
    if (ref.startsWith(RESCUED)) goals.set(ref, `refs/heads/${prefix}/${ref.slice(RESCUED.length)}`)
    else if (ref.startsWith('refs/heads/')) goals.set(ref, `refs/heads/${prefix}/${ref.slice('refs/'.length)}`)
    else if (ref.startsWith('refs/tags/')) goals.set(ref, `refs/tags/${prefix}/${ref.slice('refs/tags/'.length)}`)
    // What these name need not be commits, and only a commit can be a branch.
    else goals.set(ref, `refs/${prefix}/${ref.slice('refs/'.length)}`)
  }
  return goals
}

/** Refs that one command line takes. */
const AT_ONCE = 500

const pushRepository = async (
  git: HostGit,
  remoteGit: HostGit,
  { work, bundle, remote, prefix }: { work: string; bundle: string; remote: string; prefix: string },
  repository: NotedRepository,
): Promise<string[]> => {
  const local = await fetchBundle(git, work, bundle, repository)
  const far = gitIn(remoteGit, work, repository.bytes)
  const theirs = await guestRefs(far, remote)
  const goals = destinations(await refsOf(local, 'refs'), theirs, prefix)
  const refs = await refsOf(local, 'refs')
  for (const [ref, goal] of goals) {
    const existing = theirs.get(goal)
    if (existing !== undefined && existing !== refs.get(ref))
      throw fail(
        'already-exists',
        `the machine has another ${goal}, and nothing is overwritten`,
        'Rename that branch in the machine.',
      )
  }
  // git 2.39 takes one ref at a time from a shallow repository.
  const atOnce = existsSync(join(work, '.git', 'shallow')) ? 1 : AT_ONCE
  const refspecs = [...goals].map(([ref, goal]) => `${ref}:${goal}`)
  for (let at = 0; at < refspecs.length; at += atOnce)
    await far('pushing to the machine', [
      'push',
      '--quiet',
      '--no-verify',
      RECEIVE,
      remote,
      ...refspecs.slice(at, at + atOnce),
    ])
  return [...goals.values()].map(goal => goal.replace(/^refs\/(?:heads\/)?/, ''))
}

/** Returns the new branches and tags of each repository. The caller holds the lock of the machine's ticket. */
export const restoreIntoMachine = async (
  tools: RestoreTools,
  name: string,
  machine: Machine,
): Promise<{ path: string; branches: string[] }[]> => {
  const { home, run, signal, onPhase } = tools
  const { folder, note } = await readRescued(home, name)
  const left = openDeadline()
  const git = openHostGit(run, signal, left)
  const remoteGit = openHostGit(run, signal, left, await transport(home, machine))
  const restored: { path: string; branches: string[] }[] = []
  for (const repository of note.repositories) {
    onPhase(`restoring ${repository.path}`)
    // A process that dies leaves what the next sweep removes.
    const work = join(rescuedFolder(home), unfinishedName(machine.row.ticket, randomBytes(4).toString('hex')))
    const part = note.repositories.length === 1 ? '' : `/${repository.bundle.replace(/\.bundle$/, '')}`
    await mkdir(work, { mode: 0o700 })
    try {
      const bundle = join(folder, repository.bundle)
      const where = { work, bundle, remote: remoteOf(machine), prefix: `rescued/${name}${part}` }
      restored.push({ path: repository.path, branches: await pushRepository(git, remoteGit, where, repository) })
    } catch (error) {
      const { kind, message, remedy } = failureOf(error, 'restoring it')
      throw fail(kind, `restoring ${repository.path} into ${machine.row.ticket}: ${message}`, remedy, error)
    } finally {
      await rm(work, { recursive: true, force: true })
    }
  }
  return restored
}
