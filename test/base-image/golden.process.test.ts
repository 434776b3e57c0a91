/**
 * The profile `full` in a new Debian, with the real packages: npm run test:long, as root, with mmdebstrap and a mirror of Debian.
 * Google's packages come from an installed copy where this system has one, by a signed repository on loopback.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { imageSteps, setupScript, verifyScript } from '../../base-image/scripts.ts'
import { buildDeb, endKeyAgent, makeKey, runWith, serveFolder, signLists } from '../support/package-sources.ts'
import { isLong } from '../support/samples.ts'

/** Nothing that is mounted there. */
const remove = (path: string) => execFileSync('rm', ['-rf', '--one-file-system', path])

const has = (program: string): boolean => {
  try {
    execFileSync('sh', ['-c', 'command -v "$0"', program], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
const isPossible = isLong && process.getuid?.() === 0 && ['mmdebstrap', 'unshare', 'gpg'].every(has)

const GOOGLE = ['google-cloud-cli', 'google-cloud-cli-pubsub-emulator']
const hasGoogle = GOOGLE.every(name => existsSync(`/var/lib/dpkg/info/${name}.list`))

let folder: string
let fingerprint = ''
let google: Awaited<ReturnType<typeof serveFolder>>

beforeAll(async () => {
  if (!isPossible) return
  // Not in memory: a root has 2.5 GB.
  folder = mkdtempSync('/var/tmp/agent-swarm-golden-')
  const repository = join(folder, 'google')
  mkdirSync(repository)
  google = await serveFolder(repository)
  if (!hasGoogle) return
  const keys = join(folder, 'keys')
  fingerprint = makeKey(repository, keys)
  for (const name of GOOGLE) repack(repository, name)
  signLists(repository, 'cloud-sdk', keys)
  endKeyAgent(keys)
})
afterAll(async () => {
  await google?.close()
  if (folder !== undefined) remove(folder)
})

/** The package again from its installed files, without pages of the manual. The JDK that it wants is not there to be installed. */
const repack = (repository: string, name: string): void => {
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

const makeRoot = (suite: string): string => {
  const root = join(folder, suite)
  const mirrors = ['', '-updates'].map(part => `deb http://deb.debian.org/debian ${suite}${part} main`)
  const security = `deb http://deb.debian.org/debian-security ${suite}-security main`
  const include = 'systemd-sysv,udev,dbus,ca-certificates,iproute2,netbase,procps'
  // Its mounts, /dev/shm of this system among them, are seen by nobody else, and end with it.
  const apart = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', 'mmdebstrap']
  const args = [
    ...apart,
    '--quiet',
    '--mode=root',
    '--variant=minbase',
    `--include=${include}`,
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
  writeFileSync(join(root, 'etc/dpkg/dpkg.cfg.d/unsafe-io'), 'force-unsafe-io\n')
  execFileSync('chroot', [root, 'update-ca-certificates'], { stdio: 'ignore' })
  return root
}

/** Runs a script in the root, whose mounts end with it. `net`: none is a network of its own, with loopback alone. */
const inRoot = (root: string, net: 'shared' | 'none', script: string) =>
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

test.skipIf(!isPossible).for(['trixie', 'bookworm'])(
  '%s: every step is set up, proven by use, and changes nothing again',
  { timeout: 90 * 60_000 },
  async suite => {
    const root = makeRoot(suite)
    const without = hasGoogle ? [] : ['gcloud', 'pubsub']
    const setup = setupScript({
      profile: 'full',
      extra: [{ name: '50-greeting', text: 'echo "it\'s $SWARM_PROFILE" > /etc/greeting\n' }],
      skip: without,
      mirrors: { SWARM_GCLOUD_APT: google.url, SWARM_GCLOUD_FINGERPRINTS: fingerprint },
    })
    const names = imageSteps().map(step => step.name)
    const done = names.filter(name => !without.includes(name))
    const steps = [...done, '50-greeting'].map(name => `step ${name}\n`).join('')

    const first = await inRoot(root, 'shared', setup)
    expect(first, first.stderr.slice(-2000)).toMatchObject({ code: 0, stdout: steps })
    expect(existsSync(join(root, 'usr/sbin/policy-rc.d'))).toBe(false)
    expect(execFileSync('cat', [join(root, 'etc/greeting')]).toString()).toBe("it's full\n")
    // No graphics of Java's or of anything else.
    expect(execFileSync('chroot', [root, 'dpkg-query', '-W']).toString()).not.toMatch(/^(libx11-6|libgl1|docker\S*)\b/m)

    // Without any network.
    const second = await inRoot(root, 'none', setup)
    expect(second).toMatchObject({ code: 0, stdout: steps })
    expect(second.stderr).toBe('setup-base.sh: full is set up\n')

    const proof = await inRoot(root, 'none', verifyScript('full'))
    console.log(`${suite}\n${proof.stdout}`)
    expect(proof, proof.stderr).toMatchObject({ code: 0 })
    expect(proof.stdout.split('\n').map(line => line.split(' ').slice(0, 2).join(' '))).toEqual([
      ...names.map(name => `${without.includes(name) ? 'unproven' : 'proven'} ${name}`),
      'unproven 50-greeting',
      '',
    ])

    // A proof can fail: without its index, its server, its compiler, its keys.
    await inRoot(
      root,
      'none',
      `rm /usr/lib/postgresql/*/lib/vector.so /usr/bin/redis-server /usr/bin/*ld
     echo 'PasswordAuthentication yes' > /etc/ssh/sshd_config.d/00-open.conf`,
    )
    const broken = await inRoot(root, 'none', verifyScript('full'))
    expect(broken.code).toBe(1)
    expect(broken.stdout).toMatch(/^unproven base sshd -T does not say "passwordauthentication no"$/m)
    expect(broken.stdout).toMatch(/^unproven rust .*could not compile/m)
    expect(broken.stdout).toMatch(/^unproven postgres .*vector/m)
    expect(broken.stdout).toMatch(/^unproven redis /m)
    remove(root)
  },
)
