# shellcheck shell=sh disable=SC2154
# Checks the branch out, unless another one was checked out here before.
#
# Set beforehand: branch; remote, 1 when the repository has it.
# Says the `branch` that is checked out.

branch=$(of "$branch_64") remote=$(of "$remote_64")

check_out() {
  if project_git show-ref -q --verify "refs/heads/$branch"; then
    project_git switch -q "$branch" --
  elif [ "$remote" = 1 ]; then
    project_git switch -q -c "$branch" --track "refs/remotes/origin/$branch"
  elif project_git rev-parse -q --verify 'HEAD^{commit}' >/dev/null; then
    project_git switch -q -c "$branch" --no-track HEAD
  else
    # The repository is empty.
    project_git symbolic-ref HEAD "refs/heads/$branch"
  fi
}

main() {
  if [ "$(project_git symbolic-ref -q HEAD)" != "refs/heads/$branch" ]; then
    problem=$(check_out 2>&1) || refuse "$(printf '%s' "$problem" | tail -c 2000)"
  fi
  say branch "$branch"
  echo end
}
main </dev/null
