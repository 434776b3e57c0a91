/** What a fork promises: machines of their own, with the state of one moment. */
import type { ForkTarget } from '../../providers/provider.ts'
import { attemptKey, type EnvironmentKey } from '../domain.ts'
import type { Bench } from './bench.ts'
import { expectEqual, expectFailure, expectMembers } from './expect.ts'

type Fork = { ticket: EnvironmentKey; vmId: string }

/** With keys of its own. */
const targetOf = async ({ options }: Bench, { ticket, vmId }: Fork): Promise<ForkTarget> => {
  const { publicKey, hostKey } = await options(vmId)
  return { ticket, vmId, publicKey, hostKey }
}

/** Brings them up, and tries what each has: the state, a mark and a name of its own. */
const expectForks = async (bench: Bench, forks: readonly Fork[], state: string): Promise<void> => {
  const { provider, first, ready, script, listed } = bench
  for (const fork of forks) {
    const { vmId, ticket } = fork
    const vm = await listed(fork)
    // One without a memory is stopped, or boots already where every new machine does.
    const status =
      provider.memoryForks !== true && vm?.status === 'stopped' ? ('stopped' as const) : ('running' as const)
    expectMembers(`the fork ${vmId} in listVms`, vm, { ticket, status })
    expectEqual(`the checkpoints of the fork ${vmId}`, await provider.listCheckpoints(vmId), [])
    await provider.startVm(vmId)
    // Under its own host key, which the bench requires.
    await ready(vmId)
    expectEqual(`the state of the fork ${vmId}`, await script(vmId, 'cat "$HOME/state" "$HOME/who"'), state)
  }
  // Folders share the names of their host.
  if (provider.ownSystem === true) return
  const machines = [first, ...forks]
  const names = await Promise.all(machines.map(({ vmId }) => script(vmId, 'cat /etc/machine-id; hostname')))
  const parts = names.flatMap(text => text.split('\n'))
  expectEqual('how many machine-ids and host names there are', new Set(parts).size, 2 * machines.length)
}

/** Of the machine as it is. It and its forks change, and none sees what another does. */
const forkPresent = async (bench: Bench, forks: readonly Fork[]): Promise<void> => {
  const { provider, first, script, listed } = bench
  const targets = await Promise.all(forks.map(fork => targetOf(bench, fork)))
  await script(first.vmId, 'echo forked > "$HOME/state"; sync')
  const before = await listed(first)
  // Again, as after a call whose end nobody saw.
  for (const _ of [1, 2]) await provider.fork?.(first.vmId, null, targets)
  expectEqual('the machine that was forked', await listed(first), before)
  // It was stopped and started again where its state cannot be copied while it runs.
  await bench.ready(first.vmId)
  await script(first.vmId, 'echo later > "$HOME/state"; sync')
  const state = `forked\n${first.vmId}`
  await expectForks(bench, forks, state)
  for (const { vmId } of forks) await script(vmId, 'echo "$0" > "$HOME/state"; sync')
  expectEqual('the state of the machine that was forked', await script(first.vmId, 'cat "$HOME/state"'), 'later')
}

const forkCheckpoint = async (bench: Bench, fork: Fork): Promise<void> => {
  const { provider, first } = bench
  await provider.deleteVm(fork.vmId)
  await provider.fork?.(first.vmId, 'another', [await targetOf(bench, fork)])
  await expectForks(bench, [fork], `after\n${first.vmId}`)
}

const failingFork = async (bench: Bench, fork: Fork): Promise<void> => {
  const { provider, first, listed } = bench
  const targets = [await targetOf(bench, fork)]
  const unknown = () => provider.fork?.(first.vmId, 'nowhere', targets)
  await expectFailure('a fork of a checkpoint that does not exist', unknown, 'no-such-checkpoint')
  expectEqual('what a fork that failed left', await listed(fork), undefined)
}

/** The machine has the checkpoint `another`. Room for forks is where machines run side by side. */
export const forks = async (bench: Bench): Promise<void> => {
  const { provider, machines, newMachine, first, script } = bench
  const forkOf = (n: number): Fork => {
    const ticket = attemptKey(first.ticket, n)
    return { ticket, vmId: newMachine(ticket) }
  }
  const made = machines.map((_, n) => forkOf(n + 1)).slice(0, 2)
  const unmade = forkOf(9)
  try {
    const [one] = made
    await forkPresent(bench, made)
    if (one !== undefined) await forkCheckpoint(bench, one)
    await failingFork(bench, unmade)
    // As the checkpoint has it, and as what is tried next expects it.
    await script(first.vmId, 'echo after > "$HOME/state"; sync')
  } finally {
    for (const { vmId } of [...made, unmade]) await provider.deleteVm(vmId)
  }
}
