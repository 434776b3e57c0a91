/** A bootable disk made only of Debian's packages, from the mirror that this machine uses. Needs root. */
import {
  closeSync,
  cpSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { fail } from '../../src/errors.ts'
import type { Run } from '../../src/exec.ts'
import { explainMmdebstrap } from './explain.ts'
import { debianPackages } from './systems.ts'

/** What a machine needs to boot, to be reached, and what `minimal` has. */
export const BOOTABLE_PACKAGES: readonly string[] = [
  'linux-image-cloud-amd64',
  'systemd-sysv',
  'systemd-timesyncd',
  'libpam-systemd',
  'dbus',
  'udev',
  'openssh-server',
  'cloud-init',
  'cloud-guest-utils',
  'netplan.io',
  'iproute2',
  'sudo',
  'qemu-guest-agent',
  'ca-certificates',
  'netbase',
  'git',
  'rsync',
  // A person joins the agent's terminal with it.
  'tmux',
]
const SUITE = 'bookworm'
const GRUB = '/usr/lib/grub/i386-pc'
const GRUB_MODULES = ['biosdisk', 'part_msdos', 'ext2', 'linux', 'normal', 'configfile', 'boot', 'echo']
const TOOLS = ['mmdebstrap', 'grub-mkimage', 'mkfs.ext4', 'sfdisk', 'qemu-img']

const SECTOR = 512
const MIB = 1024 ** 2
/** The partition begins here; the boot loader's core lies before it. */
const FIRST_SECTOR = 2048
/** The boot code of the first sector ends here, before the disk's signature and partition table. */
const BOOT_CODE_BYTES = 440
const DEBOOTSTRAP_DEADLINE_MS = 20 * 60_000
const MKFS_DEADLINE_MS = 10 * 60_000

/**
 * The kernel is not quiet, because its console explains a guest that does not boot. no_timer_check: under emulation on a busy
 * host, the kernel's check of its timer sometimes fails, and the kernel stops. net.ifnames=0: the one interface is eth0.
 */
const grubConfig = `set timeout=0
linux /vmlinuz root=LABEL=cloudimg-rootfs ro console=ttyS0 no_timer_check net.ifnames=0
initrd /initrd.img
boot
`

/** Writes a raw disk to `disk`, and returns a description of its source. `folder` is for temporary files. */
export const debianDisk = async (
  run: Run,
  folder: string,
  disk: string,
  onPhase: (phase: string) => void,
): Promise<string> => {
  await checkTools(run)
  onPhase('packages')
  const root = join(folder, 'root')
  await run('mmdebstrap', ['--quiet', '--variant=minbase', `--include=${BOOTABLE_PACKAGES.join(',')}`, SUITE, root], {
    deadline: DEBOOTSTRAP_DEADLINE_MS,
    explain: explainMmdebstrap,
  })
  onPhase('disk')
  await bootableDisk(run, { folder, root, disk })
  return `debian-packages (${SUITE})`
}

/** Makes a disk that boots from the files of a system in `root`, which has the packages above. */
export const bootableDisk = async (
  run: Run,
  { folder, root, disk }: { folder: string; root: string; disk: string },
): Promise<void> => {
  addBootFiles(root)
  await makeFilesystem(run, root, disk)
  await installBootLoader(run, folder, disk)
}

const checkTools = async (run: Run): Promise<void> => {
  const missing: string[] = []
  for (const tool of TOOLS) {
    const { exitCode } = await run('sh', ['-c', 'command -v "$0"', tool], { answers: [1, 127] })
    if (exitCode !== 0) missing.push(tool)
  }
  if (missing.length > 0)
    throw fail(
      'provider-missing',
      `building an image of Debian's packages: ${missing.join(', ')} missing`,
      `sudo apt install --no-install-recommends ${[...debianPackages.run, ...debianPackages.build].join(' ')}`,
    )
  if (process.getuid?.() !== 0)
    throw fail(
      'permission',
      "building an image of Debian's packages needs root",
      'Run it with sudo, or use a cloud image: agent-swarm init-base --from FILE',
    )
}

const addBootFiles = (root: string): void => {
  mkdirSync(join(root, 'boot/grub'), { recursive: true })
  cpSync(GRUB, join(root, 'boot/grub/i386-pc'), { recursive: true })
  writeFileSync(join(root, 'boot/grub/grub.cfg'), grubConfig)
  // Tells setup-base.sh to keep this boot menu.
  writeFileSync(join(root, 'boot/grub/agent-swarm'), '')
  writeFileSync(join(root, 'etc/fstab'), 'LABEL=cloudimg-rootfs / ext4 defaults,discard 0 1\n')
}

/** A disk with one partition that holds the files in `root`. */
const makeFilesystem = async (run: Run, root: string, disk: string): Promise<void> => {
  const { stdout } = await run('du', ['-s', '--block-size=1M', '--apparent-size', root])
  const mebibytes = Math.max(1536, Math.ceil(Number(stdout.split(/\s/)[0]) * 1.3) + 512)
  writeFileSync(disk, '')
  truncateSync(disk, mebibytes * MIB)
  await run('sfdisk', ['--quiet', disk], { input: `label: dos\n${FIRST_SECTOR},,L,*\n` })
  const kibibytes = mebibytes * 1024 - (FIRST_SECTOR * SECTOR) / 1024
  await run(
    'mkfs.ext4',
    ['-q', '-L', 'cloudimg-rootfs', '-d', root, '-E', `offset=${FIRST_SECTOR * SECTOR}`, disk, `${kibibytes}k`],
    { deadline: MKFS_DEADLINE_MS },
  )
}

const installBootLoader = async (run: Run, folder: string, disk: string): Promise<void> => {
  const core = join(folder, 'core.img')
  await run('grub-mkimage', ['-O', 'i386-pc', '-p', '(hd0,msdos1)/boot/grub', '-o', core, ...GRUB_MODULES])
  if (statSync(core).size > (FIRST_SECTOR - 1) * SECTOR)
    throw fail('unknown', 'building the boot loader: it does not fit before the first partition')
  const handle = openSync(disk, 'r+')
  try {
    writeSync(handle, readFileSync(join(GRUB, 'boot.img')), 0, BOOT_CODE_BYTES, 0)
    writeSync(handle, readFileSync(core), 0, undefined, SECTOR)
  } finally {
    closeSync(handle)
  }
}
