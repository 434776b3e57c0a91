/** The profile `full` in a new Debian, with the real packages: npm run test:long, as root, with mmdebstrap and a mirror of Debian. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { imageSteps, setupScript, verifyScript } from '../../base-image/scripts.ts'
import { isLong } from '../support/samples.ts'
import { canMakeRoots, inRoot, makeRoot, removeRoot, serveGoogle } from './golden-root.ts'

const isPossible = isLong && canMakeRoots()

let folder: string
let google: Awaited<ReturnType<typeof serveGoogle>>

beforeAll(async () => {
  if (!isPossible) return
  // Not in memory: a root has 2.5 GB.
  folder = mkdtempSync('/var/tmp/agent-swarm-golden-')
  google = await serveGoogle(folder)
})
afterAll(async () => {
  await google?.close()
  if (folder !== undefined) removeRoot(folder)
})

/** What a container of the release has. */
const PACKAGES = ['systemd-sysv', 'udev', 'dbus', 'ca-certificates', 'iproute2', 'netbase', 'procps']

test.skipIf(!isPossible).for(['trixie', 'bookworm'])(
  '%s: every step is set up, proven by use, and changes nothing again',
  { timeout: 90 * 60_000 },
  async suite => {
    const root = join(folder, suite)
    makeRoot(root, suite, PACKAGES)
    const { without, mirrors } = google
    const setup = setupScript({
      profile: 'full',
      extra: [{ name: '50-greeting', text: 'echo "it\'s $SWARM_PROFILE" > /etc/greeting\n' }],
      skip: without,
      mirrors,
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
    removeRoot(root)
  },
)
