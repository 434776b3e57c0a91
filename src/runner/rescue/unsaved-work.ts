/** Work at risk: what would be gone with the machine. Asked in the guest, by a script; its answer is hostile until parsed. */
import type { UnsavedWork } from '../../schema/environment.ts'

/** At most this many repositories are looked at; of more it is not known. */
const MOST_REPOSITORIES = 200

/**
 * How both scripts begin: `$found` is the list of repositories (their `.git`, a line each, sorted), `look_at LINE` takes
 * one, and `at` runs git in it. As its owner, with no config but the repository's own, no hook, no fsmonitor and no
 * transport: what a repository says about programs to run is run by nobody who could not run them anyway.
 */
export const repositoriesScript = `
set -u
roots=\${AGENT_SWARM_GUEST_ROOTS:-/home /root /srv /opt /work /workspace}
export LC_ALL=C HOME=/nonexistent XDG_CONFIG_HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
export GIT_TERMINAL_PROMPT=0 GIT_OPTIONAL_LOCKS=0 GIT_NO_REPLACE_OBJECTS=1 GIT_ALLOW_PROTOCOL=none
me=$(id -u)
found=$(printf '%s\\n' "$roots" | { if [ -z "\${AGENT_SWARM_GUEST_ROOTS:-}" ]; then tr ' ' '\\n'; else cat; fi; } |
  while IFS= read -r root; do find "$root" -xdev -name .git -prune 2>/dev/null; done | sort -u)
if [ "$(printf '%s\\n' "$found" | wc -l)" -gt ${MOST_REPOSITORIES} ]; then echo 'too-many'; exit 0; fi
if [ -n "$found" ] && ! command -v git >/dev/null; then echo 'no-git'; exit 0; fi
look_at() {
  dotgit=$1
  repo=\${dotgit%/.git}
  owner=$(ls -lnLd -- "$dotgit" 2>/dev/null | awk 'NR == 1 { print $3 }')
  group=$(ls -lnLd -- "$dotgit" 2>/dev/null | awk 'NR == 1 { print $4 }')
  shown=$(printf '%s' "$repo" | tr -c '[:print:]' '?' | cut -c 1-200)
}
as_owner() {
  if [ "$owner" = "$me" ]; then "$@"; else setpriv --reuid "$owner" --regid "$group" --clear-groups -- "$@"; fi
}
plain_git() { as_owner git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.untrackedCache=false "$@"; }
at() { plain_git -c safe.directory='*' -c core.quotePath=true -C "$repo" "$@" 2>/dev/null </dev/null; }
`

/**
 * Looks at every git repository under the folders where people and agents work: one line each, tab-separated, the path
 * last; `end` proves that the answer is whole. A repository that git cannot read is at risk: `?` is no zero. A repository
 * inside another one, submodule or not, is looked at as one of its own, so its outer one counts no more of it than the
 * commit that it stands at.
 */
export const unsavedWorkScript = `${repositoriesScript}
lines() { printf '%s\\n' "$1" | grep -c . || :; }
count() { if out=$(at "$@"); then lines "$out"; else echo '?'; fi; }
difference() { at diff --name-only --no-renames --ignore-submodules=dirty "$@"; }
printf '%s\\n' "$found" | while IFS= read -r dotgit; do
  [ -n "$dotgit" ] || continue
  look_at "$dotgit"
  head=$(at rev-parse -q --verify 'HEAD^{commit}') && base=$head || { head=; base=$(at hash-object -t tree --stdin); }
  uncommitted='?' untracked='?'
  # Both the working tree and the index: what was staged and then changed back is in the index alone.
  if in_tree=$(difference "$base" --) && in_index=$(difference --cached "$base" --) && others=$(at ls-files --others --exclude-standard); then
    changed=$(printf '%s\\n%s\\n' "$in_tree" "$in_index" | sort -u)
    inner=$(printf '%s\\n' "$others" | grep '/"\\{0,1\\}$' || :)
    others=$(printf '%s\\n' "$others" | grep -v '/"\\{0,1\\}$' || :)
    uncommitted=$(lines "$changed")
    # Without those that are out of the index and still there: they are counted already.
    untracked=$(($(lines "$(printf '%s\\n%s\\n' "$changed" "$others" | sort -u)") - uncommitted))
    if [ -n "$inner" ] && printf '%s\\n' "$inner" | while IFS= read -r one; do
      printf '%s\\n' "$found" | grep -Fxq -- "$repo/\${one}.git" || echo missing
    done | grep -q missing; then untracked='?'; fi
  fi
  stashes=0
  if at rev-parse -q --verify refs/stash >/dev/null; then
    stashes=$(count rev-list -g refs/stash)
    [ "$stashes" != 0 ] || stashes=1
  fi
  unpushed=$(count rev-list \${head:+HEAD} --branches --tags --not --remotes)
  printf '%s\\t%s\\t%s\\t%s\\t%s\\n' "$uncommitted" "$untracked" "$stashes" "$unpushed" "$shown"
done
echo end
`

const LINE = /^(\d{1,9})\t(\d{1,9})\t(\d{1,9})\t(\d{1,9})\t(\/[\x20-\x7e]{0,200})$/

export type UnsavedRepository = Extract<UnsavedWork, { known: true }>['repositories'][number] & {
  /** Its line in the guest's list of repositories, from 1. */
  line: number
}
/** What was looked at just now: the work in it can be saved. */
export type UnsavedWorkReport = { known: true; repositories: UnsavedRepository[] } | { known: false; reason: string }

/** What the script printed, as a finding. Anything unforeseen means that it is not known. */
export const parseUnsavedWork = (stdout: string): UnsavedWorkReport => {
  const lines = stdout.trimEnd().split('\n')
  if (lines.at(-1) === 'no-git')
    return { known: false, reason: 'there are repositories, and the machine has no git to look at them' }
  if (lines.at(-1) === 'too-many')
    return { known: false, reason: `there are more than ${MOST_REPOSITORIES} repositories` }
  if (lines.at(-1) !== 'end') return { known: false, reason: 'the machine gave no whole answer' }
  const repositories = lines.slice(0, -1).map(line => line.match(LINE))
  if (repositories.includes(null)) return { known: false, reason: 'a repository could not be read' }
  return {
    known: true,
    repositories: repositories
      .map((found, at) => {
        const [, uncommitted, untracked, stashes, unpushed, path] = found ?? []
        return {
          line: at + 1,
          path: path ?? '',
          uncommitted: Number(uncommitted),
          untracked: Number(untracked),
          stashes: Number(stashes),
          unpushed: Number(unpushed),
        }
      })
      .filter(one => one.uncommitted + one.untracked + one.stashes + one.unpushed > 0),
  }
}

/** As it is kept and told. */
export const toUnsavedWork = (found: UnsavedWorkReport): UnsavedWork =>
  found.known ? { known: true, repositories: found.repositories.map(({ line: _, ...one }) => one) } : found

export const isNothingUnsaved = (found: UnsavedWork): boolean => found.known && found.repositories.length === 0

/** How many repositories are named; of more, only how many. */
const NAMED = 5

/** `2 uncommitted changes, 1 unpushed commit in /home/agent/shop`. */
export const describeUnsavedWork = (found: UnsavedWork): string => {
  if (!found.known) return `it is not known whether work would be lost: ${found.reason}`
  const count = (n: number, one: string, many: string) => (n === 0 ? [] : [`${n} ${n === 1 ? one : many}`])
  const more = found.repositories.length - NAMED
  return [
    ...found.repositories.slice(0, NAMED).map(({ path, uncommitted, untracked, stashes, unpushed }) => {
      const parts = [
        ...count(uncommitted, 'uncommitted change', 'uncommitted changes'),
        ...count(untracked, 'untracked file', 'untracked files'),
        ...count(stashes, 'stash', 'stashes'),
        ...count(unpushed, 'unpushed commit', 'unpushed commits'),
      ]
      return `${parts.join(', ')} in ${path}`
    }),
    ...(more > 0 ? [`work in ${more === 1 ? 'another repository' : `${more} other repositories`}`] : []),
  ].join('; ')
}
