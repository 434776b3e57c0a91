#!/bin/bash
# What somebody without agent-swarm would write: one machine with qemu-img, virsh and ssh, from the same base image, in the
# same pool and network. Done when the guest answers with its pinned host key. For bench/against.ts.
#   plain.sh create|checkpoint|restore|delete|list|status NAME
# PLAIN_HOME holds its keys, PLAIN_IMAGE names another base image.
set -eu
export LC_ALL=C
name=plain-$2
pool=$(virsh -q pool-dumpxml agent-swarm | sed -n 's:.*<path>\(.*\)</path>.*:\1:p')
address() { virsh -q domifaddr "$name" | sed -n 's:.* ipv4 *\([0-9.]*\)/.*:\1:p'; }
guest() { ssh -F none -i "$PLAIN_HOME/login" -o BatchMode=yes -o ConnectTimeout=5 -o LogLevel=ERROR -o HostKeyAlias="$name" -o UserKnownHostsFile="$PLAIN_HOME/$name.known" "agent@$1" "${@:2}" 2>/dev/null; }
ready() {
  until ip=$(address) && [ -n "$ip" ]; do sleep 0.25; done
  until guest "$ip" true; do sleep 0.25; done
}

case $1 in
create)
  [ -e "$PLAIN_HOME/login" ] || ssh-keygen -q -t ed25519 -N '' -f "$PLAIN_HOME/login"
  rm -f "$PLAIN_HOME/$name.host"*
  ssh-keygen -q -t ed25519 -N '' -C host -f "$PLAIN_HOME/$name.host"
  echo "$name $(cut -d ' ' -f 1,2 "$PLAIN_HOME/$name.host.pub")" >"$PLAIN_HOME/$name.known"
  qemu-img create -q -f qcow2 -b "$pool/${PLAIN_IMAGE:-agent-swarm-base}.qcow2" -F qcow2 "$pool/$name.disk.qcow2" 8G
  seed=$(mktemp -d)
  echo "{\"instance-id\": \"$name-$RANDOM\", \"local-hostname\": \"$name\"}" >"$seed/meta-data"
  cat >"$seed/user-data" <<.
#cloud-config
ssh_deletekeys: true
manage_etc_hosts: localhost
ssh_keys:
  ed25519_private: |
$(sed 's/^/    /' "$PLAIN_HOME/$name.host")
  ed25519_public: $(cat "$PLAIN_HOME/$name.host.pub")
users:
  - { name: agent, shell: /bin/bash, sudo: 'ALL=(ALL) NOPASSWD:ALL', ssh_authorized_keys: ['$(cat "$PLAIN_HOME/login.pub")'] }
.
  cat >"$seed/network-config" <<.
{ "version": 2, "ethernets": { "any": { "match": { "name": "e*" }, "dhcp4": true, "dhcp-identifier": "mac" } } }
.
  genisoimage -quiet -output "$pool/$name.seed.iso" -volid CIDATA -joliet -rock "$seed"/*
  rm -r "$seed"
  cat >"$PLAIN_HOME/$name.xml" <<.
<domain type="qemu">
  <name>$name</name><memory unit="MiB">1024</memory><vcpu>2</vcpu>
  <os><type arch="x86_64" machine="q35">hvm</type><boot dev="hd"/></os>
  <features><acpi/><apic/></features><cpu mode="maximum"/>
  <devices>
    <disk type="file" device="disk"><driver name="qemu" type="qcow2"/><source file="$pool/$name.disk.qcow2"/><target dev="vda" bus="virtio"/></disk>
    <controller type="scsi" model="virtio-scsi"/>
    <disk type="file" device="cdrom"><driver name="qemu" type="raw"/><source file="$pool/$name.seed.iso"/><target dev="sda" bus="scsi"/><readonly/></disk>
    <interface type="network"><source network="agent-swarm"/><model type="virtio"/></interface>
    <rng model="virtio"><backend model="random">/dev/urandom</backend></rng>
    <serial type="pty"/><console type="pty"/>
  </devices>
</domain>
.
  virsh -q define "$PLAIN_HOME/$name.xml" >/dev/null
  virsh -q start "$name" >/dev/null
  ready
  ;;
checkpoint) virsh -q snapshot-create-as "$name" --name=one --atomic >/dev/null ;;
restore)
  # Keep the replaced state, as agent-swarm does.
  virsh -q snapshot-create-as "$name" --name=before --atomic >/dev/null
  virsh -q snapshot-revert "$name" --snapshotname=one
  ready
  ;;
delete)
  # Look for unsaved work.
  guest "$(address)" "sudo find / -xdev -name .git -prune -exec git -C '{}/..' status --porcelain \;" >/dev/null
  virsh -q destroy "$name" >/dev/null
  virsh -q undefine "$name" --snapshots-metadata --managed-save >/dev/null
  rm -f "$pool/$name".*
  ;;
list)
  virsh -q list --all
  virsh -q net-dhcp-leases agent-swarm
  for one in $(virsh -q list --all --name); do echo "$one $(virsh -q snapshot-list "$one" --name | wc -l) $(du -sk "$pool/$one"* 2>/dev/null | cut -f 1 | paste -sd ' ')"; done
  ;;
status)
  virsh -q nodeinfo
  virsh -q nodememstats
  virsh -q pool-refresh agent-swarm
  virsh -q pool-info agent-swarm
  virsh -q domstats --state --cpu-total --vcpu --balloon
  virsh -q domstats --cpu-total
  du -sk "$pool"/*
  ;;
esac
