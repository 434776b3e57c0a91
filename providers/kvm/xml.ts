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

/** Made by `xml` already, so that it is not escaped again. */
type Piece = { piece: string }
const written = (value: string | number | Piece) => (typeof value === 'object' ? value.piece : escapeXml(value))
/** A template whose values are escaped. */
const xml = (text: TemplateStringsArray, ...values: (string | number | Piece)[]): Piece => ({
  piece: text.map((part, at) => part + (at < values.length ? written(values[at] ?? '') : '')).join(''),
})

export type Machine = {
  vmId: string
  ticket: string
  mac: string
  domainType: 'kvm' | 'qemu'
  firmware: 'bios' | 'uefi'
  cpus: number
  memoryMiB: number
  diskPath: string
  seedPath: string
  /** Where the guest's serial console is written to. */
  consolePath: string
  /** A network of libvirt's, or the port of this host's loopback that leads to the machine's SSH. */
  reach: { network: string } | { port: number }
}

const firmwareXml = ({ firmware }: Machine): Piece =>
  firmware === 'bios'
    ? xml`<os><type arch="x86_64" machine="q35">hvm</type><boot dev="hd"/></os>`
    : xml`<os firmware="efi">
    <type arch="x86_64" machine="q35">hvm</type>
    <firmware><feature enabled="no" name="secure-boot"/></firmware>
    <boot dev="hd"/>
  </os>`

/** libvirt has no words for a forwarded port of QEMU's own network (slirp), so QEMU is told. The slot is one that libvirt leaves free. */
const userNetwork = (mac: string, port: number): Piece => xml`<qemu:commandline>
    <qemu:arg value="-netdev"/>
    <qemu:arg value="user,id=reach,hostfwd=tcp:127.0.0.1:${port}-:22"/>
    <qemu:arg value="-device"/>
    <qemu:arg value="virtio-net-pci,netdev=reach,mac=${mac},bus=pcie.0,addr=0x10"/>
  </qemu:commandline>`

/** The same machine, reached through another port. Undoes nothing else of what libvirt added to its definition. */
export const withPort = (text: string, port: number): string =>
  text
    .replace(/(<(?:\w+:)?vm\s[^>]*\bport=["'])\d+/, `$1${port}`)
    .replace(/(hostfwd=tcp:127\.0\.0\.1:)\d+/, `$1${port}`)

/** Where libvirt takes the firmware's variables from for this machine; null when it keeps them in qcow2 anyway. */
export const nvramTemplate = (text: string): string | null => {
  const nvram = text.match(/<nvram\s[^>]*>/)?.[0] ?? ''
  const template = nvram.match(/\btemplate=["']([^"']*)/)?.[1]
  return template === undefined || /\bformat=["']qcow2/.test(nvram) ? null : unescapeXml(template)
}
/** The same machine with its firmware's variables in this qcow2 file. */
export const withNvram = (text: string, path: string): string =>
  text.replace(/<nvram\s[^>]*(?:\/>|>[^<]*<\/nvram>)/, () => xml`<nvram format="qcow2">${path}</nvram>`.piece)

/** The seed sits behind virtio-scsi: Debian's cloud kernel has no SATA. What a guest frees, memory and disk, goes back to the host. */
export const domainXml = (machine: Machine): string => {
  const { reach, mac } = machine
  const port = 'port' in reach ? xml` port="${reach.port}"` : ''
  return xml`<domain type="${machine.domainType}" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <name>${machine.vmId}</name>
  <metadata><as:vm xmlns:as="${NAMESPACE}" name="${machine.vmId}" ticket="${machine.ticket}" mac="${mac}"${port}/></metadata>
  <memory unit="MiB">${machine.memoryMiB}</memory>
  <vcpu>${machine.cpus}</vcpu>
  ${firmwareXml(machine)}
  <features><acpi/><apic/></features>
  <cpu mode="${machine.domainType === 'kvm' ? 'host-passthrough' : 'maximum'}"/>
  <clock offset="utc"/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <disk type="file" device="disk">
      <driver name="qemu" type="qcow2" discard="unmap" detect_zeroes="unmap"/>
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
    ${
      'network' in reach
        ? xml`<interface type="network"><mac address="${mac}"/><source network="${reach.network}"/><model type="virtio"/></interface>`
        : ''
    }
    <channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>
    <rng model="virtio"><backend model="random">/dev/urandom</backend></rng>
    <memballoon model="virtio" freePageReporting="on"/>
    <serial type="pty"><log file="${machine.consolePath}" append="off"/></serial>
    <console type="pty"/>
  </devices>
  ${'port' in reach ? userNetwork(mac, reach.port) : ''}
</domain>
`.piece
}

/**
 * A disk that stands on a base image. By itself libvirt writes the qcow2 of QEMU before 1.1, which can forget nothing that
 * stands on another image: what the guest discards would be kept, and zeroes written out.
 */
export const overlayXml = ({
  name,
  gibibytes,
  backing,
}: {
  name: string
  gibibytes: number
  backing: string
}): string =>
  xml`<volume>
  <name>${name}</name>
  <capacity unit="GiB">${gibibytes}</capacity>
  <target><format type="qcow2"/><compat>1.1</compat></target>
  <backingStore><path>${backing}</path><format type="qcow2"/></backingStore>
</volume>
`.piece

/** NAT, and no spanning tree: its forward delay would cost every restore three seconds. */
export const networkXml = (name: string, bridge: string, subnet: string): string =>
  xml`<network>
  <name>${name}</name>
  <forward mode="nat"/>
  <bridge name="${bridge}" stp="off" delay="0"/>
  <ip address="${subnet}.1" netmask="255.255.255.0"><dhcp><range start="${subnet}.2" end="${subnet}.254"/></dhcp></ip>
</network>
`.piece

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
`.piece
