/** The definitions of domains, volumes and networks for libvirt. */
import { type Mark, markAttributes, NAMESPACE } from './marks.ts'
import { NOTHING, type Piece, unescapeXml, xml } from './xml.ts'

export type DomainXml = {
  mark: Mark
  domainType: 'kvm' | 'qemu'
  firmware: 'bios' | 'uefi'
  cpus: number
  memoryMiB: number
  diskPath: string
  seedPath: string
  /** The file that libvirt writes the guest's serial console to. */
  consolePath: string
  /** The libvirt network; unused when the mark has a port of this host's loopback that leads to the machine's SSH server. */
  network: string
  /** Null where nothing can isolate it. */
  isolation: Isolation | null
  /** Whether a machine in a session reaches only this host's port that leads to it, and nothing else. */
  closed: boolean
}

const firmwareXml = ({ firmware }: DomainXml): Piece =>
  firmware === 'bios'
    ? xml`<os><type arch="x86_64" machine="q35">hvm</type><boot dev="hd"/></os>`
    : xml`<os firmware="efi">
    <type arch="x86_64" machine="q35">hvm</type>
    <firmware><feature enabled="no" name="secure-boot"/></firmware>
    <boot dev="hd"/>
  </os>`

/** The guest then sends nothing out; its SSH server is reached all the same. */
const RESTRICT = xml`restrict=on,`

/** libvirt's XML cannot forward a port of QEMU's user network (slirp), so QEMU gets the arguments. libvirt leaves this slot free. */
const userNetwork = (mac: string, port: number, closed: boolean): Piece => xml`<qemu:commandline>
    <qemu:arg value="-netdev"/>
    <qemu:arg value="user,id=reach,${closed ? RESTRICT : NOTHING}hostfwd=tcp:127.0.0.1:${port}-:22"/>
    <qemu:arg value="-device"/>
    <qemu:arg value="virtio-net-pci,netdev=reach,mac=${mac},bus=pcie.0,addr=0x10"/>
  </qemu:commandline>`

/** The same definition with another port. Everything that libvirt added to it stays. */
export const withPort = (text: string, port: number): string =>
  text
    .replace(/(<(?:\w+:)?vm\s[^>]*\bport=["'])\d+/, `$1${port}`)
    .replace(/(hostfwd=tcp:127\.0\.0\.1:)\d+/, `$1${port}`)

/** The same definition, of a machine or a snapshot, with or without a way out in a session. */
export const withSessionNet = (text: string, closed: boolean): string =>
  text.replace(/(user,id=reach,)(?:restrict=on,)?/g, `$1${closed ? RESTRICT.piece : ''}`)

/**
 * The same definition, of a machine or a save image, with this file as its disk. What that file stands on is in the file itself, so
 * the chain of the former one goes.
 */
export const withDisk = (text: string, path: string): string =>
  text.replace(/<disk\s[^>]*device=["']disk["'][\s\S]*?<\/disk>/, disk =>
    disk
      .replace(/\s*<backingStore(?:\s[^>]*)?\/>|\s*<backingStore[\s>][\s\S]*<\/backingStore>/, '')
      .replace(/<source\s[^>]*?(?:\/>|>[\s\S]*?<\/source>)/, () => xml`<source file="${path}"/>`.piece),
  )

/** The same definition with this mark. */
export const withMark = (text: string, mark: Mark): string =>
  text.replace(/<(?:\w+:)?vm\s[^>]*>/, () => xml`<as:vm xmlns:as="${NAMESPACE}" ${markAttributes(mark)}/>`.piece)

/** The template of the firmware's variables in this definition; null when libvirt keeps the variables in qcow2 already. */
export const nvramTemplate = (text: string): string | null => {
  const nvram = text.match(/<nvram\s[^>]*>/)?.[0] ?? ''
  const template = nvram.match(/\btemplate=["']([^"']*)/)?.[1]
  return template === undefined || /\bformat=["']qcow2/.test(nvram) ? null : unescapeXml(template)
}
/** The same definition with the firmware's variables in this qcow2 file. */
export const withNvram = (text: string, path: string): string =>
  text.replace(/<nvram\s[^>]*(?:\/>|>[^<]*<\/nvram>)/, () => xml`<nvram format="qcow2">${path}</nvram>`.piece)

/** What isolates a machine: this filter, with the one address that it may send from. */
export type Isolation = { filter: string; ip: string }

/** Also the file for `update-device`, which finds the interface by its MAC. Ports that are isolated reach only the host. */
export const interfaceXml = (mac: string, network: string, isolation: Isolation | null): Piece => {
  const isolated =
    isolation === null
      ? NOTHING
      : xml`<filterref filter="${isolation.filter}"><parameter name="IP" value="${isolation.ip}"/></filterref><port isolated="yes"/>`
  return xml`<interface type="network"><mac address="${mac}"/><source network="${network}"/><model type="virtio"/>${isolated}</interface>`
}

/** Whether the first interface of a definition is isolated like this. */
export const isIsolated = (text: string, { filter, ip }: Isolation): boolean => {
  const device = text.match(/<interface\s[\s\S]*?<\/interface>/)?.[0] ?? ''
  return (
    device.includes(`filter='${filter}'`) &&
    device.includes(`name='IP' value='${ip}'`) &&
    /<port isolated='yes'/.test(device)
  )
}

/** How often a guest says how much memory it uses. */
const STATS_SECONDS = 20

/**
 * With a generation id, libvirt tells the guest of each restore, and Linux (5.18 or newer) makes its random numbers new before
 * anything in the guest runs. The seed is behind virtio-scsi, because Debian's cloud kernel has no SATA. Memory and disk that the guest frees go back to the host. */
export const domainXml = (machine: DomainXml): string => {
  const { mark, network, isolation } = machine
  const { mac, port } = mark
  return xml`<domain type="${machine.domainType}" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <name>${mark.vmId}</name>
  <genid/>
  <metadata><as:vm xmlns:as="${NAMESPACE}" ${markAttributes(mark)}/></metadata>
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
    ${port === null ? interfaceXml(mac, network, isolation) : NOTHING}
    <channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>
    <rng model="virtio"><backend model="random">/dev/urandom</backend></rng>
    <memballoon model="virtio" freePageReporting="on"><stats period="${STATS_SECONDS}"/></memballoon>
    <serial type="pty"><log file="${machine.consolePath}" append="off"/></serial>
    <console type="pty"/>
  </devices>
  ${port === null ? NOTHING : userNetwork(mac, port, machine.closed)}
</domain>
`.piece
}

/**
 * A disk on top of another one. libvirt's default is the qcow2 format of QEMU before 1.1, in which discarded blocks of a disk
 * with a backing file stay allocated.
 */
export const overlayXml = (name: string, bytes: number, backing: string): string =>
  xml`<volume>
  <name>${name}</name>
  <capacity unit="bytes">${bytes}</capacity>
  <target><format type="qcow2"/><compat>1.1</compat></target>
  <backingStore><path>${backing}</path><format type="qcow2"/></backingStore>
</volume>
`.piece

/** A raw volume that nobody may write. */
export const volumeXml = (name: string, bytes: number): string =>
  xml`<volume><name>${name}</name><capacity unit="bytes">${bytes}</capacity><target><format type="raw"/><permissions><mode>0444</mode></permissions></target></volume>`
    .piece

/** NAT, without a way from machine to machine, and without spanning tree: its forward delay would add three seconds to every restore. */
export const networkXml = (name: string, bridge: string, subnet: string): string =>
  xml`<network>
  <name>${name}</name>
  <forward mode="nat"/>
  <bridge name="${bridge}" stp="off" delay="0"/>
  <port isolated="yes"/>
  <ip address="${subnet}.1" netmask="255.255.255.0"><dhcp><range start="${subnet}.2" end="${subnet}.254"/></dhcp></ip>
</network>
`.piece

/** A guest without a disk: its BIOS finds nothing to boot and restarts, which ends it. Only a processor that works gets there. */
export const probeXml = (name: string, domainType: DomainXml['domainType'] = 'kvm'): string =>
  xml`<domain type="${domainType}">
  <name>${name}</name>
  <memory unit="MiB">64</memory>
  <vcpu>1</vcpu>
  <os><type arch="x86_64" machine="pc">hvm</type><bios rebootTimeout="0"/><boot dev="hd"/></os>
  <on_reboot>destroy</on_reboot>
  <devices><memballoon model="none"/></devices>
</domain>
`.piece

/**
 * A checkpoint that is in the disk, for `snapshot-create --redefine`: of the disk alone. `parent`: the one before it, which keeps
 * their order within a second. `definition`: the machine's.
 */
export const snapshotXml = (name: string, createdAt: Date, parent: string | null, definition: string): string =>
  xml`<domainsnapshot>
  <name>${name}</name>
  ${parent === null ? NOTHING : xml`<parent><name>${parent}</name></parent>`}
  <state>shutoff</state>
  <creationTime>${Math.floor(createdAt.getTime() / 1000)}</creationTime>
  <memory snapshot="no"/>
  <disks><disk name="vda" snapshot="internal"/><disk name="sda" snapshot="no"/></disks>
  ${{ piece: definition }}
</domainsnapshot>
`.piece

/** The same checkpoint without its memory. */
export const withoutMemory = (snapshot: string): string =>
  snapshot
    .replace(/<state>\w+<\/state>/, '<state>shutoff</state>')
    .replace(/<memory snapshot=(["'])internal\1\/>/, '<memory snapshot="no"/>')
