#!/bin/bash
# libvirt in mount, network and process namespaces of its own, which see and change nothing outside. When their first process
# ends, so does every guest.
#
#   namespace.sh STATE CMD...     run CMD inside. The namespaces end with it, unless another command (for example
#                                 namespace.sh STATE sleep infinity) opened them before
#   namespace.sh STATE --wipe     remove STATE
#
# STATE is a folder for definitions and images. It must be root's alone, in folders in which nobody else can replace it: root runs
# what lies there. Needs root, libvirt, iproute2.
set -u
export LC_ALL=C LANG=C

refuse() {
  echo "namespace.sh: $1" >&2
  echo "Name a folder that only root can make and change, for example below /var/lib or /root." >&2
  exit 1
}

# Whether $1 is root's, and others cannot make or replace what is in it. In a sticky folder others make only what is theirs.
is_roots() {
  local owner mode
  read -r owner mode < <(stat -c '%u %a' -- "$1") || return 1
  [ ! -L "$1" ] && [ -d "$1" ] && [ "$owner" = 0 ] && { [ $((0$mode & 0022)) = 0 ] || [ $((0$mode & 01000)) != 0 ]; }
}

# Makes the folder $1 for root alone unless it is there, and prints its path.
own_folder() {
  local given=$1 parent path
  [ "$(id -u)" = 0 ] || refuse "it needs root"
  # A link is not followed: its owner could turn it elsewhere.
  parent=$(cd -P -- "$(dirname -- "$given")" && pwd) || exit 1
  path=${parent%/}/$(basename -- "$given")
  while true; do
    is_roots "$parent" || refuse "others can replace $path, since $parent is not root's alone"
    [ "$parent" != / ] || break
    parent=$(dirname -- "$parent")
  done
  # Of several users who make it, one does: whose it is shows afterwards.
  mkdir -m 700 -- "$path" 2>/dev/null
  { is_roots "$path" && [ $((0$(stat -c %a -- "$path") & 0022)) = 0 ]; } || refuse "$path is not root's alone"
  printf '%s\n' "$path"
}

STATE=$(own_folder "$1") || exit 1
shift
HERE=$(readlink -f "$0")

inside() { # the first process of the namespace
  mount --make-rprivate /
  # Its pid outside, while /proc is still the outside one.
  read -r first _ </proc/self/stat
  mount -t proc proc /proc
  # A /dev without kvm: some hosts have a /dev/kvm that never boots a guest, and libvirt's probe of it stalls. A bind mount
  # over the node would make libvirt probe again at every define.
  if [ "${AGENT_SWARM_NAMESPACE_KVM:-hide}" = hide ]; then
    mkdir -p "$STATE/dev"
    mount -t tmpfs -o mode=755 tmpfs "$STATE/dev"
    (cd /dev && find . -mindepth 1 -xdev \( -type c -o -type b -o -type l \) ! -name kvm | while read -r f; do
      mkdir -p "$STATE/dev/${f%/*}"; cp -a "$f" "$STATE/dev/$f"; done)
    for m in pts shm mqueue; do [ -d /dev/$m ] && mkdir -p "$STATE/dev/$m" && mount --rbind /dev/$m "$STATE/dev/$m"; done
    [ -d "$STATE/dev/shm" ] || mkdir -m 1777 "$STATE/dev/shm"
    umount -l -R /dev
    mount --move "$STATE/dev" /dev
  fi
  mount --bind "$STATE/etc" /etc/libvirt
  mount --bind "$STATE/lib" /var/lib/libvirt
  mount --bind "$STATE/cache" /var/cache/libvirt
  mkdir -p /run/libvirt
  mount -t tmpfs -o mode=755 tmpfs /run/libvirt
  # libvirt reads the network in /sys, which needs a mount of its own. The control groups stay.
  mkdir -p "$STATE/cg"
  mount --rbind /sys/fs/cgroup "$STATE/cg"
  mount -t sysfs sysfs /sys && mount --move "$STATE/cg" /sys/fs/cgroup
  ip link set lo up
  virtlogd -d -p /run/libvirt/virtlogd.pid
  # libvirtd's messages may be in any language: test/kvm/states.test.ts.
  LC_ALL=${AGENT_SWARM_NAMESPACE_LANG:-C} libvirtd -d -p /run/libvirt/libvirtd.pid
  for _ in $(seq 300); do virsh -q version >/dev/null 2>&1 && break; sleep 0.1; done
  virsh -q version >/dev/null 2>&1 || { echo "namespace.sh: libvirtd does not answer" >&2; exit 1; }
  mkdir -p "$STATE/bin"
  # The namespaces have no network outside, but mmdebstrap must reach the package mirror.
  printf '#!/bin/sh\nexec nsenter --net=%s /usr/bin/mmdebstrap "$@"\n' "$STATE/outside-net" >"$STATE/bin/mmdebstrap"
  chmod 755 "$STATE/bin/mmdebstrap"
  echo "$first" >"$STATE/first"
  PATH=$STATE/bin:$PATH "$@" &
  child=$!
  trap 'kill -TERM $child 2>/dev/null' TERM INT
  wait $child; code=$?
  # A trapped signal ends the wait before the child has ended.
  while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
  for d in $(virsh -q list --name 2>/dev/null); do virsh -q destroy "$d" >/dev/null 2>&1; done
  for n in $(virsh -q net-list --name 2>/dev/null); do virsh -q net-destroy "$n" >/dev/null 2>&1; done
  exit $code
}

case "${1:-}" in
  --keep-net)
    # Keeps the outside network for mmdebstrap.
    shift
    mount --make-rprivate /
    : >"$STATE/outside-net"
    mount --bind /proc/self/ns/net "$STATE/outside-net"
    exec unshare --net --pid --fork --kill-child "$HERE" "$STATE" --inside "$@"
    ;;
  --inside) shift; inside "$@" ;;
  --wipe) rm -rf "$STATE" ;;
  '') sed -n '2,8p' "$0"; exit 2 ;;
  *)
    # Two libvirtds with one STATE would use the same machines.
    exec 9>"$STATE/lock"
    if ! flock -n 9; then
      exec 9>&-
      for _ in $(seq 300); do [ -s "$STATE/first" ] && break; sleep 0.1; done
      first=$(cat "$STATE/first") || exit 1
      # Everything that it starts inside ends with it.
      exec nsenter --target "$first" --mount --net --pid --wd="$PWD" \
        setpriv --pdeathsig TERM env PATH="$STATE/bin:$PATH" "$@"
    fi
    rm -f "$STATE/first"
    killer=
    mkdir -p "$STATE"/{etc,lib,cache}
    # Others need nothing in it: the namespaces mount its parts elsewhere.
    chmod 700 "$STATE"
    [ -e "$STATE/etc/qemu.conf" ] || cp -a /etc/libvirt/. "$STATE/etc/"
    # As on Debian with systemd: the group libvirt may use it. polkit does not run here.
    printf '%s\n' 'unix_sock_group = "libvirt"' 'unix_sock_rw_perms = "0770"' 'auth_unix_rw = "none"' >"$STATE/etc/libvirtd.conf"
    for d in boot dnsmasq images lockd network nvram qemu sanlock; do
      if [ ! -d "$STATE/lib/$d" ] && [ -d "/var/lib/libvirt/$d" ]; then
        mkdir "$STATE/lib/$d"
        chown --reference="/var/lib/libvirt/$d" "$STATE/lib/$d"
        chmod --reference="/var/lib/libvirt/$d" "$STATE/lib/$d"
      fi
    done
    unshare --mount "$HERE" "$STATE" --keep-net "$@" &
    child=$!
    # After a grace period, killing the first process ends all of it.
    trap 'pkill -TERM -P "$child" 2>/dev/null; (sleep 20; kill -KILL "$child") 2>/dev/null & killer=$!' TERM INT
    wait $child; code=$?
    while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
    [ -z "$killer" ] || kill "$killer" 2>/dev/null
    exit $code
    ;;
esac
