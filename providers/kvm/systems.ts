/** The packages of the programs that this provider needs, and how libvirt is started, by system. */
import { existsSync, readFileSync } from 'node:fs'

/** Debian and Ubuntu. `build`: for base images of the system's own packages. */
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

/** `startFilters`: the part of libvirt that isolates machines. `restart`: libvirt then writes its rules of the firewall again. */
type System = { install: string; start: string; startFilters: string; restart: string }

const LIBVIRTD = {
  start: 'sudo systemctl enable --now libvirtd',
  // A package of its own since Debian 13.
  startFilters: 'sudo apt install libvirt-daemon-driver-nwfilter && sudo systemctl restart libvirtd',
  restart: 'sudo systemctl restart libvirtd',
}
/** Where each part of libvirt has a daemon of its own. */
const MODULAR = {
  start: 'sudo systemctl enable --now virtqemud.socket virtnetworkd.socket virtstoraged.socket virtnwfilterd.socket',
  startFilters: 'sudo systemctl enable --now virtnwfilterd.socket',
  restart: 'sudo systemctl restart virtnetworkd virtnwfilterd',
}

/** `ids`: as in ID and ID_LIKE of os-release. */
const systems: readonly (System & { ids: readonly string[] })[] = [
  {
    ids: ['debian', 'ubuntu'],
    install: `sudo apt install --no-install-recommends ${debianPackages.run.join(' ')}`,
    ...LIBVIRTD,
  },
  {
    ids: ['fedora', 'rhel', 'centos'],
    install: 'sudo dnf install qemu-kvm qemu-img libvirt-daemon-kvm libvirt-client dnsmasq openssh-clients',
    ...MODULAR,
  },
  {
    ids: ['arch', 'archlinux'],
    install: 'sudo pacman -S --needed qemu-base libvirt dnsmasq iptables-nft openssh',
    ...LIBVIRTD,
  },
  {
    ids: ['opensuse', 'suse', 'sles'],
    install: 'sudo zypper install patterns-server-kvm_server qemu-tools libvirt-client dnsmasq openssh-clients',
    ...MODULAR,
  },
]
const otherSystem: System = {
  install:
    "Install your system's packages of libvirt with its QEMU driver and virsh, QEMU for x86-64, qemu-img, dnsmasq and the OpenSSH client.",
  start: "Start libvirt's daemon: libvirtd, or virtqemud with virtnetworkd, virtstoraged and virtnwfilterd.",
  startFilters: "Install and start libvirt's driver nwfilter (virtnwfilterd).",
  restart: "Restart libvirt's daemon: libvirtd, or virtnetworkd and virtnwfilterd.",
}

/** `osRelease`: the text of /etc/os-release. Its ID counts before its ID_LIKE. */
export const systemOf = (osRelease: string): System => {
  const names = ['ID', 'ID_LIKE'].flatMap(
    key => osRelease.match(new RegExp(`^${key}=["']?([^"'\\n]*)`, 'm'))?.[1]?.split(' ') ?? [],
  )
  for (const name of names) {
    // openSUSE's ID has a suffix: opensuse-leap, opensuse-tumbleweed.
    const system = systems.find(({ ids }) => ids.some(id => name === id || name.startsWith(`${id}-`)))
    if (system !== undefined) return system
  }
  return otherSystem
}

const OS_RELEASE = '/etc/os-release'
export const thisSystem = (): System => systemOf(existsSync(OS_RELEASE) ? readFileSync(OS_RELEASE, 'utf8') : '')
