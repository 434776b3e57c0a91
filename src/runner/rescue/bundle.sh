# shellcheck shell=sh disable=SC2154
# The second part: prints a git bundle of one repository on standard output, with every ref but the remote-tracking ones, every
# stash, and their whole history. What no commit holds goes into commits in a store of its own, so that the repository itself is not
# changed.
#
# Set beforehand: line, the line of the repository in $repositories; saved_at, the time of the commits that it makes, in seconds, so
# that the same work gets the same ids again; report_only, 1 to print the report without a bundle.
#
# Reports on standard error, tab-separated: `path`, `branch` when one is checked out, one `ref` (object id, name) for each ref of
# the bundle, one `shallow` (object id) for each commit whose parents the repository does not have, and `end`; or `failed` with the
# reason.

: "${line:?}" "${saved_at:?}" "${report_only:?}"

fail() {
  printf 'failed\t%s\n' "$1" >&2
  exit 1
}
NO_SPACE='the machine has no space for temporary files'
UNREADABLE='git cannot read the repository'
NOT_WRITTEN='git cannot write the uncommitted changes'
NO_STAGED='git cannot read the staged changes'
NO_REFLOG='git cannot read the reflogs'
NO_FILE='not every changed file can be read'
NO_CONTENT='a bundle has no content of Git LFS or git-annex: upload it, or copy it out of the machine'

# Keeps the time of the file: git trusts the times in an index only when they are older than the index itself.
copy() { [ ! -f "$1" ] || as_owner cp -p -- "$1" "$2" 2>/dev/null || fail "$NO_SPACE"; }

# git on the store, with the working tree of the repository and the index $index.
store_git() { (
  export GIT_DIR="$store" GIT_WORK_TREE="$top" GIT_INDEX_FILE="$index"
  safe_git -c core.bigFileThreshold=32m -C "$top" "$@" 2>/dev/null
); }

# Names the commit $2 in the bundle.
save_ref() { store_git update-ref "refs/agent-swarm/rescued/$1" "$2" || fail "$UNREADABLE"; }

# Commits the tree $2 with the message $3 on top of the checked-out commit, under the name $1.
save_tree() {
  commit=$(store_git commit-tree ${head:+-p "$head"} -m "$3" "$2") || fail "$NOT_WRITTEN"
  save_ref "$1" "$commit"
}

# Makes the store: a repository that borrows the objects of the real one, with copies of its index and its settings of paths.
make_store() {
  scratch=$(as_owner mktemp -d "${TMPDIR:-/var/tmp}/agent-swarm-rescue.XXXXXX" 2>/dev/null) || fail "$NO_SPACE"
  trap 'rm -rf "$scratch"' EXIT
  trap 'exit 1' HUP INT TERM PIPE
  store=$scratch/store index=$scratch/index
  export GIT_AUTHOR_NAME=agent-swarm GIT_AUTHOR_EMAIL=agent-swarm@localhost
  export GIT_COMMITTER_NAME=agent-swarm GIT_COMMITTER_EMAIL=agent-swarm@localhost
  export GIT_AUTHOR_DATE="@$saved_at +0000" GIT_COMMITTER_DATE="@$saved_at +0000"

  if [ -n "$bare" ]; then top=$repository; else top=$(repository_git rev-parse --show-toplevel) || fail "$UNREADABLE"; fi
  objects=$(path_of objects) || fail "$UNREADABLE"
  format=$(repository_git rev-parse --show-object-format) || format=sha1
  # Files are taken as they are: no filter, line-ending or encoding conversion.
  {
    safe_git init -q --bare --template= --object-format="$format" "$store" >/dev/null 2>&1 &&
      as_owner mkdir -p "$store/info" &&
      printf '%s\n' "$objects" | as_owner tee "$store/objects/info/alternates" >/dev/null &&
      printf '* -text -ident -filter -working-tree-encoding\n' | as_owner tee "$store/info/attributes" >/dev/null
  } || fail "$NO_SPACE"
  copy "$(path_of shallow)" "$store/shallow"
  copy "$(path_of info/exclude)" "$store/info/exclude"
  copy "$(path_of index)" "$scratch/index"
  copy "$(path_of index)" "$scratch/staged"
  for shared in "$(dirname "$(path_of index)")"/sharedindex.*; do copy "$shared" "$store/"; done
}

# Copies branches, tags and HEAD into the store, and names the checked-out commit and the stashes. Sets $head.
save_refs() {
  refs=$(repository_git for-each-ref --format='create %(refname) %(objectname)') || fail "$UNREADABLE"
  refs=$(printf '%s\n' "$refs" | grep -v '^create refs/remotes/' || :)
  [ -z "$refs" ] || printf '%s\n' "$refs" | store_git update-ref --stdin || fail "$UNREADABLE"
  head=$(repository_git rev-parse -q --verify 'HEAD^{commit}') || head=
  if branch=$(repository_git symbolic-ref -q HEAD); then
    printf 'branch\t%s\n' "$branch" >&2
    store_git symbolic-ref HEAD "$branch"
  elif [ -n "$head" ]; then
    store_git update-ref --no-deref HEAD "$head"
  fi
  [ -z "$head" ] || save_ref head "$head"
  stashed=$(stash_commits) || fail "$UNREADABLE"
  n=0
  for stash in $stashed; do
    save_ref "stash-$n" "$stash"
    n=$((n + 1))
  done
}

# Sets $pushed. Names the newest commits of those that only reflogs hold.
save_reflogs() {
  pushed=$(pushed_commits) || fail "$UNREADABLE"
  lost=$(reflog_commits "$(printf '%s\n%s\n' "$pushed" "$stashed")") || fail "$NO_REFLOG"
  [ -n "$lost" ] || return 0
  printf '%s\n' "$lost" |
    awk '{ own[$1] = 1; for (n = 2; n <= NF; n++) older[$n] = 1 } END { for (id in own) if (!(id in older)) print id }' | sort |
    awk '{ print "create refs/agent-swarm/rescued/reflog-" NR - 1 " " $1 }' |
    store_git update-ref --stdin || fail "$NO_REFLOG"
}

# Saves the staged changes and the working tree, each where it differs from the checked-out commit.
save_changes() {
  head_tree=$(repository_git hash-object -t tree --stdin) || fail "$UNREADABLE"
  [ -z "$head" ] || head_tree=$(store_git rev-parse -q --verify "$head^{tree}") || fail "$UNREADABLE"

  index=$scratch/staged
  unmerged=$(store_git ls-files --unmerged) || fail "$NO_STAGED"
  # During a merge a file has several staged states; the file itself takes their place.
  [ -z "$unmerged" ] ||
    store_git diff-files -z --name-only --diff-filter=U | store_git update-index -z --add --remove --stdin ||
    fail "$NO_STAGED"
  staged=$(store_git write-tree) || fail "$NO_STAGED"

  index=$scratch/index
  ! has_marks store_git || clear_marks store_git "$top" "$scratch/marked" || fail "$NO_FILE"
  store_git add -A --ignore-errors >/dev/null
  ! is_project || save_ignored
  # Only repositories inside this one may remain; they have bundles of their own.
  left=$(store_git ls-files --others --exclude-standard) || fail "$NO_FILE"
  left=$(printf '%s\n' "$left" | grep -v '/"\{0,1\}$' || :)
  [ -z "$left" ] || fail "$NO_FILE"
  store_git diff-files --quiet --ignore-submodules=dirty || fail "$NO_FILE"
  tree=$(store_git write-tree) || fail "$NOT_WRITTEN"
  [ "$tree" = "$head_tree" ] || save_tree worktree "$tree" 'The working tree'
  [ "$staged" = "$head_tree" ] || save_tree staged "$staged" 'The staged changes'
}

# Those that the project names go into the working tree's commit, too.
save_ignored() {
  with_saved store_git ls-files -z --others --ignored --exclude-standard -- >"$scratch/all-ignored" || fail "$NO_FILE"
  # A repository inside this one has a bundle of its own.
  grep -zv '/$' <"$scratch/all-ignored" >"$scratch/ignored" || :
  store_git update-index -z --add --stdin <"$scratch/ignored" || fail "$NO_FILE"
}

# The small files that the bundle has, and no remote outside the machine.
new_small_files() {
  printf '%s\n' "$pushed" | without_these | store_git rev-list --objects --stdin --all | cut -d ' ' -f 1 |
    store_git cat-file --batch-check='%(objecttype) %(objectsize) %(objectname)' |
    awk '$1 == "blob" && $2 < 1024 { print $3 }' | store_git cat-file --batch
}

is_filled() { [ -n "$(as_owner find "$1" -type f 2>/dev/null </dev/null | head -n 1)" ]; }

# Git LFS and git-annex keep the content of files beside git's objects, which hold pointers to it. A bundle has no such content:
# fails when the machine has content of a pointer that is not pushed.
require_no_content() {
  common=$(common_folder) || fail "$UNREADABLE"
  lfs=$(repository_git config --type=path lfs.storage) || lfs=lfs
  case $lfs in /*) ;; *) lfs=$common/$lfs ;; esac
  if is_filled "$lfs/objects"; then
    new_small_files | sed -n 's/^oid sha256:\([0-9a-f]\{64\}\)$/\1/p' | sort -u >"$scratch/pointers"
    while IFS= read -r oid; do
      rest=${oid#????} first=${oid%"${oid#??}"}
      second=${oid#??} second=${second%"$rest"}
      [ ! -e "$lfs/objects/$first/$second/$oid" ] || fail "$NO_CONTENT"
    done <"$scratch/pointers"
  fi
  ! is_filled "$common/annex/objects" || ! new_small_files | grep -aq 'annex/objects/' || fail "$NO_CONTENT"
}

print_bundle() {
  printf 'path\t%s\n' "$printable_path" >&2
  store_git for-each-ref --format='%(objectname) %(refname)' | awk '{ print "ref\t" $1 "\t" $2 }' >&2
  [ ! -f "$store/shallow" ] || awk '{ print "shallow\t" $1 }' "$store/shallow" >&2
  [ "$report_only" = 1 ] || store_git bundle create -q - --all || fail 'git cannot write the bundle'
  printf 'end\n' >&2
}

main() {
  dotgit=$(printf '%s\n' "$repositories" | sed -n "${line}p")
  [ -n "$dotgit" ] || fail 'the repository no longer exists'
  select_repository "$dotgit"
  make_store
  save_refs
  save_reflogs
  [ -n "$bare" ] || save_changes
  require_no_content
  print_bundle
}
# The shell may read this script from its standard input, which no program here may take away.
main </dev/null
exit 0
