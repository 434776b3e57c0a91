# shellcheck shell=sh disable=SC2154
# Says what the project has that tells how to set it up.
#
# Set beforehand: default_file, a file of the default branch, or nothing; names, files of the branch that is checked out, one a
# line; limit, in bytes.
# Says `default` and `file <name>` with the text of those that are there, and `mise` where it is installed.

default_file=$(of "$default_file_64") names=$(of "$names_64") limit=$(of "$limit_64")

# Prints a blob; a larger one is cut one byte behind the limit.
blob() { project_git cat-file blob "$1" 2>/dev/null | head -c $((limit + 1)); }
has_blob() { [ "$(project_git cat-file -t "$1" 2>/dev/null)" = blob ]; }

main() {
  [ -z "$default_file" ] || ! has_blob "refs/remotes/origin/HEAD:$default_file" ||
    say default "$(blob "refs/remotes/origin/HEAD:$default_file")"
  printf '%s\n' "$names" | while IFS= read -r name; do
    ! has_blob "HEAD:$name" || say "file $name" "$(blob "HEAD:$name")"
  done
  ! as_user bash -lc 'command -v mise' >/dev/null 2>&1 || say mise yes
  echo end
}
main </dev/null
