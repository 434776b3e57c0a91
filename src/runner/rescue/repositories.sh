# shellcheck shell=sh
# The first part of both scripts. It finds the git repositories of the machine, and runs git in one of them.
#
# Set beforehand: max_repositories; max_reflog, the most ids in the reflogs of a repository; as base64, save_path_64, the folder of the project, and save_64, patterns of files in it that
# are saved although git ignores them, one a line.
# Sets $repositories: the `.git` of each repository, one a line, sorted.

set -u
: "${max_repositories:?}" "${max_reflog:?}" "${save_64?}" "${save_path_64?}"
user_home=${HOME:-}
export LC_ALL=C HOME=/nonexistent XDG_CONFIG_HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
export GIT_TERMINAL_PROMPT=0 GIT_OPTIONAL_LOCKS=0 GIT_NO_REPLACE_OBJECTS=1 GIT_ALLOW_PROTOCOL=none
me=$(id -u)
save_path=$(printf '%s' "$save_path_64" | base64 -d)

# Where people and agents work, one folder a line. A guest whose files do not begin at / names its folder itself.
guest_roots() {
  if [ -n "${AGENT_SWARM_GUEST_ROOTS:-}" ]; then
    printf '%s\n' "$AGENT_SWARM_GUEST_ROOTS"
  else
    printf '%s\n' /home /root /srv /opt /work /workspace
    # A project may be elsewhere.
    case $save_path in /*) printf '%s\n' "$save_path" ;; esac
  fi
}
repositories=$(guest_roots | while IFS= read -r root; do find "$root" -xdev -name .git -prune 2>/dev/null; done | sort -u)

if [ "$(printf '%s\n' "$repositories" | wc -l)" -gt "$max_repositories" ]; then
  echo 'too-many'
  exit 0
fi
if [ -n "$repositories" ] && ! command -v git >/dev/null; then
  echo 'no-git'
  exit 0
fi

# Selects the repository of the `.git` $1. Sets $repository, and $printable_path, which is safe to print.
select_repository() {
  repository=${1%/.git}
  # shellcheck disable=SC2012 # stat has no options that every system knows
  owner=$(ls -lnLd -- "$1" 2>/dev/null | awk 'NR == 1 { print $3 }')
  # shellcheck disable=SC2012
  group=$(ls -lnLd -- "$1" 2>/dev/null | awk 'NR == 1 { print $4 }')
  # shellcheck disable=SC2034 # the next part prints it
  printable_path=$(printf '%s' "$repository" | tr -c '[:print:]' '?' | cut -c 1-200)
}

# What a repository configures to be run is run as its owner, and never as root.
as_owner() {
  if [ "$owner" = "$me" ]; then
    "$@"
  else
    setpriv --reuid "$owner" --regid "$group" --clear-groups -- "$@"
  fi
}

# git without hooks, file system monitor and cache. The environment above leaves it no configuration but the repository's.
safe_git() {
  as_owner git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.untrackedCache=false "$@"
}

repository_git() {
  safe_git -c safe.directory='*' -c core.quotePath=true -C "$repository" "$@" 2>/dev/null </dev/null
}

# Whether the repository is the project whose ignored files are saved.
is_project() {
  [ -n "$save_64" ] || return 1
  # shellcheck disable=SC2088 # the tilde is ours
  case $save_path in
  /*) [ "$repository" = "${AGENT_SWARM_GUEST_ROOTS:-}$save_path" ] ;;
  '~/'*) [ "$repository" = "$(home_of "$owner")/${save_path#??}" ] ;;
  *) [ "$repository" = "$(home_of "$owner")/$save_path" ] ;;
  esac
}
home_of() {
  if [ "$1" = "$me" ]; then printf '%s' "$user_home"; else getent passwd "$1" | cut -d: -f6; fi
}

# Runs a git command with the patterns as its last arguments: `with_saved store_git ls-files …`.
with_saved() { (
  patterns=$(printf '%s' "$save_64" | base64 -d)
  set -f
  IFS='
'
  for pattern in $patterns; do set -- "$@" ":(top,glob)$pattern"; done
  unset IFS
  "$@"
); }

# Of the ids on standard input, those of commits that this repository has.
existing_commits() {
  safe_git -c safe.directory='*' -C "$repository" cat-file --batch-check='%(objecttype) %(objectname)' 2>/dev/null |
    sed -n 's/^commit \([0-9a-f]*\)$/\1/p'
}

# The ids of all stashes.
stash_commits() {
  repository_git rev-parse -q --verify refs/stash >/dev/null || return 0
  repository_git rev-list -g refs/stash
}

# The ids in the reflogs of HEAD and the branches, of branches that were deleted as far as git kept them, and of work trees whose
# folder is gone.
reflog_ids() {
  git_dir=$(repository_git rev-parse --absolute-git-dir) && common=$(repository_git rev-parse --git-common-dir) || return 1
  case $common in /*) ;; *) common=$repository/$common ;; esac
  if [ -d "$common/reftable" ]; then
    # These are in no files of their own. The reflogs of remotes are among them.
    repository_git rev-list --no-walk=unsorted --reflog
    return
  fi
  as_owner find "$git_dir/logs/HEAD" "$common/logs/refs/heads" -type f -exec cat {} + 2>/dev/null | cut -d ' ' -f 1,2 | tr ' ' '\n'
  for tree in "$common"/worktrees/*; do
    if [ ! -f "$tree/HEAD" ] || [ ! -f "$tree/gitdir" ]; then continue; fi
    [ ! -e "$(as_owner head -c 4096 "$tree/gitdir" 2>/dev/null)" ] || continue
    as_owner cat "$tree/HEAD" "$tree/logs/HEAD" 2>/dev/null | cut -d ' ' -f 1,2 | tr ' ' '\n'
  done
}

# The commits that only reflogs hold, one a line, each followed by its parents: what these arguments reach is not one of them.
reflog_commits() {
  ids=$(reflog_ids) || return 1
  ids=$(printf '%s\n' "$ids" | grep -Ex '[0-9a-f]{40}([0-9a-f]{24})?' | sort -u | existing_commits)
  [ -n "$ids" ] || return 0
  [ "$(printf '%s\n' "$ids" | wc -l)" -le "$max_reflog" ] || return 1
  printf '%s\n' "$ids" |
    safe_git -c safe.directory='*' -C "$repository" rev-list --parents --stdin --not "$@" 2>/dev/null
}
