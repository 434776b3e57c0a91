# shellcheck shell=sh disable=SC2154,SC2015
# Sets git up system-wide, and clones the repository. One that is there is brought up to date: on its default branch, files too.
#
# Set beforehand: url, the address of the repository; gitconfig, our settings of git; ticket; wanted, a branch or nothing.
# Says `branches` that name the ticket, the one with the newest commit first, then the wanted one; and `cloned`.

url=$(of "$url_64") ticket=$(of "$ticket_64") wanted=$(of "$wanted_64")
MAX_BRANCHES=500

# Our settings are a file of their own, so that what others set stays.
set_git_up() {
  of "$gitconfig_64" | write_file "$library/gitconfig" 644 &&
    mkdir -p "$root/etc" &&
    git config --file "$root/etc/gitconfig" --replace-all include.path "$library/gitconfig" "^$library/gitconfig\$" ||
    refuse 'git in the machine cannot be set up'
}

# A clone that was interrupted is beside the folder, where it is made.
clone() {
  unfinished=$folder.agent-swarm-clone
  as_user rm -rf "$unfinished"
  parent=$(dirname "$folder")
  as_user mkdir -p "$parent" 2>/dev/null ||
    { mkdir -p "$parent" && chown "$user:" "$parent"; } || refuse "the folder $path cannot be made"
  if ! problem=$(as_user git clone -q -- "$url" "$unfinished" 2>&1); then
    as_user rm -rf "$unfinished"
    refuse "$(printf '%s' "$problem" | tail -c 2000)"
  fi
  rmdir "$folder" 2>/dev/null
  as_user mv -T "$unfinished" "$folder" || refuse "the folder $path cannot be made"
}

# A branch that somebody works on stays as it is, and so does a default branch with changes of its own. One without them follows a
# remote whose commits were replaced.
bring_up_to_date() {
  before=$(project_git rev-parse -q --verify refs/remotes/origin/HEAD)
  problem=$(project_git fetch -q --prune origin 2>&1) || refuse "$(printf '%s' "$problem" | tail -c 2000)"
  default=$(project_git symbolic-ref -q --short refs/remotes/origin/HEAD) || return 0
  [ "$(project_git symbolic-ref -q --short HEAD)" = "${default#origin/}" ] || return 0
  project_git merge -q --ff-only "$default" >/dev/null 2>&1 ||
    { [ "$(project_git rev-parse -q --verify HEAD)" = "$before" ] && project_git reset -q --keep "$default" >/dev/null 2>&1; } || :
}

main() {
  command -v git >/dev/null || refuse 'git is not installed in the machine'
  make_state
  set_git_up
  if [ -e "$folder/.git" ]; then
    [ "$(project_git config --get remote.origin.url)" = "$url" ] ||
      refuse "another repository is in $path"
    bring_up_to_date
  elif [ -n "$(ls -A "$folder" 2>/dev/null)" ]; then
    refuse "the folder $path is not empty"
  else
    clone
  fi
  say branches "$(
    project_git for-each-ref --sort=-committerdate --format='%(refname:lstrip=3)' refs/remotes/origin |
      grep -iF -- "$ticket" | head -n $MAX_BRANCHES
    [ -z "$wanted" ] || ! project_git show-ref -q --verify "refs/remotes/origin/$wanted" || printf '%s\n' "$wanted"
  )"
  say cloned "$path"
  echo end
}
main </dev/null
