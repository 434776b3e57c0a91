export type KvmSettings = {
  /** libvirt's connection: `qemu:///system`, or `qemu:///session` for a user's own machines. */
  uri: string
  /** `auto` trusts a boot, not the device node. */
  domainType: 'auto' | 'kvm' | 'qemu'
  /** Of new machines, and of the images that are built. */
  firmware: 'bios' | 'uefi'
  /** The storage pool and the network of ours: made when they are not there. */
  pool: string
  network: string
}

/** A user's own libvirt: no network of its own that the host could reach, and its files in the user's folder. */
export const isSession = ({ uri }: Pick<KvmSettings, 'uri'>): boolean => uri.endsWith('/session')
