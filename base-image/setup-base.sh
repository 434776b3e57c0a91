#!/bin/sh
# Installs and configures what every base image contains. Runs as root in the machine that becomes the image:
#   setup-base.sh minimal
# A second run changes nothing. An image that has all the programs already needs no network.
set -eu
profile=${1:-minimal}
case $profile in
  minimal) ;;
  *) echo "setup-base.sh: unknown profile \"$profile\"; known: minimal" >&2; exit 2 ;;
esac
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

missing() { for program in "$@"; do command -v "$program" >/dev/null 2>&1 || echo "$program"; done; }

# ── Programs: SSH server, git, cloud-init, guest agent, sudo, rsync ──
lacking=$(missing sshd git cloud-init qemu-ga sudo rsync)
if [ -n "$lacking" ]; then
  if command -v apt-get >/dev/null; then
    apt-get update -q
    apt-get install -q -y --no-install-recommends openssh-server git cloud-init qemu-guest-agent sudo rsync
  elif command -v dnf >/dev/null; then
    dnf install -y openssh-server git-core cloud-init qemu-guest-agent sudo rsync
  else
    echo "setup-base.sh: missing, and neither apt-get nor dnf can install it: $lacking" >&2
    exit 1
  fi
fi
lacking=$(missing sshd git cloud-init qemu-ga sudo rsync)
[ -z "$lacking" ] || { echo "setup-base.sh: still missing: $lacking" >&2; exit 1; }

# ── Boot without waiting for things that a cloned machine does not have ──
mkdir -p /etc/cloud/cloud.cfg.d
cat > /etc/cloud/cloud.cfg.d/90-agent-swarm.cfg <<'CFG'
# The seed is a CD-ROM. Other sources would wait for a network that may not answer.
datasource_list: [NoCloud, None]
CFG
if [ -d /etc/default/grub.d ] || [ -e /etc/default/grub ]; then
  mkdir -p /etc/default/grub.d
  # Under emulation on a busy host, the kernel's check of its timer sometimes fails, and the kernel stops.
  cat > /etc/default/grub.d/90-agent-swarm.cfg <<'CFG'
GRUB_TIMEOUT=0
GRUB_RECORDFAIL_TIMEOUT=0
GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX no_timer_check"
CFG
  if command -v update-grub >/dev/null && [ -e /boot/grub/grub.cfg ] && [ ! -e /boot/grub/agent-swarm ]; then update-grub >/dev/null 2>&1 || true; fi
fi
for unit in apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-networkd-wait-online.service; do
  systemctl disable "$unit" >/dev/null 2>&1 || true
done
systemctl enable ssh >/dev/null 2>&1 || systemctl enable sshd >/dev/null 2>&1
# No DNS lookup before the answer to a login.
mkdir -p /etc/ssh/sshd_config.d
printf 'UseDNS no\nPasswordAuthentication no\nPermitRootLogin no\n' > /etc/ssh/sshd_config.d/90-agent-swarm.conf

echo "setup-base.sh: $profile is set up"
