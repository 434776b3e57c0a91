/** `doctor --selftest` as a person runs it: whole, with a provider that breaks a promise, cancelled, and killed. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Provider } from '../../providers/provider.ts'
import { synthetic } from '../../providers/synthetic/description.ts'
import type { MachineRow } from '../../src/registry/machines.ts'
import { promises } from '../../src/selftest/promises.ts'
import { openCli } from '../support/cli.ts'
import { outputValidator } from '../support/json-outputs.ts'
import { until } from '../support/wait.ts'

const hold = { NODE_OPTIONS: `--import=${resolve(import.meta.dirname, '../support/hold-provider.ts')}` }
const CHECKPOINTS = 'a checkpoint restores the disk'

let cli: ReturnType<typeof openCli>
const { open } = synthetic
beforeEach(async () => {
  cli = openCli()
  expect(await cli.swarm(['create', 'DROP-1'])).toMatchObject({ code: 0 })
})
afterEach(() => {
  synthetic.open = open
  cli.close()
})

const names = (...path: string[]) => {
  const folder = join(cli.home, 'state', ...path)
  return existsSync(folder) ? readdirSync(folder).sort() : []
}
const journal = (): MachineRow[] => {
  let machines: MachineRow[] = []
  cli.know(registry => {
    machines = registry.machines()
  })
  return machines
}
/** Everything that a machine has in this home. */
const traces = () => ({
  machines: names('synthetic'),
  marks: names('synthetic-state'),
  keys: names('ssh'),
  locks: names('locks'),
  journal: journal(),
})
const transcripts = () => names('proven').map(name => readFileSync(join(cli.home, 'state', 'proven', name), 'utf8'))

test('synthetic keeps its promises; nothing is left but a transcript, and the machine of a person is as it was', async () => {
  const before = traces()
  const { code, stdout, stderr } = await cli.processes.swarm(['doctor', '--selftest'])
  expect(code).toBe(0)
  for (const { name, needs } of promises)
    expect(stdout).toMatch(
      new RegExp(`^(✓ +\\d+\\.\\d s|- +)  ${name.replaceAll(/[`;]/g, '.')}${needs === undefined ? '$' : ''}`, 'm'),
    )
  expect(stdout).toContain('✓')
  expect(stdout).not.toContain('✗')
  expect(stderr).toMatch(/^This makes 2 machines of its own on synthetic .* It does not touch your machines\.$/m)
  expect(traces()).toEqual(before)
  const [text = ''] = transcripts()
  expect(stderr).toContain(`Transcript: ${join(cli.home, 'state', 'proven', names('proven')[0] ?? '')}\n`)
  const { version } = JSON.parse(readFileSync(resolve(import.meta.dirname, '../../package.json'), 'utf8'))
  expect(text).toContain(`version   ${version}\ndate      ${new Date().getUTCFullYear()}-`)
  expect(text).toMatch(/^system {4}.*Node 24\./m)
  expect(text).toMatch(/^result {4}\d+ promises kept, 0 broken, 4 left out$/m)
  expect(text).toMatch(/^ {2}\+ ssh-keygen .* {2}# \d+ ms$/m)
  for (const { name } of promises) expect(text).toContain(`  ${name}\n`)
})

test('a promise that a provider breaks: exit 1, and the output and the transcript say which and why', async () => {
  const reversed = (provider: Provider): Provider => ({
    ...provider,
    listCheckpoints: async id => (await provider.listCheckpoints(id)).reverse(),
  })
  synthetic.open = async tools => reversed((await open?.(tools)) as Provider)
  const before = traces()
  const { code, stdout } = await cli.swarm(['doctor', '--selftest', '--json'])
  expect(code).toBe(1)
  const printed = JSON.parse(stdout)
  expect(outputValidator('doctor')(printed)).toBe('valid')
  const failed = printed.promises.filter(({ result }: { result: string }) => result === 'failed')
  const why = 'the checkpoints, oldest first: expected ["one","another"], got ["another","one"]'
  expect(failed).toMatchObject([{ name: expect.stringContaining(CHECKPOINTS), why }])
  const text = readFileSync(printed.transcript, 'utf8')
  expect(text).toMatch(/^failed {4,}\d+\.\d s {2}a checkpoint restores the disk/m)
  expect(text).toContain(`    ${why}\n`)
  expect(traces()).toEqual(before)
})

/** Until the restore, which hangs in an outside command. */
const beginAndHold = async () => {
  const child = cli.processes.begin(['doctor', '--selftest', '--verbose'], hold)
  await until('the third machine', () => names('synthetic-state').length === 3)
  await until('the restore', () => child.output.stdout.includes('a machine of another home is reported'))
  return child
}

test('Ctrl-C ends it, removes its machines, and leaves a transcript', async () => {
  const before = traces()
  const child = await beginAndHold()
  child.kill('SIGINT')
  const { code, stdout, stderr } = await child.ended
  expect(code).toBe(1)
  expect(stderr).toContain('the selftest was cancelled; its machines are removed\nWhat it did until then: ')
  expect(stdout).toMatch(/✗ .*a checkpoint restores the disk.*\n +cancelled: /)
  expect(stdout).toMatch(/- .*deleting removes everything.* \(left out: the selftest was ended before\)/)
  expect(traces()).toEqual(before)
  expect(transcripts()).toEqual([expect.stringMatching(/^left-out .*deleting removes everything/m)])
})

test('killed (-9), it leaks nothing: its machines are journalled, left alone while it lives, and then removed', async () => {
  const before = traces()
  const child = await beginAndHold()
  expect(journal()).toMatchObject([
    { provider: 'synthetic', purpose: 'selftest' },
    { provider: 'synthetic', purpose: 'selftest' },
  ])
  const machines = journal().map(({ vmId }) => vmId)
  // Neither the reconciler nor a person's commands take them for machines of a ticket.
  expect(await cli.json(['reconcile'])).toEqual([])
  expect((await cli.json(['list'])).map(({ ticket }: { ticket: string }) => ticket)).toEqual(['DROP-1'])
  expect(names('synthetic')).toEqual(expect.arrayContaining(machines))
  child.kill('SIGKILL')
  await child.ended
  const found = await cli.json(['reconcile', '--dry-run'])
  const finding = 'a selftest was interrupted: the process died'
  expect(found).toMatchObject(machines.map(vmId => ({ ticket: null, vmId, finding })))
  expect(await cli.swarm(['reconcile'])).toMatchObject({ code: 0 })
  const { locks, ...after } = traces()
  expect(after).toEqual({ machines: before.machines, marks: before.marks, keys: before.keys, journal: [] })
  expect((await cli.json(['list']))[0]).toMatchObject({ ticket: 'DROP-1', status: 'running' })
})

test.for([
  [['--selftest', '--yes'], 2, '--selftest cannot be combined with --yes'],
  [['--selftest', '--provider', 'tart'], 1, 'the provider tart does not work here'],
] as const)('%j is refused', async ([words, code, text]) => {
  expect(await cli.swarm(['doctor', ...words])).toMatchObject({ code, stderr: expect.stringContaining(text) })
})

test('without its base image, it makes nothing and names the command', async () => {
  synthetic.open = async tools => ({ ...((await open?.(tools)) as Provider), listBaseImages: async () => [] })
  const before = traces()
  expect(await cli.swarm(['doctor', '--selftest'])).toEqual({
    code: 1,
    stdout: '',
    stderr: expect.stringMatching(/the base image agent-swarm-base does not exist[\s\S]*agent-swarm init-base /),
  })
  expect(traces()).toEqual(before)
})

test('on a terminal the promise that is tried is shown, and each result stays', async () => {
  const { code, screen } = await cli.terminal(['doctor', '--selftest'])
  expect(code).toBe(0)
  const text = stripVTControlCharacters(screen)
  // Which of them takes long enough to be seen at work depends on the host.
  expect(text).toMatch(/\r[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] \S/)
  expect(text).toMatch(/\r✓ +\d+\.\d s {2}deleting removes everything/)
})
