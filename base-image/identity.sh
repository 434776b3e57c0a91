# shellcheck shell=sh
# Gives a guest that goes on with the memory of another one an identity of its own, as root, while its network has no carrier.
# reseed.sh stands in front of it, and identity.ts puts these in front of both:
#   name, machine_id, host_private, host_public, login_key
#   now                         the time, in seconds
#   old_mac, mac
#   address, prefix, gateway    empty where only DHCP knows them
# Prints what it did, a line each, and "identity done" at the end. Whatever fails ends it.
set -eu
: "${name?}" "${machine_id?}" "${host_private?}" "${host_public?}" "${login_key?}" "${now?}"
: "${old_mac?}" "${mac?}" "${address?}" "${prefix?}" "${gateway?}"

date -s "@$now" >/dev/null
# Two forks that hand out the same random numbers make the same keys.
random=$(reseed)
echo "$random"
[ "$random" = 'random reseeded' ] || { echo 'its random numbers cannot be made new at once: it needs perl or python3' >&2; exit 1; }

# The services that configure the network are stopped until their files name this machine: they would go on with its source's lease.
known='systemd-networkd.socket systemd-networkd.service NetworkManager.service networking.service'
network_units=''
# shellcheck disable=SC2046,SC2086  # One word a unit, and one word a state.
set -- $(systemctl is-active $known 2>/dev/null || true)
for unit in $known; do
  if [ "${1:-}" = active ]; then network_units="$network_units $unit"; fi
  shift
done

device=''
for file in /sys/class/net/*/address; do
  read -r found <"$file"
  if [ "$found" = "$old_mac" ]; then device=${file%/address} device=${device##*/}; fi
done
[ -n "$device" ] || { echo "no network interface has the address $old_mac" >&2; exit 1; }
old_addresses=$(ip -o -4 address show dev "$device" scope global | sed -n 's/.* inet \([0-9.]*\).*/\1/p')

# shellcheck disable=SC2086  # One word a unit.
[ -z "$network_units" ] || systemctl stop $network_units
if command -v dhclient >/dev/null && command -v pkill >/dev/null; then pkill -KILL -x dhclient || true; fi
rm -rf /run/systemd/netif/leases /run/systemd/netif/state /var/lib/NetworkManager/*.lease /var/lib/dhcp/*.leases

# Connections of the source end: the other side does not know this machine.
for old in $old_addresses; do
  if [ "$old" != "$address" ]; then ss -K src "$old" >/dev/null 2>&1 || true; fi
done

# The address that the kernel found at its start, the permanent one, is the source's until the next boot.
files=$(grep -liF "$old_mac" /run/systemd/network/* /etc/netplan/*.yaml /etc/systemd/network/* \
  /etc/udev/rules.d/70-persistent-net.rules /etc/network/interfaces.d/50-cloud-init \
  /etc/NetworkManager/system-connections/* /run/NetworkManager/system-connections/* \
  /etc/sysconfig/network-scripts/ifcfg-* 2>/dev/null || true)
echo "$files" | while read -r file; do
  [ -z "$file" ] || sed -i -e "s/^PermanentMACAddress=$old_mac\$/MACAddress=$mac/" -e "s/$old_mac/$mac/Ig" "$file"
done
{
  printf '%s\n' "link set $device down" "address flush dev $device" "link set $device address $mac" "link set $device up"
  if [ -n "$address" ]; then
    printf '%s\n' "address add $address/$prefix dev $device" "route replace default via $gateway dev $device"
  fi
} | ip -batch -
echo "network $device"

read -r old_name </proc/sys/kernel/hostname
echo "$name" >/proc/sys/kernel/hostname
echo "$name" >/etc/hostname
if grep -qwF "$old_name" /etc/hosts; then sed -i "s/\\b$old_name\\b/$name/g" /etc/hosts; else echo "127.0.1.1 $name" >>/etc/hosts; fi
echo "$machine_id" >/etc/machine-id
if [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then echo "$machine_id" >/var/lib/dbus/machine-id; fi
rm -f /var/lib/systemd/random-seed
# The fork's seed names it so. Otherwise swarm-seed would apply that seed at the next boot, over what became of the machine since.
if [ -f /var/lib/swarm-seed/instance ]; then echo "$name" >/var/lib/swarm-seed/instance; fi
echo 'names'

rm -f /etc/ssh/ssh_host_*
(umask 077 && printf '%s\n' "$host_private" >/etc/ssh/ssh_host_ed25519_key)
printf '%s\n' "$host_public" >/etc/ssh/ssh_host_ed25519_key.pub
keys=/home/agent/.ssh/authorized_keys
if [ -f "$keys" ] && ! grep -qxF "$login_key" "$keys"; then printf '%s\n' "$login_key" >>"$keys"; fi
# What sshd answers with, and who is logged in over the source's connections.
for process in /proc/[0-9]*; do
  comm='' above=''
  { read -r comm <"$process/comm"; } 2>/dev/null || continue
  case $comm in sshd | sshd-session | sshd-auth) ;; *) continue ;; esac
  parent=$(sed -n 's/^PPid:[[:space:]]*//p' "$process/status" 2>/dev/null) || continue
  { read -r above <"/proc/$parent/comm"; } 2>/dev/null || true
  case $above in
    sshd | sshd-session) kill -KILL "${process#/proc/}" 2>/dev/null || true ;;
    *) kill -HUP "${process#/proc/}" ;;
  esac
done
echo 'ssh'

# shellcheck disable=SC2086  # One word a unit.
[ -z "$network_units" ] || systemctl start --no-block $network_units
systemctl try-restart --no-block systemd-timesyncd.service chrony.service chronyd.service >/dev/null 2>&1 || true
echo 'identity done'
