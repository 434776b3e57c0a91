# shellcheck shell=sh disable=SC2034,SC2015,SC2016
# The first part of every script about the project in a machine. It runs as root, or in a guest that is a folder as its owner.
#
# Set beforehand, as base64 in variables whose names end with _64: user (the ssh user; empty: who runs this) and path (the project's
# folder). Answers are lines of a word, a tab and base64; the last one is `end`.

set -u
export LC_ALL=C
of() { printf '%s' "$1" | base64 -d; }
say() { printf '%s\t%s\n' "$1" "$(printf '%s' "$2" | base64 | tr -d '\n')"; }
refuse() {
  say failed "$1"
  echo end
  exit 0
}

root=${AGENT_SWARM_GUEST_ROOTS:-}
me=$(id -un)
user=$(of "${user_64:?}")
[ -n "$user" ] || user=$me
if [ "$user" = "$me" ]; then home=$HOME; else home=$(getent passwd "$user" | cut -d: -f6); fi
[ -d "$home" ] || refuse "the machine has no user $user with a home folder"
state=$root/var/lib/agent-swarm
library=$root/usr/local/lib/agent-swarm
project_state=$state/project

path=$(of "${path_64:?}")
# shellcheck disable=SC2088 # the tilde is ours
case $path in
'~/'*) folder=$home/${path#??} ;;
/*) folder=$root$path ;;
*) folder=$home/$path ;;
esac

# Out of a guest that is a folder, a link that the repository has could lead elsewhere on its owner's system.
part=$folder
while [ -n "$root" ] && [ "$part" != "$root" ] && [ "${#part}" -gt "${#root}" ]; do
  [ ! -L "$part" ] || refuse "the folder $path is behind a symbolic link"
  part=$(dirname "$part")
done

export GIT_TERMINAL_PROMPT=0 GIT_OPTIONAL_LOCKS=0
# A guest that is a folder has a system-wide configuration of its own.
[ -z "$root" ] || export GIT_CONFIG_SYSTEM="$root/etc/gitconfig"

# Runs a program as the ssh user.
as_user() {
  if [ "$user" = "$me" ]; then
    "$@"
  else
    setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups -- \
      env HOME="$home" USER="$user" LOGNAME="$user" "$@"
  fi
}
project_git() { as_user git -C "$folder" "$@"; }

# Makes a folder for the ssh user.
make_state() {
  mkdir -p "$state" && chmod 755 "$state" &&
    { [ "$user" = "$me" ] || chown "$user:" "$state"; } &&
    as_user mkdir -p "$project_state" || refuse "the machine has no space for our files"
}

# Writes standard input into the file $1 as a whole, with mode $2, for everybody to read and root to change.
write_file() {
  mkdir -p "$(dirname "$1")" && cat >"$1.new.$$" && chmod "$2" "$1.new.$$" && mv -f "$1.new.$$" "$1"
}
# The same for a file of the ssh user.
write_own() {
  as_user sh -c 'umask 077; cat >"$1.new" && chmod "$2" "$1.new" && mv -f "$1.new" "$1"' sh "$1" "$2"
}
