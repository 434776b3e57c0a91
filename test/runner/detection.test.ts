/** Which hypervisor is used when none is configured: by platform, by trying, and remembered for a day. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { DAY_MS } from '../../src/clock.ts'
import { isFailure } from '../../src/errors.ts'
import { openRunnerContext, type RunnerContext } from '../../src/runner/context.ts'
import { openCli } from '../support/cli.ts'
import { configFor } from '../support/context.ts'
import { standInVirsh } from '../support/virsh.ts'

let home: string
let tools: string
let log: string
let context: RunnerContext | null
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-detection-'))
  tools = join(home, 'tools')
  log = join(home, 'virsh.log')
  context = null
  mkdirSync(tools)
  standInVirsh(join(home, 'libvirt'), { volumes: [] })
  // Each start of virsh is one outside command.
  writeFileSync(
    join(tools, 'virsh'),
    `#!/bin/sh\necho started >>'${log}'\nexec '${join(home, 'libvirt', 'virsh')}' "$@"\n`,
  )
  chmodSync(join(tools, 'virsh'), 0o755)
})
afterEach(() => {
  context?.close()
  rmSync(home, { recursive: true })
})

/** As the next command, in a process of its own, would open it. */
const open = async (platform: NodeJS.Platform = 'linux', more: Record<string, string> = {}): Promise<RunnerContext> => {
  context?.close()
  context = openRunnerContext(await configFor(home, { AGENT_SWARM_PROVIDER: '', PATH: tools, ...more }), { platform })
  return context
}
const commands = (): number => (existsSync(log) ? readFileSync(log, 'utf8').split('\n').length - 1 : 0)
const file = () => join(home, 'detected-provider.json')
const failureOf = (promise: Promise<unknown>) =>
  promise.then(
    () => null,
    error => (isFailure(error) ? error.failure : error),
  )

test('it takes one outside command, and none for a day', async () => {
  expect((await (await open()).chosenProvider()).name).toBe('kvm')
  expect(commands()).toBe(1)
  for (let n = 0; n < 3; n += 1) expect((await (await open()).chosenProvider()).name).toBe('kvm')
  expect(commands()).toBe(1)
})

test.for<[string, (text: string) => string, Record<string, string>]>([
  [
    'a day later',
    text => text.replace(/"at":"[^"]*"/, `"at":"${new Date(Date.now() - DAY_MS - 1).toISOString()}"`),
    {},
  ],
  ['of a clock that was set back', text => text.replace(/"at":"\d{4}/, '"at":"2999'), {}],
  ['with another setting', text => text, { AGENT_SWARM_KVM_NETWORK: 'other' }],
  ['with another variable of its programs', text => text, { LIBVIRT_DEFAULT_URI: 'qemu:///session' }],
  ['cut off', text => text.slice(0, -9), {}],
  ['empty', () => '', {}],
  ['with a member too many', text => text.replace('{', '{"x":1,'), {}],
  ['of a provider that is never detected', text => text.replace('"kvm"', '"synthetic"'), {}],
  ['of a provider of another platform', text => text.replace('"kvm"', '"tart"'), {}],
  ['without an end', text => `${text}${' '.repeat(70_000)}`, {}],
])('an answer %s is not used', async ([, change, more]) => {
  await (await open()).chosenProvider()
  writeFileSync(file(), change(readFileSync(file(), 'utf8')))
  expect((await (await open('linux', more)).chosenProvider()).name).toBe('kvm')
  expect(commands()).toBe(2)
})

test('it is dropped when a command finds the hypervisor gone, also in the process that remembers', async () => {
  const it = await open()
  const provider = await it.chosenProvider()
  rmSync(join(tools, 'virsh'))
  const gone = { kind: 'provider-missing', message: expect.stringContaining('virsh') }
  expect(await failureOf(provider.listVms())).toMatchObject(gone)
  expect(existsSync(file())).toBe(false)
  const failure = await failureOf(it.chosenProvider())
  expect(failure).toMatchObject({
    kind: 'provider-missing',
    message: expect.stringMatching(/^no hypervisor is available here\. kvm: virsh/),
  })
  expect(failure.remedy).toMatch(/On Linux, agent-swarm needs libvirt with QEMU\.\n.*AGENT_SWARM_PROVIDER=synthetic/)
  // Nothing is remembered of a host without a hypervisor: somebody may install one now.
  expect(existsSync(file())).toBe(false)
})

test('no value of a variable or a setting is on disk', async () => {
  const more = { LIBVIRT_DEFAULT_URI: 'qemu:///canary', AGENT_SWARM_KVM_NETWORK: 'canary' }
  await (await open('linux', more)).chosenProvider()
  expect(existsSync(file())).toBe(true)
  for (const value of ['canary', tools]) expect(readFileSync(file(), 'utf8')).not.toContain(value)
})

test('what to install is said once', async () => {
  const { remedy } = await failureOf((await open('darwin')).chosenProvider())
  expect(remedy.match(/Tart/g)).toHaveLength(1)
})

test('a configured provider of another platform is named as one', async () => {
  const failure = await failureOf((await open('linux', { AGENT_SWARM_PROVIDER: 'hyperv' })).chosenProvider())
  expect(failure).toMatchObject({
    kind: 'provider-missing',
    message: 'the provider hyperv does not work here: it is for Windows, and this host has Linux',
  })
})

test('a failure of something else drops nothing', async () => {
  const provider = await (await open()).chosenProvider()
  expect(await failureOf(provider.status('as-a-1-00000001'))).toMatchObject({ kind: expect.any(String) })
  expect(existsSync(file())).toBe(true)
})

test.for<[NodeJS.Platform, RegExp]>([
  ['darwin', /Tart/],
  ['win32', /Hyper-V/],
  ['freebsd', /libvirt with QEMU on Linux, Tart on macOS, Hyper-V on Windows, and not on freebsd\./],
])('on %s libvirt is not asked, and the failure says what to install', async ([platform, text]) => {
  const failure = await failureOf((await open(platform)).chosenProvider())
  expect(failure).toMatchObject({ kind: 'provider-missing', remedy: expect.stringMatching(text) })
  expect(failure.remedy).toContain('AGENT_SWARM_PROVIDER=synthetic')
  expect(commands()).toBe(0)
})

test('providers asks each of this platform once, and says of the others which platform they are for', async () => {
  const cli = openCli()
  const environment = { PATH: tools, AGENT_SWARM_PROVIDER: '' }
  try {
    const rows = JSON.parse((await cli.swarmOn('linux', ['providers', '--json'], environment)).stdout)
    const reasons = Object.fromEntries(rows.map(({ name, reason }: { name: string; reason: string }) => [name, reason]))
    // The isolation of an available provider is asked for, too.
    expect(commands()).toBeLessThanOrEqual(2)
    expect([reasons.tart, reasons.hyperv]).toEqual(
      ['tart', 'hyperv'].map(() => expect.stringMatching(/^(for (macOS|Windows)|not part of this version)$/)),
    )
    rmSync(log, { force: true })
    const there = JSON.parse((await cli.swarmOn('darwin', ['providers', '--json'], environment)).stdout)
    expect(there).toContainEqual({
      ...{ name: 'kvm', available: false, reason: 'for Linux', provenOn: expect.toBeOneOf([null, expect.any(String)]) },
      capabilities: expect.arrayContaining(['memoryCheckpoints', 'save']),
    })
    // Nobody was asked whether its machines are isolated.
    const table = (await cli.swarmOn('darwin', ['providers'], environment)).stdout
    for (const { available, name, capabilities } of there)
      if (!available) expect([name, capabilities.includes('isolated')]).toEqual([name, false])
    expect(table.match(/isolated machines/g)).toHaveLength(1)
    expect(commands()).toBe(0)
  } finally {
    cli.close()
  }
})
