#!/bin/sh
# Installs and configures what a base image contains, for every provider. Runs as root in the machine that becomes the image, or
# in a chroot. Ubuntu 24.04, Debian 12 and 13, on x86-64 and arm64; the profile `minimal` also on other systems with apt-get or dnf.
#
#   setup-base.sh [--profile minimal|full] [--only STEP,…] [--skip STEP,…] [--extra FOLDER] [--sha256 NAME=HEX]
#   setup-base.sh verify [--profile minimal|full]
#   setup-base.sh --list [--extra FOLDER]
#
# A second run changes nothing. An image that has all programs of `minimal` already needs no network.
# Standard output: `step NAME` when a step begins; of verify, `proven PIECE HOW` or `unproven PIECE WHY`. The rest: standard error.
# --extra names a folder of a project's own steps (NN-name.sh), which run last, in order of their names.
# Exit: 0 done, 1 a step or a proof failed, 2 wrong usage.
#
# Sources, as environment variables:
#   SWARM_APT_MIRROR, SWARM_APT_SECURITY_MIRROR   of the distribution; the machines use them too
#   SWARM_NPM_REGISTRY            of Node and npm; https://registry.npmjs.org
#   SWARM_NODE_URL                a file of nodejs.org instead: node-v24.…-linux-x64.tar.xz or arm64; needs --sha256 node=…
#   SWARM_RUST                    distribution (Debian's default) or rustup (Ubuntu's)
#   SWARM_RUST_SERVER, SWARM_RUST_VERSION         of rustup; https://static.rust-lang.org
#   SWARM_POSTGRES                distribution (default) or pgdg
#   SWARM_PGDG_APT, SWARM_PGDG_KEY, SWARM_PGDG_FINGERPRINTS   of pgdg; https://apt.postgresql.org/pub/repos/apt
#   SWARM_PGVECTOR_URL            its source, where the distribution has no package; Debian's mirror
#   SWARM_GCLOUD_APT, SWARM_GCLOUD_KEY, SWARM_GCLOUD_FINGERPRINTS   https://packages.cloud.google.com/apt
# The fingerprints are for mirrors that sign with a key of their own.
set -eu

profile=full only='' skip='' extra='' extras='' mode=setup work=''
CONTENTS=/usr/local/share/agent-swarm/base-image

usage() {
  echo "setup-base.sh: $1" >&2
  exit 2
}

parse() {
  while [ $# -gt 0 ]; do
    option=$1
    case $option in
      verify) mode=verify; shift; continue ;;
      --list) mode=list; shift; continue ;;
      --profile | --only | --skip | --extra | --sha256) ;;
      *) usage "unexpected argument \"$option\"" ;;
    esac
    [ -n "${2:-}" ] || usage "$option needs a value"
    case $option in
      --profile) profile=$2 ;;
      --only) only="$only $(echo "$2" | tr , ' ')" ;;
      --skip) skip="$skip $(echo "$2" | tr , ' ')" ;;
      --extra) extra=$2 ;;
      --sha256) checksums="$checksums $2" ;;
    esac
    shift 2
  done
  case $profile in minimal | full) ;; *) usage "unknown profile \"$profile\"; known: minimal, full" ;; esac
  for pair in $checksums; do
    case ${pair%%=*} in node | npm | rustup | pgvector) ;; *) usage "--sha256 \"$pair\": known names: node, npm, rustup, pgvector" ;; esac
    hex=${pair#*=}
    case $hex in *[!0-9a-f]*) hex='' ;; esac
    [ "${#hex}" = 64 ] || usage "--sha256 \"$pair\": not 64 hexadecimal digits"
  done
  find_extras
  for name in $only $skip; do
    is_in "$name" "$names $extras" || usage "unknown step \"$name\"; known:$names${extras:+ $extras}"
  done
}

# The names of the project's own steps: their files without .sh.
find_extras() {
  extras=''
  [ -n "$extra" ] || return 0
  [ -d "$extra" ] || usage "--extra \"$extra\": no such folder"
  for file in "$extra"/*.sh; do
    [ -e "$file" ] || continue
    name=$(basename "$file" .sh)
    case $name in '' | [!a-z0-9]* | *[!a-z0-9._-]*) usage "--extra: \"$name.sh\" is not a name of a step; use lower-case letters, digits, and . _ - after the first one" ;; esac
    if is_in "$name" "$names"; then usage "--extra: a step named $name exists already"; fi
    extras="$extras${extras:+ }$name"
  done
}

# Whether --only, --skip and, for our own steps, the profile let it run.
is_chosen() {
  if is_in "$1" "$skip"; then return 1; fi
  [ -z "$only" ] || is_in "$1" "$only" || return 1
  is_in "$1" "$extras" || is_in "$profile" "$(profiles_of "$1")"
}

list() {
  for name in $names; do printf '%s\t%s\t%s\n' "$name" "$(profiles_of "$name")" "$(summary_of "$name")"; done
  for name in $extras; do printf '%s\t%s\t%s\n' "$name" 'minimal full' 'a step of the project'; done
}

begin() {
  current_step=$1
  echo "step $1" >&3
}

record() {
  mkdir -p "$(dirname "$CONTENTS")"
  touch "$CONTENTS"
  grep -qx "$1 $current_step" "$CONTENTS" || echo "$1 $current_step" >>"$CONTENTS"
  current_step=''
}

setup() {
  [ "$(id -u)" = 0 ] || usage 'run it as root'
  if [ "$profile" = full ] && [ -n "$(missing apt-get)" ]; then usage 'the profile full needs Debian or Ubuntu (apt-get); --profile minimal does not'; fi
  if [ -L /etc/resolv.conf ] && [ ! -e /etc/resolv.conf ]; then
    if ! is_booted; then say '/etc/resolv.conf is a link to nowhere, so no source can be found by name. Make its target first.'; fi
  fi
  forbid_services
  for name in $names; do
    is_chosen "$name" || continue
    begin "$name"
    "set_up_$name"
    record step
  done
  for name in $extras; do
    is_chosen "$name" || continue
    begin "$name"
    run_extra "$extra/$name.sh"
    record extra
  done
  say "$profile is set up"
}

run_extra() {
  chmod 700 "$1"
  case $(head -c 2 "$1") in
    '#!') "$1" ;;
    *) sh -eu "$1" ;;
  esac
}

verify() {
  [ "$(id -u)" = 0 ] || usage 'run it as root'
  failed=0
  for name in $names; do
    is_chosen "$name" || continue
    if ! grep -qsx "step $name" "$CONTENTS"; then
      echo "unproven $name it is not set up in this image" >&3
      continue
    fi
    work=$(mktemp -d)
    chmod 711 "$work"
    # Not in a condition: there, the shell would not stop at the first command that fails.
    set +e
    how=$(set -e; export HOME="$work" TMPDIR="$work"; "prove_$name" 2>"$work/errors")
    code=$?
    set -e
    if [ "$code" = 0 ]; then
      echo "proven $name $(echo "$how" | one_line)" >&3
    else
      failed=1
      why=$(tail -n 3 "$work/errors" | one_line)
      echo "unproven $name ${why:-its proof ended with exit code $code}" >&3
    fi
    rm -rf "$work"
  done
  sed -n 's/^extra \(.*\)/unproven \1 it is a step of the project, which nothing here can prove/p' "$CONTENTS" 2>/dev/null >&3 || true
  return "$failed"
}

clean_up() {
  code=$?
  [ "$made_policy" = no ] || rm -f /usr/sbin/policy-rc.d
  rm -rf "$DOWNLOADS"
  if [ "$code" != 0 ] && [ -n "$current_step" ]; then say "step $current_step failed"; fi
}

main() {
  parse "$@"
  # Whatever the caller's locale is: PostgreSQL makes its cluster in this one.
  export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C.UTF-8 LANG=C.UTF-8
  export SWARM_PROFILE="$profile"
  DOWNLOADS=$(mktemp -d)
  trap clean_up EXIT
  exec 3>&1 1>&2
  case $mode in
    list) list >&3 ;;
    setup) setup ;;
    verify) verify ;;
  esac
}

# scripts.ts puts the other files in front of this one, as one text; as a file, it reads them.
if [ -z "${swarm_steps:-}" ]; then
  here=$(dirname "$0")
  for file in "$here"/lib.sh "$here"/steps/*.sh; do
    # shellcheck source=/dev/null
    . "$file"
  done
fi
# The shell may read this script from its standard input, which no program may use up.
main "$@" </dev/null
