/** The options of setup-base.sh, the order of its steps, and what the profile minimal does. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { imageSteps, setupScript, verifyScript } from '../../base-image/scripts.ts'
import { hasSandbox, inSandbox } from './sandbox.ts'

const SCRIPT = join(import.meta.dirname, '../../base-image/setup-base.sh')
const PROGRAMS = ['sshd', 'git', 'cloud-init', 'qemu-ga', 'sudo', 'rsync', 'chronyd']
const minimal = (options: Partial<Parameters<typeof setupScript>[0]> = {}) =>
  setupScript({ profile: 'minimal', extra: [], ...options })

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'agent-swarm-setup-'))
  mkdirSync(join(folder, 'bin'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const asFile = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync('sh', [SCRIPT, ...args], { encoding: 'utf8' })
  return { code: status, stdout, stderr }
}

test('each step has a name, a summary and profiles, and comes in the order of its file', () => {
  const files = readdirSync(join(import.meta.dirname, '../../base-image/steps'))
  const steps = imageSteps()
  expect(steps.map(step => step.name)).toEqual(files.sort().map(file => file.replace(/^\d\d-(.*)\.sh$/, '$1')))
  expect(steps.filter(step => step.profiles.includes('minimal')).map(step => step.name)).toEqual([
    'base',
    'time',
    'seed',
    'boot',
  ])
  expect(steps.every(step => step.profiles.includes('full') && step.summary !== '')).toBe(true)
})

test('--list as a file says the same as imageSteps', () => {
  const extra = join(folder, 'own')
  mkdirSync(extra)
  writeFileSync(join(extra, '50-elixir.sh'), 'true')
  const lines = imageSteps().map(({ name, profiles, summary }) => `${name}\t${profiles.join(' ')}\t${summary}\n`)
  expect(asFile('--list', '--extra', extra)).toEqual({
    code: 0,
    stdout: `${lines.join('')}50-elixir\tminimal full\ta step of the project\n`,
    stderr: '',
  })
})

test.for([
  [['--profile', 'huge'], 'unknown profile "huge"; known: minimal, full'],
  [['--only', 'docker'], 'unknown step "docker"; known: base time seed boot node'],
  [['--skip', 'base,gui'], 'unknown step "gui"'],
  [['--only'], '--only needs a value'],
  [['--skip', ''], '--skip needs a value'],
  [['now'], 'unexpected argument "now"'],
  [['--sha256', 'gcloud=00'], '--sha256 "gcloud=00": known names: node, npm, rustup, pgvector'],
  [['--sha256', 'node=abc'], '--sha256 "node=abc": not 64 hexadecimal digits'],
  [['--sha256', `node=${'G'.repeat(64)}`], 'not 64 hexadecimal digits'],
  [['--extra', '/nowhere/at-all'], '--extra "/nowhere/at-all": no such folder'],
] as const)('wrong usage changes nothing: %s', ([args, message]) => {
  expect(asFile(...args)).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(message) })
})

test('a step of a project must have a name that no other step has', () => {
  const extra = (name: string) => () => minimal({ extra: [{ name, text: '' }] })
  for (const name of ["x'; reboot", '../x', '', '-x', '.x', 'X', 'x'.repeat(38)])
    expect(extra(name)).toThrow('not a name of a step')
  const own = join(folder, 'taken')
  mkdirSync(own)
  writeFileSync(join(own, 'redis.sh'), '')
  expect(asFile('--extra', own)).toMatchObject({ code: 2, stderr: expect.stringContaining('named redis exists') })
})

test('a setting of another program is refused', () => {
  expect(() => minimal({ mirrors: { 'PATH=/x; reboot': '' } })).toThrow('not a setting of setup-base.sh')
})

test('shellcheck finds nothing in the whole text', context => {
  const script = minimal({ extra: [{ name: 'a', text: 'true' }], skip: ['boot'], mirrors: { SWARM_RUST: "it's" } })
  const ran = spawnSync('shellcheck', ['--shell=sh', '-'], { input: script, encoding: 'utf8' })
  if (ran.error !== undefined) return context.skip('shellcheck is not installed (apt-get install shellcheck)')
  expect(ran.stdout).toBe('')
  for (const file of ['contents.sh', 'seal.sh', 'reseed.sh', 'identity.sh'])
    execFileSync('shellcheck', [join(SCRIPT, '..', file)])
})

describe.skipIf(!hasSandbox())('the profile minimal', () => {
  const run = (script: string, options: Parameters<typeof inSandbox>[2] = {}) =>
    inSandbox(join(folder, 'bin'), script, options)

  test('needs no packages and no network where all programs are there', async () => {
    const after = 'cat /etc/ssh/sshd_config.d/*; ls /etc/cloud/cloud.cfg.d; cat /etc/default/locale'
    const ran = await run(minimal(), { stubs: [...PROGRAMS, 'apt-get'], after })
    expect(ran).toMatchObject({ code: 0, stderr: 'setup-base.sh: minimal is set up\n' })
    expect(ran.stdout).toMatch(
      /^step base\nstep time\nstep seed\nstep boot\n[\s\S]*PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin no\nAuthenticationMethods publickey\n90-agent-swarm.cfg\nLANG=C.UTF-8\n$/,
    )
  })

  test('on Debian and Ubuntu: apt-get, after an update of its lists; what is missing after that is named', async () => {
    const ran = await run(minimal(), { stubs: ['apt-get', ...PROGRAMS.slice(2)] })
    expect(ran).toMatchObject({ code: 1, stdout: 'step base\n' })
    expect(ran.stderr).toBe(
      `${[
        'apt-get -q -y -o Acquire::Retries=2 -o DPkg::Lock::Timeout=300 -o APT::Update::Error-Mode=any update',
        'apt-get -q -y -o Acquire::Retries=2 -o DPkg::Lock::Timeout=300 install --no-install-recommends --no-remove openssh-server git cloud-init qemu-guest-agent sudo rsync tmux cloud-guest-utils e2fsprogs',
        'setup-base.sh: step base: still missing: sshd git',
        'setup-base.sh: step base failed',
      ].join('\n')}\n`,
    )
  })

  test('on Fedora and its relatives: dnf', async () => {
    const ran = await run(minimal(), { stubs: ['dnf', 'git', 'sshd', 'sudo'], without: ['apt-get'] })
    expect(ran).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('dnf install -y openssh-server git-core cloud-init qemu-guest-agent sudo rsync'),
    })
  })

  test('without either, what is missing is named', async () => {
    expect(await run(minimal(), { stubs: PROGRAMS.slice(2), without: ['apt-get'] })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('missing, and neither apt-get nor dnf can install it: sshd git\n'),
    })
  })

  test('without a time client, one is installed', async () => {
    const others = PROGRAMS.filter(name => name !== 'chronyd')
    const ran = await run(minimal({ only: ['time'] }), { stubs: ['apt-get', ...others] })
    expect(ran.stderr).toContain('install --no-install-recommends --no-remove systemd-timesyncd')
    expect(await run(minimal({ only: ['time'] }), { stubs: others, without: ['apt-get'] })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('or leave the step out: --skip time'),
    })
  })

  test('full is refused where there is no apt-get', async () => {
    const script = setupScript({ profile: 'full', extra: [] })
    expect(await run(script, { without: ['apt-get'] })).toMatchObject({ code: 2, stdout: '' })
  })

  test("a project's steps come last, whatever their text holds, and are not proven", async () => {
    const extra = [
      { name: '10-a', text: `cat >/etc/a <<'END'\nit's "$HOME" \${x} \`id\`\nEND\n` },
      { name: '20-b', text: '#!/usr/bin/env sh\necho "$SWARM_PROFILE $0" >>/etc/a\n' },
    ]
    const options = { stubs: PROGRAMS, after: 'cat /etc/a /usr/local/share/agent-swarm/base-image' }
    expect((await run(minimal({ extra, skip: ['boot'] }), options)).stdout).toMatch(
      /^step base\nstep time\nstep seed\nstep 10-a\nstep 20-b\nit's "\$HOME" \$\{x\} `id`\nminimal \S+\/20-b\.sh\nstep base\nstep time\nstep seed\nextra 10-a\nextra 20-b\n$/,
    )
    const proofs = await run(`${minimal({ extra, only: ['10-a'] })}`, {
      after: `sh <<'SCRIPT'\n${verifyScript('minimal')}\nSCRIPT`,
    })
    expect(proofs).toMatchObject({
      code: 0,
      stdout:
        'step 10-a\nunproven base it is not set up in this image\nunproven time it is not set up in this image\nunproven seed it is not set up in this image\nunproven boot it is not set up in this image\nunproven 10-a it is a step of the project, which nothing here can prove\n',
    })
  })

  test('a step of a project that fails ends the set-up, by its name', async () => {
    const extra = [{ name: '10-a', text: 'false\necho not reached >&2\n' }]
    expect(await run(minimal({ extra, only: ['10-a'] }))).toMatchObject({
      code: 1,
      stdout: 'step 10-a\n',
      stderr: 'setup-base.sh: step 10-a failed\n',
    })
  })

  test('a text that arrives by half does nothing', async () => {
    const half = minimal().slice(0, -30)
    expect(await run(half, { stubs: PROGRAMS, after: 'echo nothing; ls /etc/ssh 2>/dev/null || true' })).toEqual({
      code: 0,
      stdout: 'nothing\n',
      stderr: '',
    })
  })
})
