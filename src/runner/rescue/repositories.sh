# shellcheck shell=sh
# The first part of both scripts. It finds the git repositories of the machine, and runs git in one of them.
#
# Set beforehand: max_repositories; max_reflog, the most ids in the reflogs of a repository; as base64, save_path_64, the folder of
# the project, and save_64, patterns of files in it that are saved although git ignores them, one a line.
# Sets $repositories: the `.git` of each repository, or the folder of one without a working tree, one a line, sorted.

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

# git takes a folder with these for a repository.
is_repository() { [ -f "$1/HEAD" ] && [ -d "$1/objects" ] && [ -d "$1/refs" ]; }

# Of lines "name<TAB>url", the names whose url is inside the machine: a path (gitremote-helpers(7), git-clone(1) "GIT URLS"), or a
# program.
inside_urls() {
  awk '
    function is_inside(url) {
      if (url ~ /^(file|ext|fd):/) return 1
      sub(/^[A-Za-z0-9+.-]+::/, "", url)
      return url !~ /^[^\/:]+:/ || url ~ /^file:/
    }
    { tab = index($0, "\t") }
    tab && is_inside(substr($0, tab + 1)) { print substr($0, 1, tab - 1) }'
}

# Whether the bare repository $1 is a copy of one outside the machine: tools keep such in their caches.
is_copy() {
  [ -f "$1/config" ] || return 1
  urls=$(git config -f "$1/config" --get-regexp '^remote\..*\.url$' 2>/dev/null | awk '{ sub(/ /, "\t"); print }')
  [ "$(printf '%s\n' "$urls" | grep -c .)" != "$(printf '%s\n' "$urls" | inside_urls | grep -c .)" ]
}

# Whether the git folder $1 of a submodule belongs to a working tree that is there. That one has a `.git` of its own.
has_working_tree() {
  [ -f "$1/config" ] && tree=$(git config -f "$1/config" core.worktree 2>/dev/null) || return 1
  case $tree in /*) ;; *) tree=$1/$tree ;; esac
  [ -f "$tree/.git" ] && to=$(head -c 4096 -- "$tree/.git" | sed -n 's/^gitdir: //p') || return 1
  [ "$(cd -- "$tree" 2>/dev/null && cd -- "$to" 2>/dev/null && pwd -P)" = "$(cd -- "$1" && pwd -P)" ]
}

# The repositories below the folder $1: those with a `.git`, bare ones but those in hidden folders, where tools have caches, and
# submodules whose working tree is gone.
find_repositories() {
  find "$1" -xdev -name .git -prune -print -o -name HEAD -type f -print 2>/dev/null | while IFS= read -r found; do
    case $found in
    */.git)
      printf '%s\n' "$found"
      [ -d "$found" ] || continue
      find "$found/modules" "$found"/worktrees/*/modules -xdev -name HEAD -type f 2>/dev/null | while IFS= read -r inner; do
        inner=${inner%/HEAD}
        ! is_repository "$inner" || has_working_tree "$inner" || printf '%s\n' "$inner"
      done
      ;;
    *)
      folder=${found%/HEAD}
      case ${folder#"$1"} in
      # Jujutsu has its own there.
      */.jj/repo/store/git) ;;
      */.*) continue ;;
      esac
      ! is_repository "$folder" || is_copy "$folder" || printf '%s\n' "$folder"
      ;;
    esac
  done
}
repositories=$(guest_roots | while IFS= read -r root; do find_repositories "$root"; done | sort -u)

if [ "$(printf '%s\n' "$repositories" | wc -l)" -gt "$max_repositories" ]; then
  echo 'too-many'
  exit 0
fi
if [ -n "$repositories" ] && ! command -v git >/dev/null; then
  echo 'no-git'
  exit 0
fi

# Selects the repository of the line $1 of $repositories. Sets $repository; $bare, which is empty when it has a working tree; and
# $printable_path, which is safe to print.
select_repository() {
  repository=${1%/.git} bare=
  [ "$repository" != "$1" ] || bare=1
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

# With the caller's standard input. Where the configuration names a working tree that is gone, git runs only with another one.
repository_git_reading() {
  safe_git -c safe.directory='*' -c core.quotePath=true -C "$repository" \
    ${bare:+--git-dir="$repository"} ${bare:+--work-tree="$repository"} "$@" 2>/dev/null
}

repository_git() { repository_git_reading "$@" </dev/null; }

# The path of a part of the repository, for example its index.
path_of() {
  part=$(repository_git rev-parse --git-path "$1") || return 1
  case $part in /*) ;; *) part=$repository/$part ;; esac
  printf '%s' "$part"
}

# The folder that all working trees of the repository share.
common_folder() {
  common=$(repository_git rev-parse --git-common-dir) || return 1
  case $common in /*) ;; *) common=$repository/$common ;; esac
  printf '%s' "$common"
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

# Whether an index has marks skip-worktree or assume-unchanged: git takes these files for unchanged without a look. $1: runs git
# with that index.
has_marks() { "$1" ls-files -v </dev/null | grep -q '^[a-zS] '; }

# Clears these marks, but those of files that are absent: they belong to a sparse checkout. $1: runs git with that index. $2: the
# working tree. $3: a file for the names.
# shellcheck disable=SC2016 # the inner shell expands these
clear_marks() {
  "$1" ls-files -v -z </dev/null | grep -z '^[a-zS] ' |
    as_owner xargs -0 sh -c '
      cd -- "$0" || exit 1
      for entry; do
        file=${entry#??}
        if [ -e "$file" ] || [ -L "$file" ]; then printf "%s\0" "$file"; fi
      done' "$2" >"$3" &&
    "$1" update-index --no-skip-worktree -z --stdin <"$3" &&
    "$1" update-index --no-assume-unchanged -z --stdin <"$3"
}

# Of the ids on standard input, those of commits that this repository has.
existing_commits() {
  repository_git_reading cat-file --batch-check='%(objecttype) %(objectname)' | sed -n 's/^commit \([0-9a-f]*\)$/\1/p'
}

only_ids() { grep -Ex '[0-9a-f]{40}([0-9a-f]{24})?'; }

# The git folders of work trees whose folder is gone.
gone_work_trees() {
  common=$(common_folder) || return 1
  for tree in "$common"/worktrees/*; do
    if [ ! -f "$tree/HEAD" ] || [ ! -f "$tree/gitdir" ]; then continue; fi
    [ -e "$(as_owner head -c 4096 "$tree/gitdir" 2>/dev/null)" ] || printf '%s\n' "$tree"
  done
}

# The ids of all stashes, the newest first, and then of what `--autostash` put aside during a rebase or merge.
stash_commits() {
  if stash=$(repository_git rev-parse -q --verify refs/stash); then
    logged=$(repository_git rev-list -g refs/stash) || return 1
    # A stash without its log.
    printf '%s\n' "${logged:-$stash}"
  fi
  autostash_commits
}

# No ref and no reflog holds these.
autostash_commits() {
  {
    repository_git rev-parse -q --verify MERGE_AUTOSTASH
    {
      repository_git rev-parse --absolute-git-dir
      gone_work_trees
    } | while IFS= read -r folder; do
      for part in rebase-merge/autostash rebase-apply/autostash MERGE_AUTOSTASH; do
        [ ! -f "$folder/$part" ] || as_owner head -c 100 "$folder/$part" 2>/dev/null </dev/null
        echo
      done
    done
  } | only_ids | existing_commits | awk '!seen[$0]++'
}

# The names of remotes inside the machine: they are deleted with it.
inside_remotes() {
  remotes=$(repository_git remote -v) || return 1
  printf '%s\n' "$remotes" | sed 's/ ([a-z]*)\( \[[^]]*\]\)*$//' | inside_urls | sort -u
}

# The ids of what remotes outside the machine have.
pushed_commits() {
  inside=$(inside_remotes) && refs=$(repository_git for-each-ref --format='%(objectname) %(refname)' refs/remotes) || return 1
  printf '%s\n\n%s\n' "$inside" "$refs" | awk '
    $0 == "" { in_refs = 1; next }
    !in_refs { inside[$0]; next }
    { for (name in inside) if (index($2, "refs/remotes/" name "/") == 1) next; print $1 }'
}

# Runs rev-list with the revisions of standard input, and with HEAD ($head, when there is a commit) and every ref but those that
# fetches make, replacements, and the stash.
rev_list_of_refs() {
  repository_git_reading rev-list --stdin "$@" ${head:+HEAD} \
    --exclude='refs/remotes/*' --exclude='refs/prefetch/*' --exclude='refs/replace/*' --exclude=refs/stash --glob='refs/*'
}

# Each id on standard input as a revision that rev-list leaves out, with its ancestors.
without_these() { only_ids | sed 's/^/^/'; }

# The commits that refs hold, one a line, but those that the ids $1 reach.
ref_commits() { printf '%s\n' "$1" | without_these | rev_list_of_refs; }

# The ids in the reflogs of HEAD and the branches, of branches that were deleted as far as git kept them, and of work trees whose
# folder is gone.
reflog_ids() {
  git_dir=$(repository_git rev-parse --absolute-git-dir) && common=$(common_folder) || return 1
  if [ -d "$common/reftable" ]; then
    # These are in no files of their own. The reflogs of remotes are among them.
    repository_git rev-list --no-walk=unsorted --reflog
    return
  fi
  as_owner find "$git_dir/logs/HEAD" "$common/logs/refs/heads" -type f -exec cat {} + 2>/dev/null | cut -d ' ' -f 1,2 | tr ' ' '\n'
  gone_work_trees | while IFS= read -r tree; do
    as_owner cat "$tree/HEAD" "$tree/logs/HEAD" 2>/dev/null </dev/null | cut -d ' ' -f 1,2 | tr ' ' '\n'
  done
}

# The commits that only reflogs hold, one a line, each followed by its parents: what refs or the ids $1 reach is not one of them.
reflog_commits() {
  ids=$(reflog_ids) || return 1
  ids=$(printf '%s\n' "$ids" | only_ids | sort -u | existing_commits)
  [ -n "$ids" ] || return 0
  [ "$(printf '%s\n' "$ids" | wc -l)" -le "$max_reflog" ] || return 1
  {
    printf '%s\n' "$ids"
    printf '%s\n' "$1" | without_these
  } | rev_list_of_refs --parents --not
}
