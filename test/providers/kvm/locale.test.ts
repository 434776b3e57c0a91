/**
 * libvirtd in another language. virsh runs with LC_ALL=C, but libvirtd's own messages come in the daemon's language. Texts as
 * recorded with libvirt 9.0, libvirtd with LANG=C and with LANG=de_DE.UTF-8: each command ends alike.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { explainVirsh } from '../../../providers/kvm/explain.ts'
import { systemOf } from '../../../providers/kvm/systems.ts'
import {
  type Answer,
  domains,
  failureOf,
  fakeKvm,
  mark,
  options,
  pool,
  pools,
  RUNNING,
  STOPPED,
  state,
  VM,
  version,
} from './fake-virsh.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-kvm-locale-'))
})
afterEach(() => rmSync(home, { recursive: true }))

const languages = {
  English: {
    noMark: 'metadata not found: Requested metadata element is not present',
    noCheckpoint: "Domain snapshot not found: no domain snapshot with matching name 'zz'",
    notRunning: 'Requested operation is not valid: domain is not running',
    alreadyRunning: 'Requested operation is not valid: domain is already running',
    noPool: "Storage pool not found: no storage pool with matching name 'agent-swarm'",
    poolExists: "operation failed: pool 'agent-swarm' already exists with uuid e8526eff-6b11-4eca-af71-34c8e2461eed",
    poolActive: "Requested operation is not valid: storage pool 'agent-swarm' is already active",
    poolInTheWay: "operation failed: Storage source conflict with pool: 'swarm-old'",
    folderGone: "cannot open directory '/pool': No such file or directory",
    noVolume: "Storage volume not found: no storage vol with matching path 'x'",
  },
  German: {
    noMark: 'Metadaten nicht gefunden: Die angeforderte Metadaten-Element nicht vorhanden ist',
    noCheckpoint: 'Domain Snapshot nicht gefunden: Kein Domain-Snapshot mit passendem Namen »zz«',
    notRunning: 'Angeforderte Operation ist nicht gültig: Domain läuft nicht',
    alreadyRunning: 'Angeforderte Operation ist nicht gültig: Domain läuft bereits',
    noPool: "Speicher-Pool nicht gefunden: Kein Pool mit passendem Namen 'agent-swarm'",
    poolExists:
      'Operation schlug fehl: Pool »agent-swarm« existiert bereits mit UUID 3ae3e5cc-a046-4829-ad89-26d2988ae0fb',
    poolActive: "Angeforderte Operation ist nicht gültig: Speicher-Pool 'agent-swarm' ist bereits aktiv",
    poolInTheWay: "Operation schlug fehl: Speicher Quelle Konflikt mit Pool: 'swarm-old'",
    folderGone: "cannot open directory '/pool': Datei oder Verzeichnis nicht gefunden",
    noVolume: "Speicher-Datenträger nicht gefunden: Kein Speicher-Datenträger mit passendem Pfad 'x'",
  },
}
const error = (to: string, ...lines: string[]): Answer => ({
  to,
  stderr: lines.map(line => `error: ${line}`).join('\n'),
})
/** Answers that change when a command that contains `to` runs. */
const switching = (before: Answer, to: string, after: Answer) => {
  const answers = [before]
  return { answers, onCall: (text: string) => void (text.includes(to) && answers.splice(0, 1, after)) }
}
const SNAPSHOTS: Answer = { to: 'snapshot-list', stdout: ' a   2026-11-28 19:26:56 +0000   running' }

describe.each(Object.entries(languages))('libvirtd speaks %s', (_language, says) => {
  const kvm = (answers: readonly Answer[], onCall?: (text: string) => void) => fakeKvm(answers, { home }, onCall)

  test('a machine without our mark is not ours', async () => {
    const { provider } = kvm([error(`metadata ${VM}`, says.noMark), RUNNING])
    expect(await failureOf(provider.stopVm(VM))).toMatchObject({ kind: 'not-ours' })
  })

  test('a machine that does not exist is reported as that, and deleting it succeeds', async () => {
    const { provider, calls } = kvm([error('metadata', `failed to get domain '${VM}'`), domains('another')])
    expect(await failureOf(provider.status(VM))).toMatchObject({ kind: 'no-such-vm' })
    await provider.deleteVm(VM)
    expect(calls.length).toBeLessThan(8)
  })

  test('a checkpoint whose name is taken', async () => {
    const { provider, calls } = kvm([mark(), RUNNING, pool(9_000), SNAPSHOTS])
    expect(await failureOf(provider.checkpoint(VM, 'a'))).toMatchObject({ kind: 'already-exists' })
    expect(calls.join()).not.toContain('snapshot-create-as')
  })

  test('a checkpoint that does not exist is deleted already, and cannot be restored', async () => {
    const answers = [mark(), RUNNING, SNAPSHOTS, error('snapshotname=zz', says.noCheckpoint)]
    await kvm(answers).provider.deleteCheckpoint?.(VM, 'zz')
    expect(await failureOf(kvm(answers).provider.restore(VM, 'zz'))).toMatchObject({ kind: 'no-such-checkpoint' })
    // In a session, the checkpoint is read before it is restored.
    const session = fakeKvm([mark({ port: '20022' }), ...answers.slice(1)], {
      ...{ home, settings: { kvmUri: 'qemu:///session' } },
    })
    expect(await failureOf(session.provider.restore(VM, 'zz'))).toMatchObject({ kind: 'no-such-checkpoint' })
  })

  test('stop of a paused machine that cannot go on powers it off, at once', async () => {
    const { answers, onCall } = switching(state(3, VM, 5), 'destroy', STOPPED)
    answers.push(mark(), error('shutdown', `Failed to shutdown domain '${VM}'`, says.notRunning))
    const { provider, calls } = kvm(answers, onCall)
    await provider.stopVm(VM)
    const changes = calls.flatMap(text => text.match(/--quiet (resume|shutdown|destroy) /)?.[1] ?? [])
    expect(changes).toEqual(['resume', 'shutdown', 'destroy'])
  })

  test('stop of a paused machine that goes on lets it shut down', async () => {
    const answers = [state(3), mark()]
    const { provider, calls } = kvm(answers, text => {
      if (text.includes('resume')) answers.splice(0, 1, RUNNING)
      if (text.includes('shutdown')) answers.splice(0, 1, STOPPED)
    })
    await provider.stopVm(VM)
    expect(calls.join()).not.toContain('destroy')
  })

  test('stop of a machine that stops meanwhile', async () => {
    const { answers, onCall } = switching(RUNNING, 'shutdown', STOPPED)
    answers.push(mark(), error('shutdown', `Failed to shutdown domain '${VM}'`, says.notRunning))
    await kvm(answers, onCall).provider.stopVm(VM)
  })

  test('start of a machine that runs, and of a paused one that another process resumed', async () => {
    await kvm([mark(), RUNNING, error(`start ${VM}`, 'Domain is already active')]).provider.startVm(VM)
    const { answers, onCall } = switching(state(3), 'resume', RUNNING)
    answers.push(mark(), error('resume', `Failed to resume domain '${VM}'`, says.alreadyRunning))
    await kvm(answers, onCall).provider.startVm(VM)
  })

  test('a pool that is missing is made, also when another process makes and starts it at the same time', async () => {
    const answers = [
      pools('default'),
      error('pool-define-as', 'Failed to define pool agent-swarm', says.poolExists),
      error('pool-build', 'Failed to build pool agent-swarm', says.poolActive),
      error('pool-start', 'Failed to start pool agent-swarm', says.poolActive),
    ]
    const { provider } = kvm(answers, text => {
      if (text.includes('pool-define-as')) answers.splice(0, 1, pools('default', 'agent-swarm'), pool(9_000))
    })
    expect(await provider.capacity?.()).toMatchObject({ diskBytes: { available: 9_000 * 1024 ** 2 } })
  })

  test('the pool that is in the way is named, with the setting', async () => {
    const other: Answer = {
      to: 'pool-dumpxml swarm-old',
      stdout:
        "<pool type='dir'><name>swarm-old</name><target><path>/var/lib/libvirt/agent-swarm</path></target></pool>",
    }
    const conflict = error('pool-define-as', 'Failed to define pool agent-swarm', says.poolInTheWay)
    const { provider, calls } = kvm([pools('default', 'swarm-old'), other, conflict])
    const expected =
      'making the pool agent-swarm: the pool swarm-old already has its folder /var/lib/libvirt/agent-swarm'
    const remedy = expect.stringMatching(/AGENT_SWARM_KVM_POOL=swarm-old\..*pool-destroy swarm-old/)
    expect(await failureOf(provider.capacity?.())).toEqual({ kind: 'not-configured', message: expected, remedy })
    expect(await provider.diagnose?.(new AbortController().signal)).toContainEqual({
      status: 'error',
      text: expected,
      remedy,
    })
    expect(calls.join()).not.toContain('pool-define-as')
  })

  test('the folder of the pool is built again where it is gone', async () => {
    const list = (state: string): Answer => ({ to: 'pool-list', stdout: ` agent-swarm   ${state}   yes` })
    const gone = [
      error('pool-refresh', 'Failed to refresh pool agent-swarm', says.folderGone),
      error('pool-start', 'Failed to start pool agent-swarm', says.folderGone),
    ]
    // libvirt stops the pool when it cannot read the folder.
    const answers = [list('active'), ...gone]
    const { provider, calls } = kvm(answers, text => {
      if (text.includes('pool-refresh') && answers.length > 2) answers.splice(0, 1, list('inactive'))
      if (text.includes('pool-build')) answers.splice(0, answers.length, list('active'), pool(9_000))
    })
    expect(await provider.capacity?.()).toMatchObject({ diskBytes: { available: 9_000 * 1024 ** 2 } })
    expect(calls.flatMap(text => text.match(/ (pool-(?:build|start)) /)?.[1] ?? [])).toEqual([
      'pool-start',
      'pool-build',
      'pool-start',
    ])
  })

  test('a base image that does not exist', async () => {
    const answers = [error('metadata', 'x'), version('9.0.0'), pool(9_000), { to: 'net-info', stdout: 'Active: yes' }]
    const { provider } = kvm([...answers, error('vol-create', "failed to get vol 'base.qcow2'", says.noVolume)])
    expect(await failureOf(provider.createVm('A-1', 'base', options))).toMatchObject({ kind: 'no-such-image' })
  })
})

test.for<[string, string, string | null]>([
  ['German', 'Failed to start domain as-a\nAngeforderte Operation ist nicht gültig: nein', 'LANG=C'],
  ['French', "Impossible de lancer\nerreur interne : impossible d'ouvrir le fichier", 'LANG=C'],
  ['English', 'Failed to start domain as-a\nunsupported configuration: the thing is not supported', null],
  ['English', "operation failed: guest CPU doesn't match specification for this host", null],
])('a text that is not understood is unknown, with its words; %s: %s', ([, text, remedy]) => {
  const { failure } = explainVirsh({ kvmUri: 'qemu:///system' }, systemOf('ID=debian\n'))('starting x', text)
  expect(failure).toMatchObject({ kind: 'unknown', message: `starting x: ${text}` })
  if (remedy === null) expect(failure.remedy).toBe(null)
  else expect(failure.remedy).toMatch(/LANG=C.*sudo systemctl edit libvirtd.*restart libvirtd/)
})
