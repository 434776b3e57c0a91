# shellcheck shell=sh disable=SC2154
# The second part: prints what would be lost with the machine, one line for each repository, tab-separated:
#
#   uncommitted  untracked  stashes  unpushed  reflog  path
#
# A count is `?` where git cannot read the repository. A last line `end` shows that the answer is complete. A repository inside
# another one, submodule or not, has a line of its own; the outer one counts only the commit that it points to. `unpushed`: commits
# that a ref holds, and no remote outside the machine. `reflog`: commits that no ref and no stash holds any more.

# Set beforehand: merged, the ids of commits that merged pull requests hold. They and their ancestors are saved.
: "${merged?}"

count_lines() { printf '%s\n' "$1" | grep -c . || :; }

changed_paths() { repository_git diff --name-only --no-renames --ignore-submodules=dirty "$@"; }

# The paths that differ from the tree $1, with those of marked files.
changed_with_marked() { (
  scratch=$(as_owner mktemp -d "${TMPDIR:-/var/tmp}/agent-swarm-rescue.XXXXXX" 2>/dev/null) || exit 1
  trap 'rm -rf "$scratch"' EXIT
  trap 'exit 1' HUP INT TERM PIPE
  # With its time, which git compares with those of files.
  real=$(path_of index) && as_owner cp -p -- "$real" "$scratch/index" 2>/dev/null || exit 1
  export GIT_INDEX_FILE="$scratch/index"
  # A part of a split index would be written into the repository.
  # shellcheck disable=SC2317 # clear_marks runs it
  copy_git() { repository_git_reading -c core.splitIndex=false "$@"; }
  clear_marks copy_git "$repository" "$scratch/marked" && changed_paths "$1" --
); }

# Sets $uncommitted and $untracked, compared with the tree $1.
count_changes() {
  uncommitted='?' untracked='?'
  # Both the working tree and the index: a change that was staged and then undone in the file is in the index only.
  in_tree=$(changed_paths "$1" --) && in_index=$(changed_paths --cached "$1" --) || return 0
  if has_marks repository_git; then in_tree=$(changed_with_marked "$1") || return 0; fi
  others=$(repository_git ls-files --others --exclude-standard) || return 0
  if is_project; then
    ignored=$(with_saved repository_git ls-files --others --ignored --exclude-standard --) || return 0
    others=$(printf '%s\n%s\n' "$others" "$ignored" | grep . || :)
  fi
  changed=$(printf '%s\n%s\n' "$in_tree" "$in_index" | sort -u)
  # A path that ends with a slash is a repository inside this one.
  inner=$(printf '%s\n' "$others" | grep '/"\{0,1\}$' || :)
  others=$(printf '%s\n' "$others" | grep -v '/"\{0,1\}$' || :)
  uncommitted=$(count_lines "$changed")
  # A file that was removed from the index but still exists is both: it is counted as uncommitted.
  untracked=$(($(count_lines "$(printf '%s\n%s\n' "$changed" "$others" | sort -u)") - uncommitted))
  if has_unlisted "$inner"; then untracked='?'; fi
}

# Whether one of these inner repositories has no line of its own.
has_unlisted() {
  [ -n "$1" ] || return 1
  printf '%s\n' "$1" | while IFS= read -r path; do
    printf '%s\n' "$repositories" | grep -Fxq -- "$repository/${path}.git" || echo unlisted
  done | grep -q unlisted
}

# Those of $merged that are commits of this repository.
merged_here() {
  [ -n "$merged" ] || return 0
  # shellcheck disable=SC2086 # one id a line
  printf '%s\n' $merged | existing_commits
}

# Sets $elsewhere, once: the ids of what the repositories of the machine have of remotes outside.
find_elsewhere() {
  [ -z "$knows_elsewhere" ] || return 0
  knows_elsewhere=1
  elsewhere=$(printf '%s\n' "$repositories" | while IFS= read -r other; do
    select_repository "$other"
    pushed_commits
  done | sort -u)
}

# Sets $unpushed and $reflog.
count_commits() {
  unpushed='?' reflog='?'
  saved=$(pushed_commits) && inside=$(inside_remotes) || return 0
  saved=$(printf '%s\n' "$saved" && merged_here)
  # A clone or a backup of another repository of the machine.
  if [ -n "$bare$inside" ]; then
    find_elsewhere
    saved=$(printf '%s\n' "$saved" && printf '%s\n' "$elsewhere" | existing_commits)
  fi
  if commits=$(ref_commits "$saved"); then unpushed=$(count_lines "$commits"); fi
  stashed=$(stash_commits) || return 0
  if lost=$(reflog_commits "$(printf '%s\n%s\n' "$saved" "$stashed")"); then reflog=$(count_lines "$lost"); fi
}

knows_elsewhere='' elsewhere=''
printf '%s\n' "$repositories" | while IFS= read -r dotgit; do
  [ -n "$dotgit" ] || continue
  select_repository "$dotgit"
  # Before the first commit, everything is compared with the empty tree.
  if head=$(repository_git rev-parse -q --verify 'HEAD^{commit}'); then
    base=$head
  else
    head=
    base=$(repository_git hash-object -t tree --stdin)
  fi
  uncommitted=0 untracked=0 stashes='?'
  [ -n "$bare" ] || count_changes "$base"
  if stashed=$(stash_commits); then stashes=$(count_lines "$stashed"); fi
  count_commits
  printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$uncommitted" "$untracked" "$stashes" "$unpushed" "$reflog" "$printable_path"
done
echo end
