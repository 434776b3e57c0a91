/** Which package manager the recipe takes. Each run ends at its first real step: nothing of this system is changed. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { baseScript } from '../../base-image/scripts.ts'

const CONTENTS = ['sshd', 'git', 'cloud-init', 'qemu-ga', 'sudo', 'rsync']

/** Runs the recipe with nothing but `programs` on its PATH. Each writes down how it was called, and fails when it would change the system. */
const recipe = (programs: string[]) => {
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

test('Debian and Ubuntu: apt-get, with its lists read first', () => {
  expect(recipe(['apt-get'])).toMatchObject({
    code: 9,
    called: [
      'apt-get update -q',
      'apt-get install -q -y --no-install-recommends openssh-server git cloud-init qemu-guest-agent sudo rsync',
    ],
  })
})

test('Fedora and its relatives: dnf', () => {
  expect(recipe(['dnf', 'git', 'sshd', 'sudo'])).toMatchObject({
    code: 9,
    called: ['dnf install -y openssh-server git-core cloud-init qemu-guest-agent sudo rsync'],
  })
})

test('an image that has all of it is not installed into, and needs no network', () => {
  expect(recipe([...CONTENTS, 'apt-get', 'dnf'])).toMatchObject({
    code: 9,
    called: ['mkdir -p /etc/cloud/cloud.cfg.d'],
  })
})

test('a system with neither: it says what is missing', () => {
  expect(recipe(CONTENTS.slice(2))).toMatchObject({
    code: 1,
    stderr: 'setup-base.sh: no apt-get and no dnf here, and these are missing: sshd\ngit\n',
  })
})
