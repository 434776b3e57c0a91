#!/bin/sh
step boot 'minimal full' 'No waiting at boot for what a cloned machine does not have, and nothing before the SSH server that it does not need'

# Nothing in a cloned machine is of use to them, or they wait for what it does not have.
USELESS_UNITS='apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
  systemd-networkd-wait-online.service pollinate.service multipathd.service open-iscsi.service iscsid.socket open-vm-tools.service
  vgauth.service ModemManager.service motd-news.timer fwupd-refresh.timer secureboot-db.service systemd-pstore.service'
# What a session or a program asks for later. Where processors are few, what starts beside the SSH server delays it.
LATER_UNITS='systemd-logind qemu-guest-agent getty@ serial-getty@ cron rsyslog polkit unattended-upgrades'
# Every unit of a boot waits for these, and none needs them.
UNORDERED_UNITS='systemd-timesyncd systemd-binfmt'

set_up_boot() {
  mkdir -p /etc/cloud/cloud.cfg.d
  cat >/etc/cloud/cloud.cfg.d/90-agent-swarm.cfg <<CFG
# The only source of the seed. Others would wait for a network that may not answer.
datasource_list: [$(seed_source), None]
CFG
  if [ -d /etc/default/grub.d ] || [ -e /etc/default/grub ]; then trim_grub; fi
  for unit in $USELESS_UNITS; do
    turn_off "$unit" || true
  done
  order_units
  trim_sessions
  trim_initramfs
}

# A CD-ROM; on EC2, the metadata service. A clone is on the same platform as the machine that its image was made of.
seed_source() {
  if [ "$(cloud-id 2>/dev/null)" = aws ]; then echo Ec2; else echo NoCloud; fi
}

order_units() {
  for unit in $LATER_UNITS; do
    put_drop_in "$unit" <<'UNIT'
[Unit]
After=ssh.service
UNIT
  done
  # pam_nologin refuses people until that unit has run, and sshd itself checks its configuration as it starts.
  put_drop_in ssh <<'UNIT'
[Unit]
After=systemd-user-sessions.service

[Service]
ExecStartPre=
UNIT
  for unit in $UNORDERED_UNITS; do without_order "$unit"; done
  # Without definitions of partitions it does nothing, and loads two modules of the kernel for it.
  if [ -z "$(find /etc/repart.d /usr/lib/repart.d /usr/local/lib/repart.d -type f 2>/dev/null)" ]; then
    ln -sf /dev/null /etc/systemd/system/systemd-repart.service
  fi
}

# put_drop_in UNIT: its text is on standard input.
put_drop_in() {
  mkdir -p "/etc/systemd/system/$1.service.d"
  cat >"/etc/systemd/system/$1.service.d/agent-swarm.conf"
}

# A drop-in cannot take an order back, so this is the whole unit without it.
without_order() {
  for folder in /usr/lib/systemd/system /lib/systemd/system; do
    [ -e "$folder/$1.service" ] || continue
    sed -e '/^Before=/s/ *sysinit\.target//' -e '/^Before=$/d' -e '/^\[Unit\]/a After=ssh.service' \
      "$folder/$1.service" >"/etc/systemd/system/$1.service"
    return
  done
}

# Under emulation, the message of the day and the look for mail take a third of a second of every connection. Limits, environment
# and the session of systemd stay as they are.
trim_sessions() {
  [ ! -e /etc/pam.d/sshd ] || sed -i 's/^session .*pam_\(motd\|mail\)\.so/# &/' /etc/pam.d/sshd
}

# Where the disk is virtio, its driver and the file system's are all that the system needs to go on from its own root: the rest
# of what most machines might need takes seconds to read and unpack.
trim_initramfs() {
  if ! can_trim_initramfs; then return; fi
  conf=/etc/initramfs-tools/conf.d/agent-swarm.conf
  if [ -e "$conf" ]; then return; fi
  for module in virtio_pci virtio_blk virtio_scsi sd_mod sr_mod isofs ext4; do
    grep -qx "$module" /etc/initramfs-tools/modules || echo "$module" >>/etc/initramfs-tools/modules
  done
  printf 'MODULES=list\nFSTYPE=ext4\n' >"$conf"
  update-initramfs -u -k all >&2 || {
    rm "$conf"
    die "update-initramfs failed" "Without the step: --skip boot"
  }
}

can_trim_initramfs() {
  is_booted && [ -z "$(missing update-initramfs findmnt)" ] || return 1
  case $(findmnt -n -o SOURCE,FSTYPE / | tr -s ' ') in
    /dev/vd[a-z][0-9]*' ext4') ;;
    *) return 1 ;;
  esac
}

trim_grub() {
  mkdir -p /etc/default/grub.d
  # Under emulation on a busy host, the kernel's check of its timer sometimes fails, and the kernel stops. The one interface is
  # named eth0, without a change of its name at each boot.
  cat >/etc/default/grub.d/90-agent-swarm.cfg <<'CFG'
GRUB_TIMEOUT=0
GRUB_RECORDFAIL_TIMEOUT=0
GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX no_timer_check net.ifnames=0"
CFG
  if command -v update-grub >/dev/null && [ -e /boot/grub/grub.cfg ] && [ ! -e /boot/grub/agent-swarm ]; then
    update-grub >/dev/null 2>&1 || true
  fi
}

prove_boot() {
  for unit in apt-daily.timer apt-daily-upgrade.timer; do
    if is_on "$unit"; then echo "$unit is on" >&2; return 1; fi
  done
  grep -q "^datasource_list: \\[$(seed_source), None\\]" /etc/cloud/cloud.cfg.d/90-agent-swarm.cfg
  prove_sessions
  prove_initramfs
  if is_booted; then prove_later_units; fi
  echo 'daily timers are off; cloud-init reads the seed only; a session over SSH has its limits, and no message of the day'
}

prove_sessions() {
  [ -e /etc/pam.d/sshd ] || return 0
  if grep -q '^session .*pam_\(motd\|mail\)\.so' /etc/pam.d/sshd; then echo 'sshd shows a message of the day' >&2; return 1; fi
  grep -q '^session .*pam_limits\.so' /etc/pam.d/sshd || { echo 'sshd sets no limits' >&2; return 1; }
}

# Each kernel's, since any of them may be the next one that boots.
prove_initramfs() {
  [ -e /etc/initramfs-tools/conf.d/agent-swarm.conf ] || return 0
  for file in /boot/initrd.img-*; do
    version=${file#/boot/initrd.img-}
    lsinitramfs "$file" >"$work/initramfs"
    for module in virtio_blk ext4; do
      grep -qs "/$module\.ko" "$work/initramfs" "/lib/modules/$version/modules.builtin" ||
        { echo "$file lacks $module" >&2; return 1; }
    done
  done
}

# What starts after the SSH server does start.
prove_later_units() {
  for unit in systemd-logind.service systemd-timesyncd.service; do
    case $(systemctl is-enabled "$unit" 2>/dev/null || true) in enabled | static) ;; *) continue ;; esac
    until_answers 60 systemctl is-active "$unit" || { echo "$unit does not run" >&2; return 1; }
  done
}
