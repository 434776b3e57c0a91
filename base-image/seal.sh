#!/bin/sh
# Removes everything that belongs to this one machine, so that its disk becomes an image. Runs last, as root, before the
# shutdown.
set -eu
# No machine of the image may have this one.
echo "machine-id $(cat /etc/machine-id)"
rm -f /etc/ssh/ssh_host_*
rm -rf /home/agent/.ssh /root/.ssh
cloud-init clean --logs >/dev/null 2>&1 || rm -rf /var/lib/cloud/instances /var/lib/cloud/instance /var/lib/cloud/data
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed /etc/netplan/50-cloud-init.yaml /etc/hostname
rm -f /var/lib/swarm-seed/instance /etc/systemd/network/10-agent-swarm.network
# The network configuration that cloud-init's renderers wrote for this machine's MAC.
rm -f /etc/udev/rules.d/70-persistent-net.rules /etc/systemd/network/10-cloud-init-* /etc/network/interfaces.d/50-cloud-init \
  /etc/NetworkManager/system-connections/cloud-init-* /etc/sysconfig/network-scripts/ifcfg-eth0
rm -rf /var/lib/dhcp/* /var/lib/systemd/network /run/systemd/netif/leases
if command -v apt-get >/dev/null; then apt-get clean; rm -rf /var/lib/apt/lists/*; fi
# -c: where fs.protected_regular is on, not even root may open a file "to create it" that another user has in a folder with the
# sticky bit, and PostgreSQL's log is one.
find /var/log -type f -exec truncate -c -s 0 {} +
rm -rf /tmp/* /var/tmp/* /root/.bash_history /home/*/.bash_history /root/.cache /root/.npm /root/.config/gcloud
# Frees the space of deleted files in the image.
fstrim -a 2>/dev/null || true
sync
echo sealed
