/** What the guest reports about a bundle that it sends. Nothing in it is believed before the bundle is proven. */
import { fail } from '../../errors.ts'

/** `branch`: the one that was checked out. `refs`: object ids by name. `shallow`: commits whose parents are not in the repository. */
export type BundleReport = { branch: string | null; refs: Map<string, string>; shallow: string[] }

/**
 * Refs of what no branch held: `head` (the commit that was checked out), `worktree`, `staged`, `stash-0` and on, and `reflog-0` and
 * on, the newest commits of those that only reflogs held.
 */
export const RESCUED = 'refs/agent-swarm/rescued/'

const OID = '[0-9a-f]{40}(?:[0-9a-f]{24})?'
const REF_LINE = new RegExp(`^ref\t(${OID})\t(refs/[^\\0-\\x20\\x7f~^:?*[\\\\]{1,500})$`)
const BRANCH_LINE = /^branch\trefs\/heads\/([^\0-\x20\x7f~^:?*[\\]{1,500})$/
const SHALLOW_LINE = new RegExp(`^shallow\t(${OID})$`)

/** Each ref becomes a file on this host. */
const MAX_LINES = 20_000

export const isSha256 = ({ refs }: BundleReport): boolean => [...refs.values()].some(oid => oid.length === 64)
export const countStashes = ({ refs }: Pick<BundleReport, 'refs'>): number =>
  [...refs.keys()].filter(name => name.startsWith(`${RESCUED}stash-`)).length

/** Whether both reports are about the same work. */
export const isSameWork = (one: BundleReport, other: BundleReport): boolean =>
  one.branch === other.branch &&
  one.refs.size === other.refs.size &&
  [...one.refs].every(([name, oid]) => other.refs.get(name) === oid)

/**
 * Reads standard error of the bundle script, where sudo and other programs write as well. `path`: the repository that the bundle
 * must be of. Throws when the guest reports a failure, or anything but a complete report on that repository.
 */
export const parseBundleReport = (stderr: string, path: string): BundleReport => {
  const lines = stderr.split('\n')
  const linesOf = (word: string) => lines.filter(line => line.startsWith(`${word}\t`))
  const failure = linesOf('failed')[0]?.slice('failed\t'.length)
  if (failure !== undefined)
    throw fail(
      'unsaved-work',
      /^[\x20-\x7e]{1,100}$/.test(failure) ? failure : 'the machine reported no readable reason',
    )
  if (lines.findLast(line => line !== '') !== 'end') throw fail('unsaved-work', "the machine's answer was incomplete")
  const paths = linesOf('path')
  if (paths.length !== 1 || paths[0] !== `path\t${path}`)
    throw fail('unsaved-work', 'the repositories of the machine changed during the search')
  if (linesOf('ref').length > MAX_LINES || linesOf('shallow').length > MAX_LINES)
    throw fail('unsaved-work', `the repository has more than ${MAX_LINES} branches, tags and stashes`)
  const refs = linesOf('ref').map(line => line.match(REF_LINE))
  const shallow = linesOf('shallow').map(line => line.match(SHALLOW_LINE))
  if (refs.length === 0 || refs.includes(null) || shallow.includes(null))
    throw fail('unsaved-work', "the machine's answer has an invalid line")
  return {
    branch: linesOf('branch')[0]?.match(BRANCH_LINE)?.[1] ?? null,
    refs: new Map(refs.map(match => [match?.[2] ?? '', match?.[1] ?? ''])),
    shallow: shallow.map(match => match?.[1] ?? ''),
  }
}
