# shellcheck shell=sh disable=SC2154,SC2030,SC2031
# Copies the operator's files into the project, for its user alone. Calls of copy_file follow this part.

# Copies one, from base64: its name below the project and its text. $3: 1 to leave a file that is there as it is.
# Says `copied` with `new`, `same` or `kept`, or `refused` with the reason.
copy_file() (
  refuse() {
    say refused "$1"
    exit 0
  }
  name=$(of "$1")
  content_64=$2
  missing=$3
  copy
)

# No part of the way may be a link, which the repository or a program could have made.
make_folders() {
  part=$folder
  rest=$name
  while [ "$rest" != "${rest#*/}" ]; do
    part=$part/${rest%%/*}
    rest=${rest#*/}
    [ ! -L "$part" ] || refuse "$name is behind a symbolic link"
    [ -d "$part" ] || as_user mkdir -m 700 "$part" 2>/dev/null || refuse "the folder of $name cannot be made"
  done
}

# git does not take it for a change.
exclude() {
  excluded=$(project_git rev-parse --git-path info/exclude) || return 1
  case $excluded in /*) ;; *) excluded=$folder/$excluded ;; esac
  as_user mkdir -p "$(dirname "$excluded")"
  grep -qxF -- "/$name" "$excluded" 2>/dev/null || printf '/%s\n' "$name" | as_user tee -a "$excluded" >/dev/null
}

copy() {
  target=$folder/$name
  [ -z "$(project_git ls-files -- ":(literal)$name")" ] ||
    refuse "$name is a file of the repository: with the operator's text it would be committed"
  make_folders
  [ ! -L "$target" ] || refuse "$name is a symbolic link"
  [ ! -d "$target" ] || refuse "$name is a folder"
  exclude || refuse "git does not let us exclude $name"
  if [ -e "$target" ] && [ "$missing" = 1 ]; then
    say copied kept
  elif of "$content_64" | as_user cmp -s - "$target" 2>/dev/null && [ "$(stat -c %a "$target")" = 600 ]; then
    say copied same
  else
    of "$content_64" | write_own "$target" 600 || refuse "$name cannot be written"
    say copied new
  fi
}
