/** Which package manager setup-base.sh uses. Each run ends at its first real step, so that nothing of this system changes. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { baseScript } from '../../base-image/scripts.ts'

const PROGRAMS = ['sshd', 'git', 'cloud-init', 'qemu-ga', 'sudo', 'rsync']

/** Runs it with only `programs` on its PATH. Each logs how it was called, and fails where it would change the system. */
const runSetup = (programs: string[]) => {
  const bin = mkdtempSync(join(tmpdir(), 'agent-swarm-recipe-'))
  const log = join(bin, 'log')
  try {
    writeFileSync(log, '')
    for (const name of [...programs, 'mkdir'])
      writeFileSync(
        join(bin, name),
        `#!/bin/sh\necho "${name} $*" >> '${log}'\ncase "$1" in update) exit 0;; esac\nexit 9\n`,
        { mode: 0o755 },
      )
    const ran = spawnSync('/bin/sh', ['-s'], {
      input: `set -- minimal\n${baseScript('setup-base.sh')}`,
      env: { PATH: bin },
      encoding: 'utf8',
    })
    return { code: ran.status, stderr: ran.stderr, called: readFileSync(log, 'utf8').trim().split('\n') }
  } finally {
    rmSync(bin, { recursive: true })
  }
}

test('Debian and Ubuntu: apt-get, after an update of its lists', () => {
  expect(runSetup(['apt-get'])).toMatchObject({
    code: 9,
    called: [
      'apt-get update -q',
      'apt-get install -q -y --no-install-recommends openssh-server git cloud-init qemu-guest-agent sudo rsync',
    ],
  })
})

test('Fedora and its relatives: dnf', () => {
  expect(runSetup(['dnf', 'git', 'sshd', 'sudo'])).toMatchObject({
    code: 9,
    called: ['dnf install -y openssh-server git-core cloud-init qemu-guest-agent sudo rsync'],
  })
})

test('an image with all programs gets no packages, and needs no network', () => {
  expect(runSetup([...PROGRAMS, 'apt-get', 'dnf'])).toMatchObject({
    code: 9,
    called: ['mkdir -p /etc/cloud/cloud.cfg.d'],
  })
})

test('a system with neither: it names what is missing', () => {
  expect(runSetup(PROGRAMS.slice(2))).toMatchObject({
    code: 1,
    stderr: 'setup-base.sh: missing, and neither apt-get nor dnf can install it: sshd\ngit\n',
  })
})
