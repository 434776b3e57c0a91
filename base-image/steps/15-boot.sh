#!/bin/sh
step boot 'minimal full' 'No waiting at boot for what a cloned machine does not have'

set_up_boot() {
  mkdir -p /etc/cloud/cloud.cfg.d
  cat >/etc/cloud/cloud.cfg.d/90-agent-swarm.cfg <<CFG
# The only source of the seed. Others would wait for a network that may not answer.
datasource_list: [$(seed_source), None]
CFG
  if [ -d /etc/default/grub.d ] || [ -e /etc/default/grub ]; then trim_grub; fi
  for unit in apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-networkd-wait-online.service; do
    turn_off "$unit" || true
  done
}

# A CD-ROM; on EC2, the metadata service. A clone is on the same platform as the machine that its image was made of.
seed_source() {
  if [ "$(cloud-id 2>/dev/null)" = aws ]; then echo Ec2; else echo NoCloud; fi
}

trim_grub() {
  mkdir -p /etc/default/grub.d
  # Under emulation on a busy host, the kernel's check of its timer sometimes fails, and the kernel stops.
  cat >/etc/default/grub.d/90-agent-swarm.cfg <<'CFG'
GRUB_TIMEOUT=0
GRUB_RECORDFAIL_TIMEOUT=0
GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX no_timer_check"
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
  echo 'daily timers are off; cloud-init reads the seed only'
}
