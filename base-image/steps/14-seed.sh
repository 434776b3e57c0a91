#!/bin/sh
step seed 'minimal full' 'Network, host key and user at the first boot without cloud-init, which runs only for seeds of others'

SEED_PROGRAM=/usr/local/sbin/swarm-seed

# cloud-init takes most of the first boot: four starts of Python, one after the other, before the SSH server. A clone needs six small
# files of it. swarm-seed writes them from the seed (seed.ts), and cloud-init does not run then; for any other seed it runs as ever.
set_up_seed() {
  if ! reads_seed; then return; fi
  write_seed_program
  write_seed_units
  # The one that seeds name.
  grep -q '^agent:' /etc/passwd || useradd --create-home --shell /bin/bash --comment agent-swarm agent
  # Not readable until it is complete: sudo refuses to work with half a file.
  (umask 226 && rm -f /etc/sudoers.d/90-agent-swarm && echo 'agent ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/90-agent-swarm)
  mkdir -p /etc/systemd/network
  # At the next boot: nothing that runs now is theirs.
  systemctl --no-reload enable systemd-networkd.service swarm-seed.service swarm-grow.service >/dev/null 2>&1
}

# Where the seed is a CD-ROM and networkd makes the network, as on Debian and on Ubuntu's servers.
reads_seed() {
  [ "$(seed_source)" = NoCloud ] || return 1
  [ -z "$(missing useradd udevadm)" ] || return 1
  [ -e /usr/lib/systemd/systemd-networkd ] || [ -e /lib/systemd/systemd-networkd ] || return 1
  for unit in NetworkManager.service networking.service; do
    if is_on "$unit"; then return 1; fi
  done
}

write_seed_program() {
  mkdir -p "$(dirname "$SEED_PROGRAM")"
  cat >"$SEED_PROGRAM.new" <<'PROGRAM'
#!/bin/sh
# Makes this machine the one that its seed names, when it is not that one yet. The shell does nearly all of it by itself, because
# under emulation every program that starts takes as long as a hundred lines of the shell.
# Whatever is not as expected ends it before anything is written, and cloud-init does the work then.
set -eu
known=/var/lib/swarm-seed/instance
folder=/run/swarm-seed
labelled=/dev/disk/by-label/CIDATA

mkdir -p "$folder/disk"
# Whether this disk holds our seed. It stays mounted then.
is_seed() {
  [ -b "$1" ] && mount -t iso9660 -o ro,nosuid,nodev,noexec "$1" "$folder/disk" 2>/dev/null || return 1
  [ ! -f "$folder/disk/swarm-seed" ] || return 0
  umount "$folder/disk"
  return 1
}
# The kernel knows a CD-ROM some time before udev has read its label.
is_seed /dev/sr0 || { udevadm wait --timeout=90 "$labelled" && is_seed "$labelled"; } || exit 0
trap 'umount "$folder/disk"' EXIT

instance='' hostname='' user='' network='' host_key='' host_public_key='' login_key='' machine_id='' complete=''
line_end='
'
while read -r name value; do
  case $name in
    instance) instance=$value ;;
    hostname) hostname=$value ;;
    user) user=$value ;;
    network) network=$network$value$line_end ;;
    host-key) host_key=$host_key$value$line_end ;;
    host-public-key) host_public_key=$value ;;
    login-key) login_key=$value ;;
    machine-id) machine_id=$value ;;
    end) complete=yes ;;
  esac
done <"$folder/disk/swarm-seed"
[ -n "$complete" ] || exit 0

# Tells cloud-init and whoever asks it that it has nothing to do.
without_cloud_init() {
  : >"$folder/done"
  mkdir -p /run/cloud-init
  : >/run/cloud-init/disabled
}

before=''
[ ! -e "$known" ] || read -r before <"$known" || true
if [ "$before" = "$instance" ]; then without_cloud_init; exit 0; fi

home='' owner=''
while IFS=: read -r name _ uid gid _ path _; do
  if [ "$name" = "$user" ]; then home=$path owner=$uid:$gid; fi
done </etc/passwd
[ -n "$home" ] || exit 0

echo "$hostname" >/proc/sys/kernel/hostname
echo "$hostname" >/etc/hostname
# sudo looks up its own host name, and waits for a name server when /etc/hosts lacks it.
hosts=''
if [ -e /etc/hosts ]; then
  while IFS= read -r line; do
    case $line in 127.0.1.1 | 127.0.1.1[!0-9]*) ;; *) hosts=$hosts$line$line_end ;; esac
  done </etc/hosts
fi
case $hosts in *localhost*) ;; *) hosts="127.0.0.1 localhost$line_end::1 localhost ip6-localhost ip6-loopback$line_end$hosts" ;; esac
printf '%s127.0.1.1 %s\n' "$hosts" "$hostname" >/etc/hosts
printf '%s' "$network" >/etc/systemd/network/10-agent-swarm.network

# The image's host keys, or those of the machine that this one was copied from.
rm -f /etc/ssh/ssh_host_*
umask 077
printf '%s' "$host_key" >/etc/ssh/ssh_host_ed25519_key
authorized=$home/.ssh/authorized_keys
[ -d "$home/.ssh" ] || mkdir "$home/.ssh"
# A disk with a machine-id of its own to come is a copy of another machine's: who logs in to that one does not log in here.
[ -z "$machine_id" ] || rm -f "$authorized" "${authorized}2"
has_key=''
if [ -e "$authorized" ]; then
  while IFS= read -r line; do
    if [ "$line" = "$login_key" ]; then has_key=yes; fi
  done <"$authorized"
fi
[ -n "$has_key" ] || printf '%s\n' "$login_key" >>"$authorized"
chown "$owner" "$home/.ssh" "$authorized"
umask 022
printf '%s\n' "$host_public_key" >/etc/ssh/ssh_host_ed25519_key.pub
if [ -n "$machine_id" ]; then
  echo "$machine_id" >/etc/machine-id
  [ -L /var/lib/dbus/machine-id ] || rm -f /var/lib/dbus/machine-id
  rm -f /var/lib/systemd/random-seed
  # It is mixed into the kernel's random numbers.
  echo "$machine_id$host_key" >/dev/urandom
fi
# Last: a boot that ended before this does everything again.
echo "$instance" >"$known"
without_cloud_init
PROGRAM
  chmod 755 "$SEED_PROGRAM.new"
  mv -f "$SEED_PROGRAM.new" "$SEED_PROGRAM"
  mkdir -p /var/lib/swarm-seed
}

write_seed_units() {
  cat >/etc/systemd/system/swarm-seed.service <<UNIT
[Unit]
Description=Make this machine the one that its seed names
DefaultDependencies=no
Wants=network-pre.target
After=systemd-remount-fs.service
RequiresMountsFor=/etc /var/lib/swarm-seed /home
Before=network-pre.target systemd-networkd.service cloud-init-local.service cloud-init-main.service
Before=ssh.service ssh.socket sshd.service systemd-user-sessions.service shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$SEED_PROGRAM

[Install]
WantedBy=multi-user.target
UNIT
  for unit in cloud-init-local cloud-init cloud-init-main cloud-init-network cloud-config cloud-final; do
    mkdir -p "/etc/systemd/system/$unit.service.d"
    cat >"/etc/systemd/system/$unit.service.d/agent-swarm.conf" <<'UNIT'
[Unit]
After=swarm-seed.service
ConditionPathExists=!/run/swarm-seed/done
ConditionPathExists=!/etc/cloud/cloud-init.disabled
ConditionKernelCommandLine=!cloud-init=disabled
UNIT
  done
  # cloud-init's own look for a seed happens before anything else starts, in a long script of the shell. Its units wait for ours.
  mkdir -p /etc/systemd/system-generators /etc/systemd/system/multi-user.target.wants
  ln -sf /dev/null /etc/systemd/system-generators/cloud-init-generator
  for folder in /usr/lib/systemd/system /lib/systemd/system; do
    if [ -e "$folder/cloud-init.target" ]; then
      ln -sf "$folder/cloud-init.target" /etc/systemd/system/multi-user.target.wants/cloud-init.target
      break
    fi
  done
  write_grow_unit
}

# The disk of a machine is larger than its image's. cloud-init grows the file system before the SSH server starts.
write_grow_unit() {
  cat >/usr/local/sbin/swarm-grow <<'PROGRAM'
#!/bin/sh
# Grows the root partition and its file system to the size of the disk.
set -eu
device='' type=''
while read -r from on kind _; do
  if [ "$on" = / ]; then device=$from type=$kind; fi
done </proc/self/mounts
[ -b "$device" ] || exit 0
node=${device##*/}
if [ -r "/sys/class/block/$node/partition" ]; then
  read -r number <"/sys/class/block/$node/partition"
  path=$(readlink -f "/sys/class/block/$node/..")
  # Exit code 1: nothing to grow.
  growpart "/dev/${path##*/}" "$number" || [ $? = 1 ]
fi
case $type in
  ext[234]) exec resize2fs "$device" ;;
  xfs) exec xfs_growfs / ;;
  btrfs) exec btrfs filesystem resize max / ;;
esac
PROGRAM
  chmod 755 /usr/local/sbin/swarm-grow
  cat >/etc/systemd/system/swarm-grow.service <<'UNIT'
[Unit]
Description=Grow the root file system to the size of the disk
After=swarm-seed.service ssh.service ssh.socket
ConditionPathExists=/run/swarm-seed/done

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/swarm-grow

[Install]
WantedBy=multi-user.target
UNIT
}

prove_seed() {
  if ! reads_seed; then echo 'cloud-init reads the seed'; return; fi
  for unit in swarm-seed.service swarm-grow.service systemd-networkd.service; do
    is_on "$unit" || { echo "$unit is off" >&2; return 1; }
  done
  if ! is_booted; then echo 'the seed is read without cloud-init at the next boot'; return; fi
  # The machine that becomes the image was set up by cloud-init, a clone of it by its own seed.
  if [ ! -e /run/swarm-seed/done ]; then echo 'swarm-seed did not read the seed' >&2; return 1; fi
  # It may still grow the file system.
  systemctl start swarm-grow.service
  if [ "$(systemctl is-active cloud-init.service || true)" = active ]; then echo 'cloud-init ran all the same' >&2; return 1; fi
  echo 'the seed was read without cloud-init, and the file system is as large as its disk'
}
