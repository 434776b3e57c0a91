/** Every state that a ticket can be in has a finding or none; nothing that may hold work is removed by any of them. */
import { expect, test } from 'vitest'
import type { VmInfo } from '../../../providers/provider.ts'
import type { Desired, EnvironmentRow } from '../../../src/registry/registry.ts'
import { nextStep, type Observed, observedIn } from '../../../src/runner/lifecycle.ts'
import {
  findingOfLeftover,
  findingOfMachine,
  findingsOfTicket,
  type Interrupted,
  type TicketView,
} from '../../../src/runner/reconciler/findings.ts'
import type { EnvironmentStatus } from '../../../src/schema/environment.ts'

const statuses: EnvironmentStatus[] = ['creating', 'running', 'stopped', 'deleting', 'failed', 'lost']
const desiredStates: Desired[] = ['running', 'stopped', 'absent']
const by = { via: 'cli', who: 'dev' } as const
const VM = 'as-drop-1-00000001'

const rowOf = (status: EnvironmentStatus, desired: Desired, more: Partial<EnvironmentRow> = {}): EnvironmentRow => ({
  ...{ ticket: 'DROP-1', provider: 'synthetic', vmId: VM, baseImage: 'base', ip: null, status, ssh: null },
  ...{ createdAt: '2026-01-01T00:00:00.000Z', createdBy: by, unsavedWork: null, desired, desiredBy: by },
  ...more,
})
const vm = (more: Partial<VmInfo>): VmInfo => ({ vmId: VM, ticket: 'DROP-1', ip: null, status: 'running', ...more })
const interruption = { state: 'stopped', by: 'AWS', cause: 'no room', next: 'AWS starts it again' } as const
const machines: (VmInfo | undefined)[] = [
  undefined,
  vm({ status: 'creating' }),
  vm({ status: 'stopped' }),
  vm({ status: 'running' }),
  vm({ paused: 'disk full', pauseCause: 'disk-full' }),
  vm({ paused: 'saving', pauseCause: 'interrupted' }),
  vm({ paused: 'by a user', pauseCause: 'asked' }),
  vm({ paused: 'unknown' }),
  vm({ interruption: { ...interruption, state: 'announced' } }),
  vm({ status: 'stopped', interruption }),
]
const interruptions: Interrupted[][] = [
  [],
  ...(['create', 'start', 'delete'] as const).flatMap(kind =>
    [true, false].flatMap(isLeftToQueue =>
      [null, { reached: 'decided' as const }].map(detail => [{ kind, isLeftToQueue, detail }]),
    ),
  ),
]
const viewOf = (row: EnvironmentRow, more: Partial<TicketView> = {}): TicketView => ({
  ...{ row, vm: undefined, interrupted: [], hasDisk: false, canAssign: true },
  ...more,
})
const allViews = statuses.flatMap(status =>
  desiredStates.flatMap(desired =>
    machines.flatMap(machine =>
      interruptions.flatMap(interrupted =>
        [true, false].map(hasDisk => viewOf(rowOf(status, desired), { vm: machine, interrupted, hasDisk })),
      ),
    ),
  ),
)
const does = (view: TicketView) => findingsOfTicket(view).map(finding => finding.does)

test('every state is defined, and is told in words', () => {
  expect(allViews.length).toBe(6 * 3 * 10 * 13 * 2)
  for (const view of allViews)
    for (const { finding, step } of findingsOfTicket(view)) {
      expect(finding).toMatch(/^\w.*[^.]$/)
      expect(step).toMatch(/^\w.*[^.]$/)
      expect(finding).not.toContain('undefined')
    }
})

test('without an operation or a delete, the step is that of the lifecycle', () => {
  for (const view of allViews) {
    const { row, vm: machine, interrupted } = view
    if (interrupted.length > 0 || row.desired === 'absent' || ['creating', 'failed'].includes(row.status)) continue
    const step = nextStep[row.desired][observedIn(row, machine)]
    const [first] = does(view)
    if (step === 'lose') expect(first).toBe(row.status === 'lost' ? undefined : 'lose')
    else if (step === 'wait' || step === 'none')
      expect(['record', 'mark', machine?.interruption === undefined ? undefined : 'keep']).toContain(first)
    else expect(first).toBe(step)
  }
})

test('a machine is removed only when its create never answered, or its delete was decided', () => {
  for (const view of allViews) {
    const { row, interrupted } = view
    for (const step of does(view)) {
      if (step === 'undo') expect(['creating', 'failed']).toContain(row.status)
      if (step === 'delete')
        expect([row.status, row.desired, interrupted[0]?.kind, interrupted[0]?.detail?.reached]).toEqual([
          'deleting',
          'absent',
          'delete',
          'decided',
        ])
      if (step === 'forget') expect([view.vm, view.hasDisk, row.desired]).toEqual([undefined, false, 'absent'])
    }
  }
})

test('what the queue gives out again is left to it', () => {
  for (const view of allViews.filter(({ interrupted }) => interrupted.some(({ isLeftToQueue }) => isLeftToQueue)))
    expect(does(view)).toEqual(['wait'])
})

test.for<[string, TicketView, ReturnType<typeof does>]>([
  ['all is well', viewOf(rowOf('running', 'running'), { vm: vm({}) }), []],
  ['after a reboot', viewOf(rowOf('running', 'running'), { vm: vm({ status: 'stopped' }) }), ['start']],
  ['after a reboot, and it was stopped', viewOf(rowOf('stopped', 'stopped'), { vm: vm({ status: 'stopped' }) }), []],
  ['somebody started it', viewOf(rowOf('stopped', 'stopped'), { vm: vm({}) }), ['stop']],
  ['paused for want of space', viewOf(rowOf('running', 'running'), { vm: machines[4] }), ['resume']],
  ['paused by a person', viewOf(rowOf('running', 'running'), { vm: machines[6] }), []],
  ['taken back soon', viewOf(rowOf('running', 'running'), { vm: machines[8] }), ['keep']],
  ['taken back soon, and wanted stopped', viewOf(rowOf('running', 'stopped'), { vm: machines[8] }), ['stop']],
  [
    'taken back: it is recorded, and not started',
    viewOf(rowOf('running', 'running'), { vm: machines[9] }),
    ['keep', 'record'],
  ],
  ['taken back, and recorded', viewOf(rowOf('stopped', 'running'), { vm: machines[9] }), ['keep']],
  ['taken back, and there again', viewOf(rowOf('stopped', 'running'), { vm: vm({}) }), ['record']],
  ['lost, and told', viewOf(rowOf('lost', 'running')), []],
  ['lost, and it is there again', viewOf(rowOf('lost', 'running'), { vm: vm({}) }), ['record']],
  ['another ticket in its mark', viewOf(rowOf('running', 'running'), { vm: vm({ ticket: 'DROP-2' }) }), ['mark']],
  [
    'another address',
    viewOf(rowOf('running', 'running', { ssh: { host: '192.0.2.1', port: 22, user: 'agent' } }), {
      vm: vm({ ip: '192.0.2.2' }),
    }),
    ['record'],
  ],
  ['a delete that failed', viewOf(rowOf('deleting', 'absent'), { vm: vm({}) }), ['keep']],
])('%s', ([, view, expected]) => expect(does(view)).toEqual(expected))

test('what the hypervisor did by itself is told with its cause and the way on', () => {
  const told = (view: TicketView) => findingsOfTicket(view).map(({ finding, step }) => `${finding}; ${step}`)
  expect(told(viewOf(rowOf('running', 'running'), { vm: machines[8] }))).toEqual([
    'AWS stops it within minutes (no room); none: it is kept; AWS starts it again; to keep its disk as it is now: agent-swarm checkpoint DROP-1',
  ])
  expect(told(viewOf(rowOf('stopped', 'running'), { vm: machines[9] }))).toEqual([
    'AWS stopped it (no room); none: it is kept; AWS starts it again',
  ])
  expect(told(viewOf(rowOf('running', 'running'), { ending: 'AWS says: terminated' }))).toEqual([
    'its machine no longer exists, and agent-swarm did not delete it (AWS says: terminated); mark it lost, and tell it on the ticket',
  ])
})

test('a machine that no row knows is adopted with the ticket of its mark, and nothing else', () => {
  expect(findingOfMachine('kvm', vm({}), null)).toMatchObject({ ticket: 'DROP-1', vmId: VM, does: 'adopt' })
  expect(findingOfMachine('kvm', vm({}), 'as-drop-1-00000002').does).toBe('keep')
  expect(findingOfMachine('kvm', vm({ ticket: null }), null).does).toBe('keep')
})

test('what is left of machines is kept', () => {
  for (const hasDisk of [true, false])
    expect(findingOfLeftover('kvm', { vmId: VM, hasDisk, bytes: 1 }).does).toBe('keep')
})

test('observed states', () => {
  const expected: Observed[] = [
    ...(['gone', 'creating', 'stopped', 'running', 'stuck', 'stuck', 'held', 'held', 'running', 'taken'] as const),
  ]
  expect(machines.map(machine => observedIn({ status: 'running' }, machine))).toEqual(expected)
})

test('only an attempt is dismissed, never the machine of a ticket', () => {
  const dismissed = { dismissed: true } as const
  const running = vm({ status: 'running' })
  const ofTicket = viewOf(rowOf('running', 'running', dismissed), { vm: running })
  const ofAttempt = viewOf(rowOf('running', 'running', { ...dismissed, ticket: 'DROP-1~2' }), { vm: running })
  expect(does(ofTicket)).toEqual([])
  expect(does(ofAttempt)).toEqual(['dismiss'])
})
