/** Whose a machine is: ours, another home's, one of an earlier version, or nobody's. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { markAttributes, parseMarks, writeMark } from '../../../providers/kvm/marks.ts'
import {
  type Answer,
  failureOf,
  fakeKvm,
  HOME_ID,
  mark,
  notInstalled,
  options,
  RUNNING,
  STOPPED,
  state,
  VM,
} from './fake-virsh.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-kvm-marks-'))
})
afterEach(() => rmSync(home, { recursive: true }))

const CHANGES = /\b(start|shutdown|destroy|undefine|vol-delete|snapshot-create-as|snapshot-revert|--set|define)\b/
const NO_HOME: Answer = { ...mark(), stdout: mark().stdout?.replace(` home="${HOME_ID}"`, '') ?? '' }

test('a mark is read whatever the order of its attributes', () => {
  expect(
    parseMarks(
      `<vm xmlns="urn:agent-swarm:1" name="as-a-1-00000001" ticket="A-1" mac="52:54:00:aa:bb:cc"/>\n\n<as:vm mac='m' home='00ff' ticket='T-1' port='20022' name='n'/>`,
    ),
  ).toEqual([
    { vmId: 'as-a-1-00000001', ticket: 'A-1', home: null, mac: '52:54:00:aa:bb:cc', port: null, ip: null },
    { vmId: 'n', ticket: 'T-1', home: '00ff', mac: 'm', port: 20022, ip: null },
  ])
  expect(parseMarks('<vm name="x"/>')).toEqual([])
})

test('a machine without a ticket has a mark without one; earlier versions wrote an empty ticket', () => {
  const pool = { vmId: 'as-pool-00000001', ticket: null, home: HOME_ID, mac: 'm', port: null, ip: null }
  expect(markAttributes(pool).piece).toBe(`name="as-pool-00000001" home="${HOME_ID}" mac="m"`)
  expect(parseMarks(`<vm ${markAttributes(pool).piece}/>`)).toEqual([pool])
  expect(parseMarks('<vm name="as-image-00000001" ticket="" mac="m"/>')).toMatchObject([{ ticket: null }])
})

test('machines of other homes are listed with the id of their home, and ours are not', async () => {
  const { provider } = fakeKvm([mark({ home: 'ffff000011112222' }), RUNNING], { home })
  expect(await provider.listForeign?.()).toEqual([{ vmId: VM, ticket: 'A-1', homeId: 'ffff000011112222' }])
  expect(await fakeKvm([mark(), RUNNING], { home }).provider.listForeign?.()).toEqual([])
})

test('every value of a mark is escaped', () => {
  const text = writeMark({ vmId: VM, ticket: `A-1"/><x y='`, home: null, mac: 'm', port: 1, ip: null }, 'stopped').join(
    ' ',
  )
  expect(text).toContain('<vm name="as-a-1-0000000a" ticket="A-1&quot;/&gt;&lt;x y=&apos;" mac="m" port="1"/> --config')
})

test.for<[string, Answer, RegExp]>([
  ["another home's machine", mark({ home: 'ffff000011112222' }), /belongs to another AGENT_SWARM_HOME/],
  ['a machine of an earlier version that this registry does not know', NO_HOME, /belongs to another AGENT_SWARM_HOME/],
  [
    'a machine without our mark',
    { to: 'metadata', stderr: 'error: metadata not found: Requested metadata element is not present' },
    /agent-swarm did not make it/,
  ],
])('%s is refused by every method, and nothing is changed', async ([, answer, message]) => {
  const { provider, calls } = fakeKvm([answer, RUNNING], { home })
  const attempts: (Promise<unknown> | undefined)[] = [
    provider.startVm(VM),
    provider.stopVm(VM),
    provider.deleteVm(VM),
    provider.status(VM),
    provider.sshInfo(VM),
    provider.checkpoint(VM, 'one'),
    provider.restore(VM, 'one'),
    provider.listCheckpoints(VM),
    provider.deleteCheckpoint?.(VM, 'one'),
    provider.assign?.(VM, 'A-2'),
    provider.consoleTail?.(VM),
    provider.createVm('A-1', 'base', options),
  ]
  for (const attempt of attempts)
    expect(await failureOf(attempt)).toMatchObject({ kind: 'not-ours', message: expect.stringMatching(message) })
  expect(await provider.listVms()).toEqual([])
  expect(calls.join('\n').replaceAll(/vol-download.*/g, '')).not.toMatch(CHANGES)
})

test('a machine of an earlier version that this registry knows gets the home at the first look', async () => {
  const tools = { home, knows: (vmId: string) => vmId === VM }
  const { provider, calls } = fakeKvm([NO_HOME, STOPPED], tools)
  expect(await provider.status(VM)).toBe('stopped')
  const set = `metadata ${VM} urn:agent-swarm:1 --key as --set '<vm name="${VM}" ticket="A-1" home="${HOME_ID}" mac="m"/>' --config`
  expect(calls.slice(1)).toEqual([`--connect qemu:///system --quiet ${set}`])

  const listing = fakeKvm([NO_HOME, RUNNING], tools)
  expect(await listing.provider.listVms()).toMatchObject([{ vmId: VM, ticket: 'A-1' }])
  expect(listing.calls.at(-1)).toContain(`${set.replace('--config', '--live --config')}`)
})

test('a list has our machines, with and without a ticket, in a number of commands that does not grow', async () => {
  const names = Array.from({ length: 50 }, (_, n) => `as-a-1-000000${String(n).padStart(2, '0')}`)
  const marks = names.map((name, n) =>
    n % 2 === 0
      ? mark({ name, home: 'another' })
      : n === 1
        ? { ...mark({ name }), stdout: mark({ name }).stdout?.replace(' ticket="A-1"', '') ?? '' }
        : mark({ name }),
  )
  const { provider, calls } = fakeKvm([...marks, ...names.map(name => state(1, name))], { home })
  const machines = await provider.listVms()
  expect(machines.map(({ vmId }) => vmId)).toEqual(names.filter((_, n) => n % 2 === 1))
  expect(machines.slice(0, 2).map(({ ticket }) => ticket)).toEqual([null, 'A-1'])
  expect(calls).toHaveLength(3)
  expect([...((await provider.usage?.())?.keys() ?? [])]).toEqual(machines.map(({ vmId }) => vmId))
  expect(calls).toHaveLength(5)
})

test('a paused machine is running, with the reason', async () => {
  const paused = { to: 'domstats', stdout: `Domain: '${VM}'\n  state.state=3\n  state.reason=5\n` }
  expect(await fakeKvm([mark(), paused], { home }).provider.listVms()).toEqual([
    { vmId: VM, ticket: 'A-1', ip: null, status: 'running', paused: 'disk full', pauseCause: 'disk-full' },
  ])
})

test('assigning a ticket keeps the rest of the mark, and does nothing the second time', async () => {
  const session = { home, settings: { kvmUri: 'qemu:///session' } }
  const { provider, calls } = fakeKvm([mark({ port: '20022' }), RUNNING], session)
  await provider.assign?.(VM, 'A-1')
  expect(calls.join('\n')).not.toContain('--set')
  await provider.assign?.(VM, 'B-2')
  expect(calls.at(-1)).toContain(
    `--set '<vm name="${VM}" ticket="B-2" home="${HOME_ID}" mac="m" port="20022"/>' --live --config`,
  )
})

test('a restore brings an older mark back, and the present ticket is written again', async () => {
  const present = mark({ ticket: 'B-2', port: '20001' })
  const { to } = present
  const answers: Answer[] = [RUNNING, { to, stdout: present.stdout ?? '' }]
  const { provider, calls } = fakeKvm(answers, { home }, text => {
    // The capture has another ticket, and the port of its own definition.
    if (text.includes('snapshot-revert')) answers[1] = { to, stdout: mark({ port: '20022' }).stdout ?? '' }
  })
  await provider.restore(VM, 'one')
  expect(calls.at(-1)).toContain(`--set '<vm name="${VM}" ticket="B-2" home="${HOME_ID}" mac="m" port="20022"/>'`)

  const unchanged = fakeKvm([RUNNING, mark()], { home })
  await unchanged.provider.restore(VM, 'one')
  expect(unchanged.calls.join('\n')).not.toContain('--set')
})

test('a restore of a checkpoint of an earlier version writes the home again', async () => {
  const answers: Answer[] = [RUNNING, mark()]
  const { provider, calls } = fakeKvm(answers, { home }, text => {
    if (text.includes('snapshot-revert')) answers[1] = NO_HOME
  })
  await provider.restore(VM, 'one')
  expect(calls.at(-1)).toContain(`home="${HOME_ID}"`)
})

test('a vmId that is not of our pattern never reaches virsh', async () => {
  const { provider, calls } = fakeKvm([], { home, run: notInstalled })
  for (const id of ['../../etc', '-rf', 'as-x', 'default', 'as-a-1-0000000a; reboot'])
    expect(await failureOf(provider.deleteVm(id))).toMatchObject({ kind: 'not-ours' })
  expect(calls).toEqual([])
})

test('a snapshot whose name no checkpoint can have is left out of the checkpoints', async () => {
  const list = {
    to: 'snapshot-list',
    stdout: [' before-work', ' Before.Upgrade', ` ${'x'.repeat(50)}`]
      .map(name => `${name}   2026-11-23 07:39:42 +0000   running`)
      .join('\n'),
  }
  const { provider } = fakeKvm([mark(), RUNNING, list], { home })
  expect(await provider.listCheckpoints(VM)).toEqual(['before-work'])
})
