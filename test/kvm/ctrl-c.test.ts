/** Ctrl-C on a terminal, while real machines are made and changed: nothing is left that nobody owns. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { CTRL_C, onTerminal, pressedAt, type Step } from '../support/terminal.ts'
import { ensureBase, entry, everything, swarm, swarmEnvironment, virsh } from './cli.ts'

const TICKET = 'CTRL-1'
let marks: string
let before: Awaited<ReturnType<typeof everything>>

beforeAll(async () => {
  await ensureBase()
  before = await everything()
})
afterAll(async () => {
  await swarm('delete', TICKET, '--force')
})

const typed = async (words: string[], { environment = {}, type }: { environment?: object; type: Step[] }) => {
  const { screen, code } = await onTerminal(
    [process.execPath, entry, ...words],
    { ...swarmEnvironment, ...environment },
    type,
  )
  return { code, screen: stripVTControlCharacters(screen) }
}
/** Pressed while the command stands still at the beginning of each phase. */
const pressed = async (phases: string[], ...words: string[]) => {
  marks = mkdtempSync(join(tmpdir(), 'agent-swarm-marks-'))
  try {
    return await typed(words, pressedAt(phases, marks))
  } finally {
    rmSync(marks, { recursive: true })
  }
}

test.for(['disk', 'seed', 'start', 'address', 'ssh'])('at "%s" undoes a create: all is as before', async phase => {
  const { code, screen } = await pressed([phase], 'create', TICKET)
  expect(screen).toContain('Interrupted: undoing what was started.')
  expect(screen).toContain(`create of ${TICKET}: cancelled; what it had made is removed`)
  expect(code).toBe(1)
  expect(await everything()).toEqual(before)
})

test('while a hypervisor command runs, it ends that and undoes the create', async () => {
  const { code, screen } = await typed(['create', TICKET, '--verbose'], {
    type: [{ prompt: 'address', text: CTRL_C }],
  })
  expect(screen).toMatch(/[✖x] (address|ssh) /)
  expect(screen).toMatch(/[✔+] undoing /)
  expect(code).toBe(1)
  expect(await everything()).toEqual(before)
})

test('twice leaves it to the next command, which settles it', async () => {
  const { code, screen } = await pressed(['start', 'undoing'], 'create', TICKET)
  expect(screen).toContain('Exiting at once. The next command or the runner settles what was left half-done.')
  expect(code).toBe(130)
  expect((await everything()).environments).toMatchObject([{ ticket: TICKET, status: 'creating' }])
  await swarm('stop', 'CTRL-2')
  expect(await everything()).toEqual(before)
})

test('at a checkpoint leaves none of it, at a delete finishes it, and the machine is whole in between', async () => {
  expect(await swarm('create', TICKET)).toMatchObject({ code: 0 })
  const { code, screen } = await typed(['checkpoint', TICKET, 'one'], {
    type: [{ prompt: 'checkpoint ', text: CTRL_C }],
  })
  expect(screen).toContain(`checkpoint of ${TICKET}: cancelled; no checkpoint is left of it`)
  expect(code).toBe(1)
  const [{ vmId }] = (await everything()).environments
  expect(await virsh('snapshot-list', vmId, '--name')).toBe('')
  expect(await swarm('ssh', TICKET, '--', 'echo whole')).toMatchObject({ code: 0, stdout: 'whole\n' })
  const deleted = await pressed(['delete'], 'delete', '--force', TICKET)
  expect(deleted.screen).toContain('Interrupted: the delete was decided, and is being finished.')
  expect(deleted.screen).toContain(`${TICKET} is deleted`)
  expect(deleted.code).toBe(0)
  expect(await everything()).toEqual(before)
})
