/** Whether machines are isolated here, and if not, why and what to do. Changes nothing. */
import { VM_ID } from '../../src/domain.ts'
import type { IsolationReport } from '../provider.ts'
import { bridgeCallsIptables } from './addresses.ts'
import { type Context, isOurs } from './context.ts'
import { describeRanges } from './filter.ts'
import { hasNoFilters, type Isolator, isolatorCommands, readIsolator } from './isolation.ts'
import { parseMarks, readMark } from './marks.ts'
import { parseLeases, parseStates, parseVersions, versionNumber } from './parse.ts'
import { readProof } from './proof.ts'
import { isSession, type KvmSettings } from './settings.ts'
import { thisSystem } from './systems.ts'
import { type Answer, inBatches } from './virsh.ts'
import { areRulesGone, runningOnNetwork } from './watch.ts'

/** `<port isolated='yes'/>` (libvirt's NEWS). */
const ISOLATED_PORTS_SINCE = 6.01
const SYSCTL = 'net.bridge.bridge-nf-call-iptables'
const PERSIST = `echo '${SYSCTL} = 1' | sudo tee /etc/sysctl.d/90-agent-swarm.conf`

const not = (reason: string, remedy: string | null): IsolationReport => ({ isolated: false, reason, remedy })

const inSession = ({ kvmSessionNet }: KvmSettings): IsolationReport =>
  kvmSessionNet === 'closed'
    ? { isolated: true, note: 'Machines reach nothing, the internet included (AGENT_SWARM_KVM_SESSION_NET).' }
    : not(
        "a machine in a user's own libvirt reaches everything that this host reaches, and what listens on its loopback",
        "Use the system's libvirt (AGENT_SWARM_KVM_URI=qemu:///system), or close the network: AGENT_SWARM_KVM_SESSION_NET=closed",
      )

/** Why nothing can isolate machines here; null when something can. */
const whyImpossible = ({ settings }: Context, { stdout, stderr }: Answer, isolator: Isolator | null) => {
  const { libvirt } = parseVersions(stdout)
  if (versionNumber(libvirt) < ISOLATED_PORTS_SINCE)
    return not(`that needs libvirt 6.1 or newer, and this is ${libvirt || 'unknown'}`, 'Install a newer libvirt.')
  if (hasNoFilters(stderr))
    return not("libvirt's network filters (nwfilter) are not there", `${thisSystem().startFilters}`)
  // A network that is missing is made by the first machine.
  if (isolator === null && /<network[\s>]/.test(stdout))
    return not(
      `agent-swarm did not make the network ${settings.kvmNetwork}, and changes nothing in it`,
      'Use a network of its own: leave AGENT_SWARM_KVM_NETWORK out, and create the machines again.',
    )
  return null
}

/** Whether anything on the host keeps the filter from working. Null: nothing does. `unseen`: nobody could see. */
const whyNotInForce = async (
  context: Context,
  answer: Answer,
  isolator: Isolator,
): Promise<IsolationReport | 'unseen' | null> => {
  const { from, to } = isolator.surroundings.ephemeral
  if (!bridgeCallsIptables())
    return not(
      `${SYSCTL} is 0, so machines reach the ports ${from} to ${to} of this host`,
      `sudo sysctl -w ${SYSCTL}=1. To keep it: ${PERSIST}`,
    )
  const { machines, addresses } = await lookAtMachines(context, answer)
  const running = runningOnNetwork(machines)
  const unbound = running.filter(({ mark }) => mark.ip === null).map(({ mark }) => mark.vmId)
  if (unbound.length > 0)
    return not(`${unbound.slice(0, 5).join(', ')} began without it`, 'agent-swarm list isolates running machines.')
  const areGone = await areRulesGone(isolator, running, addresses)
  if (areGone === true)
    return not(
      'somebody removed the rules of libvirt from the firewall of this host',
      `agent-swarm list writes those of machines again. The others, for example of the internet, come back with: ${thisSystem().restart}`,
    )
  const proof = readProof(context)
  if (proof !== null && proof.reached.length > 0)
    return not(
      `at ${proof.at}, a machine reached ${proof.reached.join(' and ')} of this host`,
      'Compare docs/kvm.md, Isolation. Then prove it again: agent-swarm init-base NAME --from …',
    )
  return areGone === null ? 'unseen' : null
}

const lookAtMachines = async (context: Context, { stdout }: Answer) => {
  const states = parseStates(stdout)
  const ids = [...states.keys()].filter(name => VM_ID.test(name))
  const answers = await Promise.all(inBatches(ids).map(batch => context.virsh.ask(batch.map(readMark))))
  const machines = answers
    .flatMap(answer => parseMarks(answer.stdout))
    .flatMap(mark => {
      const state = states.get(mark.vmId)
      return state === undefined || !isOurs(context, mark) ? [] : [{ mark, ...state }]
    })
  return { machines, addresses: parseLeases(stdout) }
}

export const isolationReport = async (context: Context): Promise<IsolationReport> => {
  const { virsh, settings } = context
  if (isSession(settings)) return inSession(settings)
  const answer = await virsh.ask([
    ['version', '--daemon'],
    ['domstats', '--state', '--nowait'],
    ...isolatorCommands(context),
  ])
  const isolator = readIsolator(context, answer)
  const impossible = whyImpossible(context, answer, isolator)
  if (impossible !== null) return impossible
  const broken = isolator === null ? null : await whyNotInForce(context, answer, isolator)
  if (broken !== null && broken !== 'unseen') return broken
  const open = isolator?.surroundings.allowed ?? []
  const opened = open.length === 0 ? 'private networks are closed' : `of private networks, ${describeRanges(open)}`
  const proof = readProof(context)
  return {
    isolated: true,
    note: `Machines reach the internet; ${opened}. To open a range: AGENT_SWARM_KVM_ALLOW=10.1.0.0/16${proof === null ? '' : ` (proven ${proof.at})`}.${broken === 'unseen' ? ' Whether the firewall of this host still has the rules is unknown: no running machine answered.' : ''}`,
  }
}
