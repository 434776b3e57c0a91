/** Work at risk: what would be gone with the machine. Asked in the guest, by a script; its answer is hostile until parsed. */
import type { WorkAtRisk } from '../domain.ts'

/**
 * Looks at every git repository under the folders where people and agents work. One line each, tab-separated, the path
 * last; `end` proves that the answer is whole. A repository that git cannot read is at risk: `?` is no zero.
 */
export const workAtRiskScript = `
set -u
export LC_ALL=C GIT_TERMINAL_PROMPT=0 GIT_OPTIONAL_LOCKS=0
roots=\${AGENT_SWARM_GUEST_ROOTS:-/home /root /srv /opt /work /workspace}
found=$(printf '%s\\n' "$roots" | { if [ -z "\${AGENT_SWARM_GUEST_ROOTS:-}" ]; then tr ' ' '\\n'; else cat; fi; } |
  while IFS= read -r root; do find "$root" -xdev -maxdepth 7 -name .git -prune 2>/dev/null; done | sort -u | head -n 200)
if [ -n "$found" ] && ! command -v git >/dev/null; then echo 'no-git'; exit 0; fi
at() { git -c safe.directory='*' -c core.fsmonitor=false -c core.quotePath=true -C "$repo" "$@" 2>/dev/null </dev/null; }
count() { if out=$(at "$@"); then if [ -z "$out" ]; then echo 0; else printf '%s\\n' "$out" | wc -l | tr -d ' '; fi; else echo '?'; fi; }
printf '%s\\n' "$found" | while IFS= read -r dotgit; do
  [ -n "$dotgit" ] || continue
  repo=\${dotgit%/.git}
  untracked=$(count ls-files --others --exclude-standard)
  stashes=$(count stash list)
  if at rev-parse -q --verify HEAD >/dev/null; then
    changed=$(count diff --name-only HEAD --)
    unpushed=$(count rev-list HEAD --branches --tags --not --remotes)
  else
    # No commit yet on this branch.
    changed=$(count ls-files)
    unpushed=$(count rev-list --branches --tags --not --remotes)
  fi
  printf '%s\\t%s\\t%s\\t%s\\t%s\\n' "$changed" "$untracked" "$stashes" "$unpushed" "$(printf '%s' "$repo" | tr -c '[:print:]' '?' | cut -c 1-200)"
done
echo end
`

const LINE = /^(\d{1,9})\t(\d{1,9})\t(\d{1,9})\t(\d{1,9})\t(\/[\x20-\x7e]{0,200})$/

/** What the script printed, as a finding. Anything unforeseen means that it is not known. */
export const parseWorkAtRisk = (stdout: string): WorkAtRisk => {
  const lines = stdout.trimEnd().split('\n')
  if (lines.at(-1) === 'no-git')
    return { known: false, because: 'there are repositories, and the machine has no git to look at them' }
  if (lines.at(-1) !== 'end') return { known: false, because: 'the machine gave no whole answer' }
  const repositories = lines.slice(0, -1).map(line => line.match(LINE))
  if (repositories.includes(null)) return { known: false, because: 'a repository could not be read' }
  return {
    known: true,
    repositories: repositories
      .map(found => {
        const [, uncommitted, untracked, stashes, unpushed, path] = found ?? []
        return {
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

export const nothingAtRisk = (found: WorkAtRisk): boolean => found.known && found.repositories.length === 0

/** `2 uncommitted changes and 1 unpushed commit in /home/agent/shop`. */
export const sayWorkAtRisk = (found: WorkAtRisk): string => {
  if (!found.known) return `it is not known whether work would be lost: ${found.because}`
  const count = (n: number, one: string, many: string) => (n === 0 ? [] : [`${n} ${n === 1 ? one : many}`])
  return found.repositories
    .map(({ path, uncommitted, untracked, stashes, unpushed }) => {
      const parts = [
        ...count(uncommitted, 'uncommitted change', 'uncommitted changes'),
        ...count(untracked, 'untracked file', 'untracked files'),
        ...count(stashes, 'stash', 'stashes'),
        ...count(unpushed, 'unpushed commit', 'unpushed commits'),
      ]
      return `${parts.join(', ')} in ${path}`
    })
    .join('; ')
}
