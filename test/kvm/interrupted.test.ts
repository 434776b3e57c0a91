/** Ctrl-C on a terminal and kill -9, while machines are created and changed: nothing without an owner is left. */
import { spawn } from 'node:child_process'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { CTRL_C } from '../support/terminal.ts'
import { ensureMachines, entry, everything, FIRST, inside, listed, swarm, swarmEnvironment, virsh } from './cli.ts'
import { interruptAt, typeOn } from './terminal.ts'

const TICKET = 'CTRL-1'
let before: Awaited<ReturnType<typeof everything>>

beforeAll(async () => {
  await ensureMachines(FIRST)
  before = await everything()
})
afterAll(async () => {
  await swarm('delete', TICKET, '--force')
})

test.for(['disk', 'seed', 'start'])('Ctrl-C at "%s" undoes a create', async phase => {
  const { code, screen } = await interruptAt([phase], 'create', TICKET)
  expect(screen).toContain('Interrupted: ')
  expect(screen).toMatch(new RegExp(`create of ${TICKET}: cancelled; .* is removed`))
  expect(code).toBe(1)
  expect(await everything()).toEqual(before)
})

test('Ctrl-C while the machine boots ends the running command and undoes the create', async () => {
  const { code, screen } = await typeOn(['create', TICKET, '--verbose'], [{ prompt: 'ssh ', text: CTRL_C }])
  expect(screen).toMatch(/✖ (address|ssh) /)
  expect(screen).toMatch(/✔ undoing /)
  expect(code).toBe(1)
  expect(await everything()).toEqual(before)
})

test('a second Ctrl-C leaves the rest to the next command', async () => {
  const { code } = await interruptAt(['start', 'undoing'], 'create', TICKET)
  expect(code).toBe(130)
  expect(await listed(TICKET)).toMatchObject({ status: 'creating' })
  await swarm('stop', 'CTRL-2')
  expect(await everything()).toEqual(before)
})

test('the next command removes what a killed (-9) create left', async () => {
  const child = spawn(process.execPath, [entry, 'create', TICKET], {
    env: swarmEnvironment,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  for await (const chunk of child.stderr) if (String(chunk).includes('address')) child.kill('SIGKILL')
  const { vmId, status } = await listed(TICKET)
  expect(status).toBe('creating')
  expect(await virsh('domstate', vmId)).toBe('running')
  await swarm('stop', TICKET)
  expect(await everything()).toEqual(before)
})

test('Ctrl-C at a checkpoint leaves none of it, and the machine as it was', async () => {
  const { checkpoints } = await listed(FIRST)
  const { volumes } = await everything()
  const { code, screen } = await typeOn(['checkpoint', FIRST, 'cut-short'], [{ prompt: 'checkpoint ', text: CTRL_C }])
  expect(screen).toMatch(new RegExp(`checkpoint of ${FIRST}: cancelled; no checkpoint `))
  expect(code).toBe(1)
  expect((await listed(FIRST)).checkpoints).toEqual(checkpoints)
  // Its disk may have a new layer; the memory and the name of a checkpoint are not left.
  const isOfCheckpoint = (name: string) => /\.(memory|checkpoint)$/.test(name)
  expect((await everything()).volumes.filter(isOfCheckpoint)).toEqual(volumes.filter(isOfCheckpoint))
  expect(await inside(FIRST, 'echo whole')).toBe('whole')
})
