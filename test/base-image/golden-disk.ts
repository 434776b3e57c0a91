/**
 * golden-disk.ts SUITE DISK: makes a disk like a vendor's cloud image, in which setup-base.sh has installed the profile `full`
 * from the real packages, in a chroot. It has no lists of packages, and prints the names of the steps that were left out.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setupScript } from '../../base-image/scripts.ts'
import { BOOTABLE_PACKAGES, bootableDisk } from '../../providers/kvm/debian-image.ts'
import { openRun } from '../../src/exec.ts'
import { inRoot, makeRoot, removeRoot, serveGoogle, UNSAFE } from './golden-root.ts'

const [suite = '', target = ''] = process.argv.slice(2)
const folder = mkdtempSync(join(dirname(target), 'golden-'))
try {
  const { without, mirrors, close } = await serveGoogle(folder)
  const root = join(folder, 'root')
  makeRoot(root, suite, BOOTABLE_PACKAGES)
  const ran = await inRoot(root, 'shared', setupScript({ profile: 'full', extra: [], skip: without, mirrors }))
  await close()
  if (ran.code !== 0) throw new Error(ran.stderr.slice(-2_000))
  // The stand-in of Google's repository is gone.
  for (const path of [UNSAFE, 'etc/apt/sources.list.d/agent-swarm-gcloud.list'])
    rmSync(join(root, path), { force: true })
  execFileSync('chroot', [root, 'sh', '-c', 'apt-get clean; rm -rf /var/lib/apt/lists/*'])
  const disk = join(folder, 'disk.img')
  await bootableDisk(openRun(process.env), { folder, root, disk })
  renameSync(disk, target)
  console.log(without.join(','))
} finally {
  removeRoot(folder)
}
