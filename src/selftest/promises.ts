/**
 * The promises of every provider (providers/provider.ts), in the order in which they are tried. The tests run them, and
 * `agent-swarm doctor --selftest` does on a person's host: nothing here names anything but the bench's own machines, or names
 * that nothing has.
 */
import type { Provider } from '../../providers/provider.ts'
import { newVmId } from '../domain.ts'
import type { Bench } from './bench.ts'
import { expectEqual, expectFailure, expectMembers, expectMore } from './expect.ts'
import { forks } from './fork-promise.ts'

export type ProviderPromise = {
  name: string
  /** An optional member of the provider. Without it, the promise is left out. */
  needs?: keyof Provider
  /** When it is broken, nothing after it can be tried. */
  isBasis?: true
  run(bench: Bench): Promise<void>
}

const MIB = 1024 ** 2
const CONSOLE_LINES = 20
// biome-ignore lint/suspicious/noControlCharactersInRegex: it matches control characters.
const CONSOLE_LINE = /^[^\x00-\x1f\x7f]{1,200}$/

const available = async ({ provider, description }: Bench): Promise<void> => {
  expectEqual('available()', await provider.available(), { available: true })
  expectEqual(
    '`liveCheckpoints`, against `live` of the description',
    provider.liveCheckpoints === true,
    description.live,
  )
  expectEqual('its name, against that of the description', provider.name, description.name.split(' ')[0])
}

const absent = async ({ provider, random }: Bench): Promise<void> => {
  const vmId = newVmId('SELFTEST-99', random)
  const calls: [string, () => unknown][] = [
    ['status', () => provider.status(vmId)],
    ['startVm', () => provider.startVm(vmId)],
    ['stopVm', () => provider.stopVm(vmId)],
    ['checkpoint', () => provider.checkpoint(vmId, 'one')],
    ...(provider.assign === undefined
      ? []
      : [['assign', () => provider.assign?.(vmId, 'SELFTEST-99')] satisfies [string, () => unknown]]),
  ]
  for (const [name, call] of calls) await expectFailure(`${name} without a machine`, call, 'no-such-vm')
  await provider.deleteVm(vmId)
}

const created = async (bench: Bench): Promise<void> => {
  const { provider, baseImage, machines, forAll } = bench
  await forAll(async machine => {
    const { vmId } = machine
    const ticket = bench.initialTicket(machine)
    const info = await provider.createVm(ticket, baseImage, await bench.options(vmId))
    expectMembers('what createVm returns', info, { vmId, ticket })
    await provider.startVm(vmId)
    await provider.startVm(vmId)
  })
  await forAll(({ vmId }) => bench.ready(vmId))
  await forAll(({ vmId }) => bench.script(vmId, `printf %s ${vmId} > "$HOME/who"; sync`))
  for (const { vmId } of machines)
    expectEqual(`the file that was written in ${vmId}`, await bench.script(vmId, 'cat "$HOME/who"'), vmId)
}

const createdAgain = async (bench: Bench): Promise<void> => {
  const { provider, baseImage, first } = bench
  const { vmId } = first
  const ticket = bench.initialTicket(first)
  const info = await provider.createVm(ticket, baseImage, await bench.options(vmId))
  expectMembers('what createVm returns for a machine that exists', info, { vmId, ticket, status: 'running' })
}

const listing = async (bench: Bench): Promise<void> => {
  for (const machine of bench.machines) {
    const expected = { ticket: bench.initialTicket(machine), status: 'running' } as const
    expectMembers(`${machine.vmId} in listVms`, await bench.listed(machine), expected)
    expectEqual(`the status of ${machine.vmId}`, await bench.provider.status(machine.vmId), 'running')
  }
}

const otherHomes = async (bench: Bench): Promise<void> => {
  const { otherHome, baseImage, first } = bench
  const { vmId } = first
  expectEqual('the machines that another home lists', await otherHome.listVms(), [])
  expectEqual('the usage that another home gets', await otherHome.usage?.(), otherHome.usage && new Map())
  const options = await bench.options(vmId)
  const calls: [string, () => unknown][] = [
    ['createVm', () => otherHome.createVm(null, baseImage, options)],
    ['status', () => otherHome.status(vmId)],
    ['startVm', () => otherHome.startVm(vmId)],
    ['stopVm', () => otherHome.stopVm(vmId)],
    ['deleteVm', () => otherHome.deleteVm(vmId)],
    ['checkpoint', () => otherHome.checkpoint(vmId, 'one')],
    ['restore', () => otherHome.restore(vmId, 'one')],
    ['listCheckpoints', () => otherHome.listCheckpoints(vmId)],
    ['sshInfo', () => otherHome.sshInfo(vmId)],
    ['assign', () => otherHome.assign?.(vmId, 'SELFTEST-98') ?? otherHome.status(vmId)],
  ]
  for (const [name, call] of calls) await expectFailure(`${name} of another home's machine`, call, 'not-ours')
  const expected = { ticket: bench.initialTicket(first), status: 'running' } as const
  expectMembers(`${vmId} afterwards`, await bench.listed(first), expected)
}

const foreign = async ({ otherHome, first: { vmId } }: Bench): Promise<void> => {
  const machine = (await otherHome.listForeign?.())?.find(each => each.vmId === vmId)
  if (machine === undefined) throw new Error(`listForeign of another home: it lacks ${vmId}`)
  if (machine.homeId === null) throw new Error(`listForeign of another home: ${vmId} names no home`)
}

const checkpoints = async (bench: Bench): Promise<void> => {
  const { provider, first } = bench
  const { vmId, ticket } = first
  await bench.script(vmId, 'echo before > "$HOME/state"; sync')
  const { sizeBytes, livePauseMs } = await provider.checkpoint(vmId, 'one')
  if (sizeBytes !== null) expectMore('the size of a checkpoint', sizeBytes, 0)
  if (livePauseMs !== undefined) expectMore('the milliseconds for which it stood still', livePauseMs, -1)
  await expectFailure('a second checkpoint of one name', () => provider.checkpoint(vmId, 'one'), 'already-exists')
  // The checkpoint has the machine without a ticket.
  await provider.assign?.(vmId, ticket)
  await provider.assign?.(vmId, ticket)
  expectMembers('the machine with its ticket', await bench.listed(first), { ticket })
  await bench.script(vmId, 'echo after > "$HOME/state"; echo new > "$HOME/later"; sync')
  await provider.checkpoint(vmId, 'another')
  const names = async () =>
    expectEqual('the checkpoints, oldest first', await provider.listCheckpoints(vmId), ['one', 'another'])
  await names()
  const unknown = () => provider.restore(vmId, 'nowhere')
  await expectFailure('restoring a checkpoint that does not exist', unknown, 'no-such-checkpoint')
  await provider.restore(vmId, 'one')
  expectMembers('the machine after a restore', await bench.listed(first), { ticket, status: 'running' })
  await bench.ready(vmId)
  const older = await bench.script(vmId, 'cat "$HOME/state"; ls "$HOME/later" 2>/dev/null || true')
  expectEqual('its files after a restore', older, 'before')
  await provider.restore(vmId, 'another')
  await bench.ready(vmId)
  const newer = await bench.script(vmId, 'cat "$HOME/state" "$HOME/later"')
  expectEqual('its files after a restore of the newer checkpoint', newer, 'after\nnew')
  await names()
}

/** Of the guest's boot, which is in its memory alone. */
const bootOf = ({ script }: Bench, vmId: string): Promise<string> => script(vmId, 'cat /proc/sys/kernel/random/boot_id')

const restoredMemory = async (bench: Bench): Promise<void> => {
  const { provider, first } = bench
  const { vmId } = first
  // It goes on with the checkpoint that is restored here once more.
  const before = await bootOf(bench, vmId)
  await provider.restore(vmId, 'another')
  expectEqual('its status after a restore with memory', await provider.status(vmId), 'running')
  await bench.ready(vmId)
  expectEqual('the boot of a machine that was restored with its memory', await bootOf(bench, vmId), before)
}

const restoredCold = async (bench: Bench): Promise<void> => {
  const { provider, first } = bench
  const { vmId, ticket } = first
  await bench.script(vmId, 'echo warm > "$HOME/state"; sync')
  const before = await bootOf(bench, vmId)
  await provider.restore(vmId, 'another', { cold: true })
  const expected = { ticket, status: 'stopped', saved: undefined } as const
  expectMembers('the machine after a restore without memory', await bench.listed(first), expected)
  await provider.startVm(vmId)
  await bench.ready(vmId)
  expectEqual('its file after a restore without memory', await bench.script(vmId, 'cat "$HOME/state"'), 'after')
  // Folders share the boot of their host.
  if (provider.ownSystem !== true && (await bootOf(bench, vmId)) === before)
    throw new Error('a restore without memory: the guest goes on with its memory')
}

const restoredStopped = async (bench: Bench): Promise<void> => {
  const { provider, first } = bench
  const { vmId, ticket } = first
  await bench.script(vmId, 'echo off > "$HOME/state"; sync')
  await provider.stopVm(vmId)
  await provider.checkpoint(vmId, 'off')
  // Another state that runs, which nobody has to wait for.
  await provider.restore(vmId, 'another')
  await provider.restore(vmId, 'off')
  const expected = { ticket, status: 'stopped' } as const
  expectMembers('the machine after a restore of a stopped one', await bench.listed(first), expected)
  await provider.startVm(vmId)
  await bench.ready(vmId)
  expectEqual('its file after a restore of a stopped one', await bench.script(vmId, 'cat "$HOME/state"'), 'off')
  await bench.script(vmId, 'echo after > "$HOME/state"; sync')
}

const deletedCheckpoint = async ({ provider, first: { vmId } }: Bench): Promise<void> => {
  await provider.deleteCheckpoint?.(vmId, 'one')
  await provider.deleteCheckpoint?.(vmId, 'one')
  expectEqual('the checkpoints that are left', await provider.listCheckpoints(vmId), ['another'])
}

const stopped = async (bench: Bench): Promise<void> => {
  const { provider, first } = bench
  const { vmId } = first
  await provider.stopVm(vmId)
  await provider.stopVm(vmId)
  expectEqual('its status after a stop', await provider.status(vmId), 'stopped')
  if (provider.assign !== undefined) {
    await provider.assign(vmId, 'SELFTEST-98')
    const expected = { ticket: 'SELFTEST-98', status: 'stopped' } as const
    expectMembers('the stopped machine with another ticket', await bench.listed(first), expected)
  }
  await provider.startVm(vmId)
  await bench.ready(vmId)
  expectEqual('its file after a stop and a start', await bench.script(vmId, 'cat "$HOME/state"'), 'after')
}

const suspended = async (bench: Bench): Promise<void> => {
  const { provider, first } = bench
  const { vmId, ticket } = first
  await bench.script(vmId, 'echo suspended > "$HOME/state"; sync')
  await provider.suspend?.(vmId)
  await provider.suspend?.(vmId)
  const listed = await bench.listed(first)
  expectMembers('a suspended machine', listed, { status: 'running', pauseCause: 'asked' })
  if (!listed?.paused) throw new Error('a suspended machine: listVms does not tell it as paused')
  await provider.assign?.(vmId, ticket)
  await provider.startVm(vmId)
  await provider.startVm(vmId)
  expectEqual('the pause of a machine that goes on', (await bench.listed(first))?.paused, undefined)
  await bench.ready(vmId)
  expectEqual('its file after a suspension', await bench.script(vmId, 'cat "$HOME/state"'), 'suspended')
  await provider.suspend?.(vmId)
  await provider.stopVm(vmId)
  expectEqual('the status of a suspended machine after a stop', await provider.status(vmId), 'stopped')
  await expectFailure('suspending a stopped machine', () => provider.suspend?.(vmId), 'not-running')
  await provider.startVm(vmId)
  await bench.ready(vmId)
}

const saved = async (bench: Bench): Promise<void> => {
  const { provider, first } = bench
  const { vmId } = first
  const before = await bootOf(bench, vmId)
  await provider.save?.(vmId)
  await provider.save?.(vmId)
  expectMembers('a saved machine', await bench.listed(first), { status: 'stopped', saved: true })
  await provider.assign?.(vmId, 'SELFTEST-97')
  await provider.startVm(vmId)
  await provider.startVm(vmId)
  const expected = { ticket: 'SELFTEST-97', status: 'running', saved: undefined } as const
  if (provider.assign !== undefined) expectMembers('the machine that goes on', await bench.listed(first), expected)
  await bench.ready(vmId)
  expectEqual('the boot of a machine that goes on', await bootOf(bench, vmId), before)
  await provider.assign?.(vmId, first.ticket)
}

const usage = async ({ provider, options, first: { vmId } }: Bench): Promise<void> => {
  const read = async () => (await provider.usage?.())?.get(vmId)
  const { cpus, memoryMiB } = await options(vmId)
  const running = await read()
  // The sizes that a platform has may not be what was asked for.
  expectMore('the processors of a running machine', running?.cpus, cpus - 1)
  expectMore('the memory of a running machine', running?.memoryBytes, memoryMiB * MIB - 1)
  expectMore('the disk that it uses', running?.diskBytes, 0)
  // Some platforms have no such figures, and say null.
  if (running?.memoryUsedBytes !== null) expectMore('the memory that it uses', running?.memoryUsedBytes, 32 * MIB)
  if (running?.cpuSeconds !== null) expectMore('the processor time that it used', running?.cpuSeconds, 0)
  await provider.stopVm(vmId)
  const size = { cpus: running?.cpus, memoryBytes: running?.memoryBytes }
  expectMembers('the usage of a stopped machine', await read(), { ...size, memoryUsedBytes: 0, cpuSeconds: null })
}

const capacity = async ({ provider }: Bench): Promise<void> => {
  const host = await provider.capacity?.()
  expectMore("the host's processors", host?.cpus, 0)
  for (const what of ['memoryBytes', 'diskBytes'] as const) {
    expectMore(`available ${what}`, host?.[what].available, 0)
    expectMore(`total ${what}, against what is available`, host?.[what].total, (host?.[what].available ?? 0) - 1)
  }
}

const consoleOfStopped = async ({ provider, first: { vmId } }: Bench): Promise<void> => {
  await provider.stopVm(vmId)
  const lines = (await provider.consoleTail?.(vmId)) ?? []
  expectMore('lines of the console', lines.length, 0)
  if (lines.length > CONSOLE_LINES)
    throw new Error(`it gives ${lines.length} lines of the console, at most ${CONSOLE_LINES} are allowed`)
  const hostile = lines.find(line => !CONSOLE_LINE.test(line))
  if (hostile !== undefined)
    throw new Error(`a line of the console is too long or moves the cursor: ${JSON.stringify(hostile)}`)
}

const hostileNames = async ({ provider, random }: Bench): Promise<void> => {
  // Nothing has these names: whoever runs this has machines of their own.
  const names = [`../../${random}`, '-rf', `as-${random}`, `x${random}`, `as-selftest-1-${random}; false`]
  for (const name of names) {
    await expectFailure(`deleting "${name}"`, () => provider.deleteVm(name), 'not-ours')
    await expectFailure(`starting "${name}"`, () => provider.startVm(name), 'not-ours')
  }
}

const deleted = async (bench: Bench): Promise<void> => {
  const { provider, machines, forAll } = bench
  await forAll(({ vmId }) => provider.deleteVm(vmId))
  await forAll(({ vmId }) => provider.deleteVm(vmId))
  for (const machine of machines)
    expectEqual(`${machine.vmId} in listVms after its delete`, await bench.listed(machine), undefined)
}

const nothingLeft = async ({ provider, machines }: Bench): Promise<void> => {
  const left = (await provider.leftovers?.()) ?? []
  const own = left.filter(({ vmId }) => machines.some(machine => machine.vmId === vmId))
  expectEqual('what deleted machines left', own, [])
}

export const promises: readonly ProviderPromise[] = [
  { name: 'it is available where it is tested, and its description is right', isBasis: true, run: available },
  { name: 'a machine that does not exist is reported as absent, and deleting it succeeds', run: absent },
  {
    name: 'machines are created and started at the same time, each with its own state',
    isBasis: true,
    run: created,
  },
  { name: 'creating a machine that exists changes nothing', run: createdAgain },
  { name: 'all machines are listed with ticket and status, also one without a ticket', run: listing },
  { name: 'a machine of another home is not listed, and never touched', run: otherHomes },
  { name: 'a machine of another home is reported, with its home', needs: 'listForeign', run: foreign },
  {
    name: 'a checkpoint restores the disk; they are listed oldest first, and a name is used once',
    run: checkpoints,
  },
  {
    name: 'a restore of a checkpoint with memory goes on with it, and boots nothing',
    needs: 'memoryCheckpoints',
    run: restoredMemory,
  },
  {
    name: 'a checkpoint can be deleted, twice, and the other one stays',
    needs: 'deleteCheckpoint',
    run: deletedCheckpoint,
  },
  {
    name: 'forks have the state of one moment and a name of their own, and the machine that is forked stays as it is',
    needs: 'fork',
    run: forks,
  },
  {
    name: 'a restore without memory brings the disk back, and leaves the machine stopped',
    needs: 'coldRestores',
    run: restoredCold,
  },
  { name: 'a checkpoint of a stopped machine brings back a stopped machine with its disk', run: restoredStopped },
  {
    name: 'stopping keeps everything, and may be done twice; a stopped machine can get another ticket',
    run: stopped,
  },
  { name: 'a suspended machine stands still, and goes on when it is started', needs: 'suspend', run: suspended },
  { name: 'a machine whose memory is saved is off, and goes on when it is started', needs: 'save', run: saved },
  { name: 'the usage of machines', needs: 'usage', run: usage },
  { name: 'the capacity of their host', needs: 'capacity', run: capacity },
  { name: 'the console of a stopped machine can be read', needs: 'consoleTail', run: consoleOfStopped },
  { name: 'a name that is not one of our vmIds is never touched', run: hostileNames },
  { name: 'deleting removes everything, and may be done twice', run: deleted },
  { name: 'a deleted machine leaves no disk and no files', needs: 'leftovers', run: nothingLeft },
]
