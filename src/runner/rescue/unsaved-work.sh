# shellcheck shell=sh disable=SC2154
# The second part: prints what would be lost with the machine, one line for each repository, tab-separated:
#
#   uncommitted  untracked  stashes  unpushed  reflog  path
#
# A count is `?` where git cannot read the repository. A last line `end` shows that the answer is complete. A repository inside
# another one, submodule or not, has a line of its own; the outer one counts only the commit that it points to. `reflog`: commits
# that no branch, tag or stash holds any more.

# Set beforehand: merged, the ids of commits that merged pull requests hold. They and their ancestors are saved.
: "${merged?}"

count_lines() { printf '%s\n' "$1" | grep -c . || :; }

# The number of lines that a git command prints.
count() {
  if output=$(repository_git "$@"); then count_lines "$output"; else echo '?'; fi
}

changed_paths() { repository_git diff --name-only --no-renames --ignore-submodules=dirty "$@"; }

# Sets $uncommitted and $untracked, compared with the tree $1.
count_changes() {
  uncommitted='?' untracked='?'
  # Both the working tree and the index: a change that was staged and then undone in the file is in the index only.
  in_tree=$(changed_paths "$1" --) && in_index=$(changed_paths --cached "$1" --) || return 0
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

# Sets $unpushed and $reflog.
count_commits() {
  # shellcheck disable=SC2046 # each id is a word
  unpushed=$(count rev-list ${head:+HEAD} --branches --tags --not --remotes $(merged_here))
  # shellcheck disable=SC2046
  if lost=$(reflog_commits ${head:+HEAD} --branches --tags --remotes $(merged_here) $(stash_commits)); then
    reflog=$(count_lines "$lost")
  else
    reflog='?'
  fi
}

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
  count_changes "$base"
  stashes=0
  if repository_git rev-parse -q --verify refs/stash >/dev/null; then
    stashes=$(count rev-list -g refs/stash)
    # A stash without its log counts as one.
    [ "$stashes" != 0 ] || stashes=1
  fi
  count_commits
  printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$uncommitted" "$untracked" "$stashes" "$unpushed" "$reflog" "$printable_path"
done
echo end
