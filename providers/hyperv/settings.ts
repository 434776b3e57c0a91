import { check, pipe, string } from 'valibot'
import { listOf, pattern, type Setting, type SettingValues } from '../../src/schema/forms.ts'
import { openedRange, parseAddress } from '../ipv4.ts'

/** Windows' own switch, with DHCP. Its name is the same in every language. */
export const DEFAULT_SWITCH = 'Default Switch'

const ADDRESS_MESSAGE = 'is not an IPv4 address'
const address = pipe(
  string(ADDRESS_MESSAGE),
  check(text => parseAddress(text) !== null, ADDRESS_MESSAGE),
)

export const hypervSettings = {
  hypervSwitch: {
    env: 'AGENT_SWARM_HYPERV_SWITCH',
    form: pattern(
      /^[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}$/,
      'is not a name of a switch (letters, digits, spaces, and _ . -)',
    ),
    default: 'agent-swarm',
    says: `The virtual switch of the machines. It is created if missing, with NAT, which takes an Administrator once. \`${DEFAULT_SWITCH}\` is Windows' own (docs/hyperv.md).`,
    example: DEFAULT_SWITCH,
  },
  hypervNameservers: {
    env: 'AGENT_SWARM_HYPERV_NAMESERVERS',
    form: listOf(address),
    default: ['1.1.1.1', '9.9.9.9'],
    says: 'The name servers of the machines: NAT on Windows has none of its own. A private address here is opened to them for DNS.',
    example: ['10.0.0.53'],
  },
  hypervAllow: {
    env: 'AGENT_SWARM_HYPERV_ALLOW',
    form: listOf(openedRange),
    default: [],
    says: 'Private IPv4 ranges that machines may reach; all others are closed to them (docs/hyperv.md, Isolation). The addresses of the host stay closed.',
    example: ['10.1.0.0/16'],
  },
} as const satisfies Record<string, Setting>

export type HypervSettings = SettingValues<typeof hypervSettings>
