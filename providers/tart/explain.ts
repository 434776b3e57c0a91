/**
 * What Tart prints, as failure kinds and in plain words. Texts of Tart 2.35.0 (VMStorageHelper.swift, Run.swift, and
 * swift-argument-parser's MessageInfo.swift). Errors of macOS' frameworks are in the system's language, so whether something
 * exists or runs is asked of the list instead.
 */
import { explainQemuImg as explainWith } from '../../base-image/qemu-img.ts'
import { explainBy } from '../../src/errors.ts'

export const INSTALL_TART = 'Install Tart: brew install openai/tools/tart'
const FREE_DISK_SPACE = 'Free disk space there, or delete machines that are not needed: agent-swarm list'
const UNLOCK = 'Log in once at the screen of this Mac, or run: security unlock-keychain'

export const explainTart = explainBy([
  // What sh says of a program that it does not find.
  [/tart: (?:command )?not found|No such file or directory: .*tart$/m, 'provider-missing', INSTALL_TART],
  [/the specified VM "[^"]*" does not exist|failed to rename a non-existent local VM/, 'no-such-vm'],
  [/VM "[^"]*" is not running/, 'not-running'],
  [/VM "[^"]*" is already running!/, 'already-running'],
  [/VM "[^"]*" is running/, 'busy', 'Stop it first: tart stop NAME'],
  [/target VM \S+ already exists|VM "[^"]*" already exists/, 'already-exists'],
  [/no IP address found/, 'no-address-yet'],
  // The file was being written at that moment.
  [/DHCPD? leases file|LeasesError/i, 'no-address-yet'],
  [
    /new disk size of (.+) should be larger than the current disk size of (.+)/i,
    'usage',
    'Give machines a larger disk: AGENT_SWARM_DISK_GIB.',
    ([, asked, image]) => `its disk of ${asked} is smaller than that of the image, ${image}`,
  ],
  [/at minimum \(requested \d+\)/, 'usage', 'Ask for more: AGENT_SWARM_CPUS, AGENT_SWARM_MEMORY_MIB.'],
  [
    /VM is missing (?:some of its )?files/,
    'damaged',
    'Somebody removed a part of it. Look at its folder in TART_HOME/vms.',
  ],
  [
    /disk (.+) seems to be already in use/,
    'busy',
    ([, path]) => `Another program uses the disk. If Finder has opened it: hdiutil detach, or eject it (${path}).`,
  ],
  [
    /The number of VMs exceeds the system limit/,
    'capacity',
    'Stop another VM of this Mac: agent-swarm list, tart list. macOS runs two macOS guests at most.',
  ],
  [
    /SecKeyCreateRandomKey_ios failed|Failed to generate keypair|Interaction is not allowed with the Security Server/,
    'permission',
    UNLOCK,
    'macOS 15 starts a VM only while the login keychain is unlocked',
  ],
  [
    /unsuccessful status -25308/,
    'permission',
    UNLOCK,
    "the login keychain, which has the registry's password, is locked",
  ],
  [
    /Softnet/i,
    'permission',
    'Give Softnet its rights once, in a terminal: tart run NAME --net-softnet. Or reinstall it: brew reinstall softnet',
  ],
  [
    /You can only suspend macOS VMs/,
    'needs-stop',
    'Somebody suspended it, which a Linux guest does not survive. Drop that state: tart stop NAME',
  ],
  [/No space left on device|not enough (?:disk )?space/i, 'disk-full', FREE_DISK_SPACE, 'the disk is full'],
  [
    /^Error: (?:Unknown option|Unexpected argument|Missing expected argument)/m,
    'unsupported',
    'Update Tart: brew upgrade openai/tools/tart. docs/tart.md names the version that this one is written for.',
  ],
])

export const NAME_AN_IMAGE =
  'Name a cloud image for arm64, as qcow2 or raw, that boots with EFI and has cloud-init: --from FILE'

export const explainQemuImg = explainWith(NAME_AN_IMAGE, FREE_DISK_SPACE)
