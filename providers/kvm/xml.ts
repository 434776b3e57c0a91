/** Definitions that libvirt is given. Every value goes through `xml`, also those that are known to be harmless. */

export const NAMESPACE = 'urn:agent-swarm:1'

export const escapeXml = (value: string | number): string =>
  String(value)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&apos;')

export const unescapeXml = (text: string): string =>
  text
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&apos;', "'")
    .replaceAll('&amp;', '&')

/** A template whose values are escaped. */
const xml = (text: TemplateStringsArray, ...values: (string | number)[]): string =>
  text.map((part, at) => part + (at < values.length ? escapeXml(values[at] ?? '') : '')).join('')

export type Machine = {
  vmId: string
  ticket: string
  mac: string
  domainType: 'kvm' | 'qemu'
  cpus: number
  memoryMiB: number
  diskPath: string
  seedPath: string
  /** Where the guest's serial console is written to. */
  consolePath: string
  network: string
}

/** BIOS and qcow2, since libvirt 9.0 keeps memory in a checkpoint of nothing else. The seed sits behind virtio-scsi: Debian's cloud kernel has no SATA. */
export const domainXml = (machine: Machine): string =>
  xml`<domain type="${machine.domainType}">
  <name>${machine.vmId}</name>
  <metadata><as:vm xmlns:as="${NAMESPACE}" name="${machine.vmId}" ticket="${machine.ticket}" mac="${machine.mac}"/></metadata>
  <memory unit="MiB">${machine.memoryMiB}</memory>
  <vcpu>${machine.cpus}</vcpu>
  <os><type arch="x86_64" machine="q35">hvm</type><boot dev="hd"/></os>
  <features><acpi/><apic/></features>
  <cpu mode="${machine.domainType === 'kvm' ? 'host-passthrough' : 'maximum'}"/>
  <clock offset="utc"/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <disk type="file" device="disk">
      <driver name="qemu" type="qcow2" discard="unmap"/>
      <source file="${machine.diskPath}"/>
      <target dev="vda" bus="virtio"/>
    </disk>
    <controller type="scsi" model="virtio-scsi"/>
    <disk type="file" device="cdrom">
      <driver name="qemu" type="raw"/>
      <source file="${machine.seedPath}"/>
      <target dev="sda" bus="scsi"/>
      <readonly/>
    </disk>
    <interface type="network">
      <mac address="${machine.mac}"/>
      <source network="${machine.network}"/>
      <model type="virtio"/>
    </interface>
    <channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>
    <rng model="virtio"><backend model="random">/dev/urandom</backend></rng>
    <memballoon model="virtio"/>
    <serial type="pty"><log file="${machine.consolePath}" append="off"/></serial>
    <console type="pty"/>
  </devices>
</domain>
`

/** NAT, and no spanning tree: its forward delay would cost every restore three seconds. */
export const networkXml = (name: string, bridge: string, subnet: string): string =>
  xml`<network>
  <name>${name}</name>
  <forward mode="nat"/>
  <bridge name="${bridge}" stp="off" delay="0"/>
  <ip address="${subnet}.1" netmask="255.255.255.0"><dhcp><range start="${subnet}.2" end="${subnet}.254"/></dhcp></ip>
</network>
`

/** A guest with no disk: its BIOS finds nothing to boot, starts over at once, and that ends it. Only a processor that runs gets there. */
export const probeXml = (name: string): string =>
  xml`<domain type="kvm">
  <name>${name}</name>
  <memory unit="MiB">64</memory>
  <vcpu>1</vcpu>
  <os><type arch="x86_64" machine="pc">hvm</type><bios rebootTimeout="0"/><boot dev="hd"/></os>
  <on_reboot>destroy</on_reboot>
  <devices><memballoon model="none"/></devices>
</domain>
`
