/** What the promises of a provider are tried on: the provider, and throw-away machines of its own. */
import { randomBytes } from 'node:crypto'
import type { CreateOptions, Provider, ProviderDescription, VmInfo } from '../../providers/provider.ts'
import type { EnvironmentKey, Ticket } from '../domain.ts'

export type BenchTools = {
  provider: Provider
  /** The same hypervisor, opened for another AGENT_SWARM_HOME, whose registry knows no machine. */
  otherHome: Provider
  baseImage: string
  /** Chooses the vmId of a machine that is made afterwards, and journals it where a process may die. */
  newMachine(ticket: EnvironmentKey): string
  /** The size and keys of a machine. Called once for each. */
  options(vmId: string): Promise<CreateOptions>
  /** Waits until the guest answers. */
  ready(vmId: string): Promise<void>
  /** Runs a shell script in the guest and returns its output. */
  script(vmId: string, text: string): Promise<string>
}

type Machine = { ticket: EnvironmentKey; vmId: string }

export type Bench = BenchTools & {
  description: Described
  machines: readonly Machine[]
  /** Created without a ticket, where the provider can assign one later; used by most promises. */
  first: Machine
  /** Characters that nothing else on this host is named after. */
  random: string
  forAll(work: (machine: Machine) => Promise<unknown>): Promise<void>
  /** What the provider lists of it. */
  listed(machine: Machine): Promise<VmInfo | undefined>
  /** The ticket at the creation. */
  initialTicket(machine: Machine): Ticket | null
}
/** The name may have more words after it. */
type Described = Pick<ProviderDescription<never>, 'name' | 'live'>

/** The ticket of the n-th machine. No machine of a person's is found by it: what counts is the vmId. */
const ticketOf = (n: number): Ticket => `SELFTEST-${n}`

/** `count`: machines that run at the same time, at least one. */
export const openBench = (description: Described, tools: BenchTools, count: number): Bench => {
  const { provider, newMachine } = tools
  const machineOf = (n: number): Machine => ({ ticket: ticketOf(n), vmId: newMachine(ticketOf(n)) })
  const first = machineOf(1)
  const machines = [first, ...Array.from({ length: count - 1 }, (_, n) => machineOf(n + 2))]
  const options = new Map<string, Promise<CreateOptions>>()
  return {
    ...tools,
    description,
    machines,
    first,
    random: randomBytes(4).toString('hex'),
    // A machine's keys are those that it was created with.
    options: vmId => {
      const known = options.get(vmId) ?? tools.options(vmId)
      options.set(vmId, known)
      return known
    },
    forAll: async work => void (await Promise.all(machines.map(work))),
    listed: async ({ vmId }) => (await provider.listVms()).find(vm => vm.vmId === vmId),
    initialTicket: machine => (machine === first && provider.assign !== undefined ? null : machine.ticket),
  }
}
