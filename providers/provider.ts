/**
 * A hypervisor behind one interface. A provider is a function from its tools to a plain object. It keeps no state in memory from
 * one call to the next, so that two processes may use it at once; calls that look at the same moment may share one look. Calls
 * for one machine never overlap (the caller holds its lock); calls for different machines do.
 *
 * `id` is the machine's vmId (`as-drop-2100-1a2b3c4d`). A mark on the machine holds its vmId, its ticket (or the key of an attempt) or none, and the id
 * of the AGENT_SWARM_HOME that made it. Every method MUST check the mark before it changes a machine, and fail with
 * `not-ours` when there is none, or when it names another home. A mark without a home was made by an earlier version: when
 * `Tools.knows(vmId)`, the machine is ours and the provider adds our home's id to its mark at the first look; otherwise it is
 * not ours. The runner has nothing to do for this but to give `knows`.
 *
 * Failures are those of src/errors.ts.
 */

import type { SetupOptions } from '../base-image/scripts.ts'
import type { Check } from '../src/check.ts'
import type { CheckpointName, EnvironmentKey, ProviderName } from '../src/domain.ts'
import type { Run, RunOptions } from '../src/exec.ts'
import type { Interruption, SshAddress } from '../src/schema/environment.ts'
import type { Setting } from '../src/schema/forms.ts'
import type { BaseManifest, MachinePrice, VmUsage } from '../src/schema/machine.ts'

export type { Interruption } from '../src/schema/environment.ts'
export type { BaseManifest, MachinePrice, VmUsage } from '../src/schema/machine.ts'

/** What the configuration, the docs and the bot know of a provider without opening it. */
export type ProviderDescription<Settings = Readonly<Record<string, unknown>>> = {
  name: ProviderName
  /** Its name for people. */
  label: string
  /** The system of the hosts that it is for. Null: any. It is never asked on others. */
  platform: 'linux' | 'darwin' | 'win32' | null
  /** Whether it is chosen when none is configured and it is available. */
  detected: boolean
  /** What its host must have, for people: `libvirt with QEMU`. Null: nothing. */
  needs: string | null
  /** Whether it makes checkpoints without stopping the guest. MUST agree with `Provider.liveCheckpoints`. */
  live: boolean
  /** Its settings, by their name in config.yaml. */
  settings: Readonly<Record<string, Setting>>
  /** The environment variables that its programs may see besides the general ones of src/exec.ts. */
  environment: readonly string[]
  /** Loads and opens it. Null: not part of this version. */
  open: Open<Settings> | null
}
/** A method's type, so that a description with settings of its own fits into the table. */
type Open<Settings> = { open(tools: Tools<Settings>): Promise<Provider> }['open']

export type Tools<Settings> = {
  /** Runs programs with the environment variables of the provider's description. */
  run: Run
  /** AGENT_SWARM_HOME. The provider's own files lie in `home/<name>/`. */
  home: string
  /** The home's id, which goes into every mark. */
  homeId: string
  /** Whether this home's registry has the machine. Decides whose a machine without a home's id is. */
  knows(vmId: string): boolean
  /** The values of the description's settings. */
  settings: Settings
}

export type VmStatus = 'running' | 'stopped' | 'creating'
export type VmInfo = {
  vmId: string
  /** Null: the machine has no ticket yet, or builds an image. */
  ticket: EnvironmentKey | null
  ip: string | null
  status: VmStatus
  /** The hypervisor's reason why a running machine is paused. */
  paused?: string
  /** With `paused`. */
  pauseCause?: PauseCause
  /** A stopped machine whose memory is saved: `startVm` goes on with it. */
  saved?: true
  /** The hypervisor stops it by itself, or has: it alone starts it again. */
  interruption?: Interruption
}
/** No room for what it writes; an agent-swarm operation died; or a person paused it, and only a person may end that. */
export type PauseCause = 'disk-full' | 'interrupted' | 'asked'
/** What is left on the host of a machine that does not exist. `hasDisk`: it may hold somebody's work. */
export type Leftover = { vmId: string; hasDisk: boolean; bytes: number }
/** A machine of another AGENT_SWARM_HOME. `homeId` null: its mark names none, and our registry does not know it. */
export type ForeignMachine = { vmId: string; ticket: EnvironmentKey | null; homeId: string | null }
export type SshInfo = SshAddress

export type CreateOptions = {
  /** Chosen and journalled by the caller. */
  vmId: string
  cpus: number
  memoryMiB: number
  diskGiB: number
  /** The key that may log in: one line of authorized_keys. */
  publicKey: string
  /** The machine's host key, made and pinned by the caller: OpenSSH private key (PEM) and public line. */
  hostKey: { privateKey: string; publicKey: string }
}

/** What the host of the machines has, and what is available for new ones. */
export type Capacity = {
  cpus: number
  memoryBytes: { total: number; available: number }
  diskBytes: { total: number; available: number }
}

/**
 * Whether guests reach no other guest, no port of the host but DHCP and DNS, no private network that the operator did not open
 * and no metadata address. `note`: what they do reach, for people who miss something. Sentences without a full stop in `reason`.
 */
export type IsolationReport =
  | { isolated: true; note: string }
  | { isolated: false; reason: string; remedy: string | null }

/** A machine that a fork makes. `ticket` null: it has none yet. */
export type ForkTarget = Pick<CreateOptions, 'vmId' | 'publicKey' | 'hostKey'> & { ticket: EnvironmentKey | null }

/** `cold`: brings the disk back and not the memory; the machine is stopped afterwards. */
export type RestoreOptions = { cold?: boolean }

export type StartOptions = { cold?: boolean }

/** Called as `createVm` reaches `disk`, `seed`, `define`. */
type OnPhase = (phase: string) => void

export type Provider = {
  name: ProviderName
  /**
   * Whether a machine could be made here, apart from its base image; if not, why and what to do. Changes nothing, takes at most
   * one outside command, and answers within seconds.
   */
  available(): Promise<{ available: true } | { available: false; reason: string; remedy: string | null }>
  /**
   * Makes the machine and its mark. It may be running or stopped afterwards; the caller starts it. Idempotent for one vmId:
   * completes or replaces what an interrupted call left. On failure it leaves nothing behind. Fails with `no-such-image`
   * when the base image does not exist.
   */
  createVm(ticket: EnvironmentKey | null, baseImage: string, options: CreateOptions, onPhase?: OnPhase): Promise<VmInfo>
  /**
   * Idempotent. Returns when the hypervisor runs the machine; the guest may not answer yet. A paused or suspended machine goes
   * on; `disk-full` when it would pause again at once. One whose memory is saved goes on with it, and keeps its present mark;
   * `cold`: boots it, and gives that memory up.
   */
  startVm(id: string, options?: StartOptions): Promise<void>
  /** Shuts the guest down, and powers it off after a grace period, or when it is paused and does not go on. Idempotent. */
  stopVm(id: string): Promise<void>
  /** Removes the machine, its disks and its checkpoints. Idempotent: does nothing when there is no such machine. */
  deleteVm(id: string): Promise<void>
  /** The present address of its SSH server. `no-address-yet` while it has none; the caller retries. */
  sshInfo(id: string): Promise<SshInfo>
  /**
   * Makes a checkpoint of the machine, running or stopped. Not idempotent: `already-exists` when the name is taken, because
   * the state that it names differs. `sizeBytes` is the disk space that making it took; null when unknown. `livePauseMs`: how long
   * a running guest stood still for it, by the hypervisor's events; absent when unknown, or when the guest did not run.
   */
  checkpoint(id: string, name: CheckpointName): Promise<{ sizeBytes: number | null; livePauseMs?: number }>
  /**
   * Restores a checkpoint: the machine is then as it was at the capture (running with its memory, or stopped), but keeps its
   * present mark. Idempotent. After an interrupted call the mark may be that of the capture: the caller assigns the ticket again.
   */
  restore(id: string, name: CheckpointName, options?: RestoreOptions): Promise<void>
  /** Oldest first. */
  listCheckpoints(id: string): Promise<CheckpointName[]>
  /** Fails with `no-such-vm` when there is no such machine. */
  status(id: string): Promise<VmStatus>
  /** All our machines, with a number of outside commands that does not grow with them. */
  listVms(): Promise<VmInfo[]>

  /** Its machines are folders of this host: what runs in one runs on the owner's own system, and nothing confines it. */
  ownSystem?: true

  // Optional members: their presence is the capability.
  /** Gives the machine a ticket, or another one. Idempotent. */
  assign?(id: string, ticket: EnvironmentKey): Promise<void>
  /**
   * Why machines of any home ended that do not exist any more, by vmId, as long as the hypervisor knows: phrases without a full
   * stop. Asked together with `listVms`, it takes no further command.
   */
  endings?(): Promise<Map<string, string>>
  /** Whether the processors of its guests are emulated by software, which is several times slower. */
  emulated?(): Promise<boolean>
  /** The machines of other homes: reported, and never touched. Constant number of commands. */
  listForeign?(): Promise<ForeignMachine[]>
  /** A checkpoint of a running guest never stops it (it may pause). */
  liveCheckpoints?: true
  /** A checkpoint of a running guest holds its memory: a restore resumes it. */
  memoryCheckpoints?: true
  /** `restore` takes `cold`. */
  coldRestores?: true
  /** Whether its guests are isolated here and now. Changes nothing. Without it, they are not. */
  isolated?(): Promise<IsolationReport>
  /**
   * What this host lacks for its machines, or has: tools, versions, permissions, acceleration proven by a boot, network,
   * storage, snapshots with this firmware, clock, room. The first finding names the tools with their versions, `tart 2.35.0`.
   * Changes nothing that stays. `signal` ends it.
   */
  diagnose?(signal: AbortSignal): Promise<Diagnosis[]>
  /**
   * Writes the memory of a running machine to the disk and turns it off; `start` goes on with it. Idempotent: does nothing when
   * it is stopped. A failure leaves it running; `disk-full` when its memory does not fit. `listVms` tells which are `saved`.
   */
  save?(id: string): Promise<void>
  /**
   * Lets a running machine stand still, with its memory where it is; `startVm` goes on with it within a fraction of a second.
   * Idempotent. `listVms` tells it as paused, with the cause `asked`. `not-running` when it is stopped.
   */
  suspend?(id: string): Promise<void>
  /**
   * Makes machines of a checkpoint of machine `id`, or (null) of its present state: all of one moment. Each has an identity of its
   * own (vmId, mark, host key, machine-id, MAC, address, host name, random numbers, clock) before it reaches the network, and
   * nothing of the source's is ever seen there. The source stays as it is. With `memoryForks` and memory in that state they run
   * when this returns; otherwise they get their identity as they boot: they are stopped, or boot already where a hypervisor makes no
   * machine without a boot, as after `createVm`. The caller starts them. Idempotent for their vmIds: what an interrupted call left
   * of them is made anew. On failure it leaves none of them.
   */
  fork?(id: string, checkpoint: CheckpointName | null, targets: readonly ForkTarget[]): Promise<void>
  /** A fork goes on with the memory of its source. */
  memoryForks?: true
  /**
   * Idempotent. Without `id`, when a runner starts: ends what processes that died left in running machines, and `listVms` does not
   * show. With `id`, when an operation on that machine has died: also removes files of it that nothing needs, unless the hypervisor
   * still works on it. The caller is alone with the machine.
   */
  settle?(id?: string): Promise<void>
  /**
   * The versions of the programs that write and read the memory of its machines: a memory that others wrote may not come back. At
   * most one outside command.
   */
  versions?(): Promise<string>
  /** Idempotent. */
  deleteCheckpoint?(id: string, name: CheckpointName): Promise<void>
  /** Whether a machine that does not exist any more left its disk, which may hold somebody's work. */
  hasLeftDisk?(id: string): Promise<boolean>
  /** What machines of any home left that do not exist any more. Constant number of commands. */
  leftovers?(): Promise<Leftover[]>
  /**
   * Makes a machine again, stopped, from the disk that it left, with the same vmId and a mark of this home. The guest keeps its
   * host key and its login key where enough of it is left, and else takes those of `options`. Returns what is gone of it, as a
   * sentence without a full stop; null when the disk is whole, or the machine exists. Idempotent. Fails with `no-such-vm` when no
   * disk is left.
   */
  recoverVm?(id: string, ticket: EnvironmentKey | null, options: CreateOptions): Promise<string | null>
  /** All our machines, by vmId, with a constant number of commands. */
  usage?(): Promise<Map<string, VmUsage>>
  /** What our machines cost while they run, by vmId, with a constant number of commands. Absent: they cost nothing of their own. */
  prices?(): Promise<Map<string, MachinePrice>>
  /** The host where the machines are, which may not be this one. Constant number of commands. */
  capacity?(): Promise<Capacity>
  /**
   * The last lines on the guest's console: at most 20, of at most 200 characters, without control characters, since a guest's
   * output is hostile. Empty when there are none.
   */
  consoleTail?(id: string): Promise<string[]>
  /** The names of the base images. */
  listBaseImages?(): Promise<string[]>
  /** The base images with their manifests, and what uses them. */
  describeBaseImages?(): Promise<BaseImage[]>
  /** What a build may begin with besides files: images that the platform itself has, as their names are written. */
  imageReferences?: { form: RegExp; example: string }
  /** Builds, seals and proves a base image; never overwrites one. A failed build leaves no image and no machine behind. */
  buildBase?(request: BuildBase): Promise<BaseManifest>
  /**
   * Takes a base image that was built so elsewhere from a registry of containers (OCI), and proves it. As `buildBase`, it never
   * overwrites one, and a failure leaves nothing behind.
   */
  takeBase?(request: TakeBase): Promise<BaseManifest>
  /** The cloud image that a build begins with when nobody names one. */
  cloudImage?: CloudImage
  /** With `buildBase`: what `init-base` begins with here, for messages. */
  beginning?: ImageBeginning
  /**
   * Deletes an image, or what a killed build left of one. `refused` while a machine or a checkpoint of any home depends on it,
   * `busy` while it is being built, `no-such-image` when nothing of it is there.
   */
  deleteBaseImage?(name: string): Promise<void>
  /**
   * Runs a shell script in a guest that is not reached over SSH. A guest whose files do not begin at `/` names their folder in
   * AGENT_SWARM_GUEST_ROOTS.
   */
  runInGuest?(
    id: string,
    script: string,
    options?: Pick<RunOptions, 'deadline' | 'signal' | 'into' | 'maxOutput'>,
  ): Promise<{ stdout: string; stderr: string; exitCode: number }>
  /** With `runInGuest`: the program that opens a shell in the guest, or runs one command line there (`command` null: a shell). */
  shellInGuest?(
    id: string,
    command: string | null,
  ): Promise<{ program: string; argv: string[]; env: Record<string, string> }>
}

/** `error`: machines will not work. `remedy`: what to do, a command to paste where one does it. */
export type Diagnosis = Omit<Check, 'subject'>

/** A base image. */
export type BaseImage = {
  name: string
  /** Null: it cannot be read. */
  manifest: BaseManifest | null
  /** The vmIds of machines of any home that depend on it, also of machines that exist only as a disk. */
  machines: string[]
}
/** What `--from` names first (null: it is left out), and in words what else it can name. */
export type ImageBeginning = { from: string | null; or: string }
/** Where a vendor publishes an image. Both addresses are https. */
export type CloudImage = {
  label: string
  url: string
  /** A file of the same server, as sha256sum writes it, that names the image. */
  checksums: string
}

export type BuildBase = {
  /** The image's name. */
  name: string
  /** What goes into it. */
  setup: SetupOptions
  /** A cloud image on disk, an image of the platform, or the recipe that makes one of the system's own packages. */
  from: BaseSource
  /** Chooses and journals the vmId (`newVmId('base', …)`) of a machine without a ticket; called before it is made. */
  newMachine(): string
  onPhase: OnPhase
  /** Cancels the build, which then removes what it made. */
  signal: AbortSignal
  /** To the machine that becomes the image. */
  guest: GuestAccess
  /** To the one that proves it, which has another host key. */
  proofGuest: GuestAccess
}
/** `reference`: `ghcr.io/acme/base:1`. `setup.profile` is what the image is proven to have; the rest of `setup` is not used. */
export type TakeBase = Omit<BuildBase, 'from'> & { reference: string }
/**
 * `open` makes the file ready, which may take a download: it is called once, when nothing else keeps the build from beginning.
 * `source`: what the manifest calls the file.
 */
export type BaseSource =
  | { kind: 'file'; open(): Promise<{ path: string; source: string }> }
  | { kind: 'reference'; reference: string }
  | { kind: 'debian-packages' }
/** How a build reaches its machines. Given by the caller, so that providers need no SSH of their own. */
export type GuestAccess = {
  publicKey: string
  hostKey: { privateKey: string; publicKey: string }
  /**
   * Runs `script` as root once SSH answers with the pinned key, and calls `onLine` with each line of its output.
   * `guest-unreachable` after `deadline` milliseconds; how the script ends is its caller's matter.
   */
  run(
    ssh: SshInfo,
    script: string,
    options: Pick<RunOptions, 'deadline' | 'onLine'> & { deadline: number },
  ): Promise<GuestAnswer>
}
type GuestAnswer = { stdout: string; stderr: string; exitCode: number }
