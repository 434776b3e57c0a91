#!/bin/bash
# Runs test/kvm/run.sh on the libvirt and QEMU of Debian 13: in a root folder made of its packages, as if it were the host.
#   debian13.sh [--if-possible] [arguments of run.sh]
# AGENT_SWARM_TEST_DEBIAN13 names a folder that keeps the root from one run to the next; AGENT_SWARM_TEST_STATE is a path in it.
# Needs root, mmdebstrap, and Debian's mirror.
set -u
cd "$(dirname "$0")/../.." || exit 1
export PATH=$PWD/node_modules/.bin:$PATH
if [ "$(id -u)" != 0 ] || ! command -v mmdebstrap >/dev/null; then
  echo 'The tests on Debian 13 need root and mmdebstrap (Debian, Ubuntu: apt-get install mmdebstrap).' >&2
  [ "${1:-}" = --if-possible ] && echo "Left out: $*" >&2 && exit 0
  exit 1
fi
root=${AGENT_SWARM_TEST_DEBIAN13:-$(mktemp -d /var/tmp/agent-swarm-debian13.XXXXXX)}
[ -n "${AGENT_SWARM_TEST_DEBIAN13:-}" ] || trap 'rm -rf --one-file-system "$root"' EXIT

if [ ! -e "$root/made" ]; then
  packages=$(node -e "import('./providers/kvm/systems.ts').then(({ debianPackages: { run, build } }) => console.log([...run, ...build].join()))") || exit 1
  # What the host of the tests has besides, and the parts of libvirt that are packages of their own there.
  packages+=,genisoimage,rsync,libvirt-daemon-driver-network,libvirt-daemon-driver-nwfilter,libvirt-daemon-driver-storage
  packages+=,libvirt-daemon-config-network,ebtables,nftables,kmod,procps,psmisc,ca-certificates,git,openssh-server,python3,locales
  rm -rf --one-file-system "$root"
  mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" trixie "$root" || exit 1
  touch "$root/made"
fi
[ -z "${AGENT_SWARM_TEST_STATE:-}" ] || mkdir -p "$root$(dirname "$AGENT_SWARM_TEST_STATE")" || exit 1

# shellcheck disable=SC2016
# The root folder becomes the system's, in a mount namespace of its own.
enter='
  cd "$1" && mount --make-rprivate / && mount --bind . . && cd "$1" || exit 1
  for d in dev proc sys; do mount --rbind /$d $d || exit 1; done
  mkdir -p run ".$2" && mount -t tmpfs -o mode=755 tmpfs run && mount --bind "$2" ".$2" || exit 1
  for f in resolv.conf hosts; do cp -L /etc/$f etc/$f; done
  mkdir -p run/old && pivot_root . run/old && umount -l run/old && cd "$2" && shift 2 && exec "$@"'
unshare --mount sh -c "$enter" sh "$root" "$PWD" bash test/kvm/run.sh "$@"
