/**
 * Where setup-base.sh may do what it does in a machine: a mount namespace with its own /usr/local, /etc, /run, /var/lib and
 * cache of apt, all in memory, and a host name of its own. It has only the named programs of this system. It needs root, or a kernel that lets others be root in
 * a namespace.
 */
import { execFileSync } from 'node:child_process'
import { type Ran, runWith } from '../support/package-sources.ts'

const NAMESPACE = [...(process.getuid?.() === 0 ? [] : ['--map-root-user']), '--mount', '--uts']

export const hasSandbox = (...programs: string[]): boolean => {
  try {
    execFileSync('unshare', [...NAMESPACE, 'mount', '-t', 'tmpfs', 'none', '/usr/local'], { stdio: 'ignore' })
    for (const program of programs) execFileSync('sh', ['-c', 'command -v "$0"', program], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

const PROGRAMS =
  'apt-cache apt-get awk base64 basename cat chmod cp curl cut date dirname dpkg dpkg-deb dpkg-split env false find gpg gpgv grep gzip head id install kill ln ls mkdir mktemp mv od printf rm sed sh sha256sum sha512sum sleep sort tail tar tee touch tr true wc xz'.split(
    ' ',
  )
/** Debian's dpkg asks for these; a package of files alone needs none of them. */
const STUBS = ['ldconfig', 'start-stop-daemon', 'update-rc.d', 'systemctl', 'gcc', 'cc']

const PREPARE = `set -eu
mkdir -p "$BIN"
mount -t tmpfs none "$BIN"
for program in ${PROGRAMS.join(' ')}; do ln -s "$(command -v "$program")" "$BIN/$program"; done
for program in ${STUBS.join(' ')} $EXTRA_STUBS; do
  rm -f "$BIN/$program"
  printf '#!/bin/sh\\necho "%s $*" >&2\\n' "$program" >"$BIN/$program"
  chmod 755 "$BIN/$program"
done
for program in $WITHOUT; do rm "$BIN/$program"; done
mount -t tmpfs none /mnt
for file in passwd group nsswitch.conf ld.so.cache ld.so.conf ld.so.conf.d ssl alternatives os-release; do
  # Not every file is readable, and not every owner exists in the namespace.
  cp -dR "/etc/$file" /mnt/ 2>/dev/null || true
done
mkdir -p /mnt/systemd/system /mnt/apt/apt.conf.d /mnt/apt/sources.list.d /mnt/apt/preferences.d
echo 'APT::Sandbox::User "root";' >/mnt/apt/apt.conf.d/sandbox
mount --bind /mnt /etc
for folder in /usr/local /run /var/lib /var/cache/apt; do mount -t tmpfs none "$folder"; done
# No service of this system.
[ ! -d /usr/lib/systemd ] || mount -t tmpfs none /usr/lib/systemd
# As if systemd ran, so that nothing is written to keep services from starting.
mkdir -p /run/systemd/system /usr/local/bin /usr/local/share /usr/local/sbin /var/lib/dpkg/info /var/lib/dpkg/updates /var/lib/dpkg/triggers /var/lib/apt
touch /var/lib/dpkg/status
env -i PATH="/usr/local/bin:$BIN" sh -s || exit
eval "$AFTER"
`

type Options = {
  /** More programs that do nothing, succeed, and write how they were called on standard error. */
  stubs?: string[]
  /** Programs that are missing. */
  without?: string[]
  /** Commands that run when the script has succeeded. */
  after?: string
}

/** `bin`: an empty folder. */
export const inSandbox = (
  bin: string,
  script: string,
  { stubs = [], without = [], after = '' }: Options = {},
): Promise<Ran> =>
  runWith('unshare', [...NAMESPACE, 'sh', '-c', PREPARE], script, {
    BIN: bin,
    EXTRA_STUBS: stubs.join(' '),
    WITHOUT: without.join(' '),
    AFTER: after,
  })
