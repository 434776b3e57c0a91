/**
 * A hypervisor behind one interface. A provider is a function from its tools to a plain object; it keeps no state of its
 * own in memory, so that two processes may use it at once. Calls for one ticket never overlap (the caller holds the
 * ticket's lock); calls for different tickets do.
 *
 * `id` is the machine's name (`as-drop-2100-1a2b3c4d`). Every method checks that the machine is ours before it changes
 * it, and fails with `not-ours` otherwise. Failures are those of errors.ts.
 */
import type { CheckpointName, ProviderName, Ticket } from '../src/domain.ts'
import type { Run, RunOptions } from '../src/exec.ts'

export type VmStatus = 'running' | 'stopped' | 'creating'
export type VmInfo = { vmId: string; ticket: Ticket; ip: string | null; status: VmStatus }
export type SshInfo = { host: string; port: number; user: string }

export type CreateOptions = {
  /** The machine's name, chosen and journalled by the caller. */
  vmId: string
  cpus: number
  memoryMiB: number
  diskGiB: number
  /** The key that may log in, as one line of authorized_keys. */
  publicKey: string
  /** The machine's own host key, made by the caller, which pins it: OpenSSH private key (PEM text) and public line. */
  hostKey: { privateKey: string; publicKey: string }
}

/** What one machine takes of its host. */
export type VmUsage = {
  /** On the host's disk, with its checkpoints. */
  diskBytes: number
  cpus: number
  /** What the machine may have. */
  memoryBytes: number
  /** What the host really gives it now, the hypervisor's own part included: 0 when stopped, null while it cannot be asked. */
  memoryUsedBytes: number | null
  /** Processor time since its start; null when it is stopped or cannot be asked. */
  cpuSeconds: number | null
}

/** What the host of the machines has, and what of it could be given to more of them. */
export type Capacity = {
  cpus: number
  memoryBytes: { total: number; available: number }
  diskBytes: { total: number; available: number }
}

/** What `createVm` tells while it works: `disk`, `seed`, `define`. */
type OnPhase = (phase: string) => void

export type Provider = {
  name: ProviderName
  /** Whether it can work here, and if not why not and what to do. Changes nothing. Done within a few seconds. */
  available(): Promise<{ available: true } | { available: false; reason: string; remedy: string | null }>
  /**
   * Makes the machine, marked as ours with its ticket. It may be running or stopped afterwards: the caller starts it.
   * Idempotent for one `vmId`: what an interrupted call left is completed or made anew. When it fails, it leaves
   * nothing behind. `no-such-image` when the base image is not there.
   */
  createVm(ticket: Ticket, baseImage: string, options: CreateOptions, onPhase?: OnPhase): Promise<VmInfo>
  /** Idempotent. Returns when the hypervisor runs it, which says nothing of the guest. */
  startVm(id: string): Promise<void>
  /** Shuts the guest down, and powers off when it does not answer within its grace. Idempotent. May take that grace long. */
  stopVm(id: string): Promise<void>
  /** Removes the machine, its disks and its checkpoints. Idempotent: one that is not there is done. */
  deleteVm(id: string): Promise<void>
  /** Where its SSH server is now. `no-address-yet` while it has no address; the caller asks again. */
  sshInfo(id: string): Promise<SshInfo>
  /**
   * Makes a checkpoint of the machine as it is, running or stopped. `already-exists` when the name is taken. `sizeBytes` is
   * what it added on the host's disk when it was made; null when that cannot be told.
   */
  checkpoint(id: string, name: CheckpointName): Promise<{ sizeBytes: number | null }>
  /** Brings a checkpoint back; the machine is then as it was at the capture (running with its memory, or stopped). Idempotent. */
  restore(id: string, name: CheckpointName): Promise<void>
  /** Oldest first. */
  listCheckpoints(id: string): Promise<CheckpointName[]>
  /** `no-such-vm` when there is none. */
  status(id: string): Promise<VmStatus>
  /** Every machine of ours, in a number of outside commands that does not grow with them. */
  listVms(): Promise<VmInfo[]>

  // Optional members: their presence is the capability.
  /** A checkpoint of a running guest never stops it (it may pause). */
  liveCheckpoints?: true
  /** A checkpoint of a running guest holds its memory: a restore goes on where it was. */
  memoryCheckpoints?: true
  /** Idempotent. */
  deleteCheckpoint?(id: string, name: CheckpointName): Promise<void>
  /** Of every machine of ours, by id. Constant number of commands. */
  usage?(): Promise<Map<string, VmUsage>>
  /** Of the host where the machines are, which need not be this one. Constant number of commands. */
  capacity?(): Promise<Capacity>
  /**
   * The last lines that the guest wrote on its console, at most 20 of at most 200 characters, without control characters: a
   * guest's output is hostile. Empty when it wrote nothing.
   */
  consoleTail?(id: string): Promise<string[]>
  /** Base images by name. */
  listBaseImages?(): Promise<string[]>
  /** Builds, proves and seals a base image. A failed build leaves no image behind. */
  buildBase?(request: BuildBase): Promise<BaseManifest>
  /**
   * Only where a guest is not reached over SSH: runs a shell script in it. A guest whose files do not begin at `/` names
   * their folder in AGENT_SWARM_GUEST_ROOTS.
   */
  runInGuest?(
    id: string,
    script: string,
    options?: Pick<RunOptions, 'deadline' | 'signal' | 'into'>,
  ): Promise<{ stdout: string; stderr: string; exitCode: number }>
  /** With `runInGuest`: the program that gives a person a shell in the guest, or runs one command line there (null: a shell). */
  shellInGuest?(
    id: string,
    command: string | null,
  ): Promise<{ program: string; argv: string[]; env: Record<string, string> }>
}

export type BuildBase = {
  /** The image's name. */
  name: string
  /** A cloud image on disk, or the recipe that makes one out of the system's own packages. */
  from: { kind: 'file'; path: string } | { kind: 'debian-packages' }
  onPhase: OnPhase
  /** Ends the build, which then cleans up. */
  signal: AbortSignal
  /** Injected so that the base room stays without SSH of its own: waits until the guest answers, then runs a script in it. */
  guest: GuestAccess
}
/** How a build reaches the machine that it boots to provision and prove the image. */
export type GuestAccess = {
  publicKey: string
  hostKey: { privateKey: string; publicKey: string }
  /** Runs `script` by `sudo sh -s` once SSH answers with the pinned key. Fails with `guest-unreachable` after `deadline` ms. */
  run(ssh: SshInfo, script: string, deadline: number): Promise<string>
}
export type BaseManifest = {
  name: string
  provider: ProviderName
  /** SHA-256 of the image file. */
  sha256: string
  source: string
  /** Packages with versions, as the guest listed them. */
  contents: string[]
  createdAt: string
  sizeBytes: number
}

/** What a provider is opened with. `home` is AGENT_SWARM_HOME: a provider's own files go under `home/<name>/`. */
export type Tools<Settings> = { run: Run; home: string; settings: Settings }
