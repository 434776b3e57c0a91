/**
 * A new Debian in a folder, in which setup-base.sh runs with the real packages. It needs root, mmdebstrap and a mirror of Debian.
 * Google's packages come from an installed copy where this system has one, by a signed repository on loopback.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  buildDeb,
  endKeyAgent,
  makeKey,
  type Ran,
  runWith,
  serveFolder,
  signLists,
} from '../support/package-sources.ts'

const has = (program: string): boolean => {
  try {
    execFileSync('sh', ['-c', 'command -v "$0"', program], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
export const canMakeRoots = (): boolean => process.getuid?.() === 0 && ['mmdebstrap', 'unshare', 'gpg'].every(has)

/** Nothing that is mounted there. */
export const removeRoot = (path: string) => execFileSync('rm', ['-rf', '--one-file-system', path])

const GOOGLE = ['google-cloud-cli', 'google-cloud-cli-pubsub-emulator']

type Google = {
  /** Settings of setup-base.sh. */
  mirrors: Record<string, string>
  /** The steps that need Google's packages, where this system has none. */
  without: string[]
  close: () => Promise<void>
}

export const serveGoogle = async (folder: string): Promise<Google> => {
  const repository = join(folder, 'google')
  mkdirSync(repository)
  if (!GOOGLE.every(name => existsSync(`/var/lib/dpkg/info/${name}.list`)))
    return { mirrors: {}, without: ['gcloud', 'pubsub'], close: async () => {} }
  const keys = join(folder, 'keys')
  const fingerprint = makeKey(repository, keys)
  for (const name of GOOGLE) repack(folder, repository, name)
  signLists(repository, 'cloud-sdk', keys)
  endKeyAgent(keys)
  const { url, close } = await serveFolder(repository)
  return { mirrors: { SWARM_GCLOUD_APT: url, SWARM_GCLOUD_FINGERPRINTS: fingerprint }, without: [], close }
}

/** The package again from its installed files, without pages of the manual. The JDK that it wants is not there to be installed. */
const repack = (folder: string, repository: string, name: string): void => {
  const root = join(folder, name)
  mkdirSync(root)
  const files = execFileSync('dpkg-query', ['--listfiles', name], { maxBuffer: 1e9 }).toString().split('\n')
  const kept = files.filter(file => file.startsWith('/usr/') && !file.startsWith('/usr/share/man/') && existsSync(file))
  const list = join(folder, 'list')
  writeFileSync(list, kept.map(file => `${file.slice(1)}\n`).join(''))
  execFileSync('sh', ['-c', 'tar -C / --no-recursion -cf - -T "$0" | tar -C "$1" -xf -', list, root])
  const field = (what: string) => execFileSync('dpkg-query', ['-W', `-f=\${${what}}`, name]).toString()
  const [version, architecture] = [field('Version'), field('Architecture')]
  const depends = name === 'google-cloud-cli' ? {} : { depends: 'google-cloud-cli, openjdk-21-jdk' }
  buildDeb(repository, { name, version, architecture, ...depends }, root)
}

export const makeRoot = (root: string, suite: string, packages: readonly string[]): void => {
  const mirrors = ['', '-updates'].map(part => `deb http://deb.debian.org/debian ${suite}${part} main`)
  const security = `deb http://deb.debian.org/debian-security ${suite}-security main`
  // Its mounts, /dev/shm of this system among them, are seen by nobody else, and end with it.
  const apart = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', 'mmdebstrap']
  const args = [
    ...apart,
    '--quiet',
    '--mode=root',
    '--variant=minbase',
    `--include=${packages.join(',')}`,
    suite,
    root,
    ...mirrors,
    security,
  ]
  execFileSync('unshare', args, { stdio: ['ignore', 'ignore', 'inherit'] })
  // Certificates that this system trusts in addition, for its way to the registries.
  const own = 'usr/local/share/ca-certificates'
  if (existsSync(`/${own}`)) cpSync(`/${own}`, join(root, own), { recursive: true })
  // A root that is thrown away need not survive a power failure.
  writeFileSync(join(root, UNSAFE), 'force-unsafe-io\n')
  execFileSync('chroot', [root, 'update-ca-certificates'], { stdio: 'ignore' })
}
export const UNSAFE = 'etc/dpkg/dpkg.cfg.d/unsafe-io'

/** Runs a script in the root, whose mounts end with it. `net`: none is a network of its own, with loopback alone. */
export const inRoot = (root: string, net: 'shared' | 'none', script: string): Promise<Ran> =>
  runWith(
    'nice',
    [
      ...['-n', '10', 'unshare', '--mount', '--pid', '--fork', '--kill-child', ...(net === 'none' ? ['--net'] : [])],
      ...['sh', '-c', `${MOUNT}; exec chroot "$0" env -i PATH="${PATH}" LANG=de_DE.UTF-8 HOME=/root sh -s`, root],
    ],
    script,
  )
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const MOUNT = 'mount -t proc proc "$0/proc"; mount --bind /dev "$0/dev"; ip link set lo up 2>/dev/null'
