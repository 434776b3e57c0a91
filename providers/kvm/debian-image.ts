/** A bootable disk made of nothing but Debian's packages, from the mirror that this machine uses. Needs root. */
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
import { debianPackages } from './systems.ts'

const PACKAGES = [
  'linux-image-cloud-amd64',
  'systemd-sysv',
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
] // prettier-ignore
const SUITE = 'bookworm'
const SECTOR = 512
const FIRST_SECTOR = 2048
const GRUB = '/usr/lib/grub/i386-pc'
const TOOLS = ['mmdebstrap', 'grub-mkimage', 'mkfs.ext4', 'sfdisk', 'qemu-img']

/**
 * The kernel is not quiet: its console is what tells why a guest does not come up. And it takes the timer on trust: under
 * emulation on a busy host, its check of it now and then finds none, and it stops.
 */
const grubConfig = `set timeout=0
linux /vmlinuz root=LABEL=cloudimg-rootfs ro console=ttyS0 no_timer_check
initrd /initrd.img
boot
`

/** Writes a raw disk to `disk`, and returns what it was made of. `folder` is for what it needs in between. */
export const debianDisk = async (
  run: Run,
  folder: string,
  disk: string,
  onPhase: (phase: string) => void,
): Promise<string> => {
  const missing: string[] = []
  for (const tool of TOOLS)
    await run('sh', ['-c', `command -v "$0"`, tool], { answers: [1, 127] }).then(
      ({ exitCode }) => exitCode === 0 || missing.push(tool),
    )
  if (missing.length > 0) {
    throw fail(
      'provider-missing',
      `building an image of Debian's packages: ${missing.join(', ')} missing`,
      `sudo apt install --no-install-recommends ${[...debianPackages.run, ...debianPackages.build].join(' ')}`,
    )
  }
  if (process.getuid?.() !== 0) {
    throw fail(
      'permission',
      "building an image of Debian's packages needs root",
      'Run it with sudo, or take a cloud image: agent-swarm init-base --from FILE',
    )
  }
  const root = join(folder, 'root')
  onPhase('packages')
  await run('mmdebstrap', ['--quiet', '--variant=minbase', `--include=${PACKAGES.join(',')}`, SUITE, root], {
    deadline: 20 * 60_000,
    explain: [[/No space left/, 'disk-full']],
  })

  onPhase('disk')
  mkdirSync(join(root, 'boot/grub'), { recursive: true })
  cpSync(GRUB, join(root, 'boot/grub/i386-pc'), { recursive: true })
  writeFileSync(join(root, 'boot/grub/grub.cfg'), grubConfig)
  // The mark by which setup-base.sh leaves this boot menu alone.
  writeFileSync(join(root, 'boot/grub/agent-swarm'), '')
  writeFileSync(join(root, 'etc/fstab'), 'LABEL=cloudimg-rootfs / ext4 defaults,discard 0 1\n')
  const { stdout } = await run('du', ['-s', '--block-size=1M', '--apparent-size', root])
  const megabytes = Math.max(1536, Math.ceil(Number(stdout.split(/\s/)[0]) * 1.3) + 512)
  writeFileSync(disk, '')
  truncateSync(disk, megabytes * 1024 * 1024)
  await run('sfdisk', ['--quiet', disk], { input: `label: dos\n${FIRST_SECTOR},,L,*\n` })
  const blocks = megabytes * 1024 - FIRST_SECTOR / 2
  await run(
    'mkfs.ext4',
    ['-q', '-L', 'cloudimg-rootfs', '-d', root, '-E', `offset=${FIRST_SECTOR * SECTOR}`, disk, `${blocks}k`],
    { deadline: 10 * 60_000 },
  )

  const core = join(folder, 'core.img')
  const modules = ['biosdisk', 'part_msdos', 'ext2', 'linux', 'normal', 'configfile', 'boot', 'echo']
  await run('grub-mkimage', ['-O', 'i386-pc', '-p', '(hd0,msdos1)/boot/grub', '-o', core, ...modules])
  if (statSync(core).size > (FIRST_SECTOR - 1) * SECTOR)
    throw fail('unknown', 'building the boot loader: it does not fit before the first partition')
  const handle = openSync(disk, 'r+')
  try {
    // The boot code ends where the disk's signature and partition table begin.
    writeSync(handle, readFileSync(join(GRUB, 'boot.img')), 0, 440, 0)
    writeSync(handle, readFileSync(core), 0, undefined, SECTOR)
  } finally {
    closeSync(handle)
  }
  return `debian-packages (${SUITE})`
}
