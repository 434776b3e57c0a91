/** What doctor says of hypervisors: of those that the home uses everything, of the others one line. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Check } from '../../src/check.ts'
import { openCli } from '../support/cli.ts'
import { knownMachine } from '../support/context.ts'

let cli: ReturnType<typeof openCli>
beforeEach(() => {
  cli = openCli()
})
afterEach(() => cli.close())

const doctor = async (environment: Record<string, string | undefined>) => {
  const { code, stdout } = await cli.swarm(['doctor', '--json'], { PATH: '/nowhere', ...environment })
  const checks: Check[] = JSON.parse(stdout).checks
  return {
    code,
    lines: checks
      .filter(({ subject }) => subject !== 'Home')
      .map(({ subject, status, text }) => `${status} ${subject}: ${text}`),
    remedyOf: (text: string) => checks.find(check => check.text.includes(text))?.remedy,
  }
}
/** A virsh that says this whatever it is asked. */
const virsh = (text: string): string => {
  const bin = join(cli.home, 'bin')
  mkdirSync(bin, { recursive: true })
  writeFileSync(join(bin, 'virsh'), `#!/bin/sh\n${text}\n`)
  chmodSync(join(bin, 'virsh'), 0o755)
  return `${bin}:${process.env.PATH}`
}
const MISSING = 'virsh, the client of libvirt, is not installed'

test('a hypervisor that is missing, and that nobody needs, is one line and no error', async () => {
  expect(await doctor({})).toMatchObject({
    code: 0,
    lines: [expect.stringMatching(/^ok synthetic: .* are free in /), `ok kvm: not used here: ${MISSING}.`],
  })
})

test('one that is configured, or has a machine here, is an error with its remedy', async () => {
  const configured = await doctor({ AGENT_SWARM_PROVIDER: 'kvm' })
  expect(configured).toMatchObject({ code: 1, lines: [expect.stringContaining(`error kvm: ${MISSING}`)] })
  expect(configured.remedyOf(MISSING)).toMatch(/[Ii]nstall/)
  cli.know(registry => knownMachine(registry, 'DROP-8', '192.0.2.8'))
  expect((await doctor({})).lines).toContainEqual(`error kvm: ${MISSING}`)
})

test('without any, a host that is no mere bot has a problem', async () => {
  const { code, lines, remedyOf } = await doctor({ AGENT_SWARM_PROVIDER: undefined })
  expect({ code, lines }).toEqual({ code: 1, lines: [`error kvm: no hypervisor works here: ${MISSING}.`] })
  expect(remedyOf(MISSING)).toMatch(/[Ii]nstall/)
  const bot = { AGENT_SWARM_PROVIDER: undefined, AGENT_SWARM_RUNNER_TOKEN: 'a-token-of-a-runner' }
  expect((await doctor(bot)).lines).toEqual([expect.stringMatching(/^ok kvm: .*runners on other hosts create/)])
})

test("another system's, when it is configured", async () => {
  const { code, lines, remedyOf } = await doctor({ AGENT_SWARM_PROVIDER: 'tart' })
  expect({ code, lines }).toMatchObject({
    code: 1,
    lines: expect.arrayContaining([expect.stringMatching(/^error tart: /)]),
  })
  expect(remedyOf('tart is not installed')).toContain('brew install')
})

test('a libvirt that this user may not use', async () => {
  const PATH = virsh(
    `printf 'error: failed to connect to the hypervisor\\nerror: authentication unavailable: no polkit agent\\n' >&2; exit 1`,
  )
  const { code, lines, remedyOf } = await doctor({ AGENT_SWARM_PROVIDER: 'kvm', PATH })
  expect({ code, lines }).toMatchObject({
    code: 1,
    lines: expect.arrayContaining([expect.stringContaining('this user may not use')]),
  })
  expect(remedyOf('may not use')).toContain('sudo usermod -aG libvirt "$USER"')
})

test('on a terminal, lines fit and a remedy stays whole, to be pasted', async () => {
  const { screen } = await cli.terminal(['doctor'], {
    columns: 40,
    environment: { PATH: '/nowhere', AGENT_SWARM_PROVIDER: 'kvm' },
  })
  const lines = screen.split('\n')
  expect(lines.find(line => line.startsWith('Checking this host'))).toBeDefined()
  expect(screen).toMatch(/✗.* kvm: virsh, the client of libvirt, is\n {2}not installed\n {2}\S/)
})
