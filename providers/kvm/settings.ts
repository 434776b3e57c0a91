export type KvmSettings = {
  /** libvirt's connection, `qemu:///system`. */
  uri: string
  /** `auto` trusts a boot, not the device node. */
  domainType: 'auto' | 'kvm' | 'qemu'
  /** The storage pool and the network of ours: made when they are not there. */
  pool: string
  network: string
}

/** What Debian and Ubuntu call the programs that kvm needs; the second list is for building an image of the system's own packages. */
export const debianPackages = {
  run: [
    'qemu-system-x86',
    'qemu-utils',
    'libvirt-daemon-system',
    'libvirt-clients',
    'dnsmasq-base',
    'iptables',
    'openssh-client',
    'iproute2',
  ],
  build: ['mmdebstrap', 'grub-pc-bin', 'grub-common', 'e2fsprogs', 'fdisk'],
} as const
