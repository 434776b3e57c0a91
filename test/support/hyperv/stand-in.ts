/** Windows as far as machines of Hyper-V need it: programs on PATH, a PowerShell with the cmdlets of a small Hyper-V, and its state. */
import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isLong } from '../samples.ts'
import { until } from '../wait.ts'
import { writeModules } from './stubs.ts'

const findPwsh = (): string | null => {
  const given = process.env.AGENT_SWARM_TEST_PWSH
  if (given !== undefined && given !== '') return existsSync(given) ? given : null
  const folder = (process.env.PATH ?? '').split(':').find(each => existsSync(join(each, 'pwsh')))
  return folder === undefined ? null : join(folder, 'pwsh')
}
const pwsh = findPwsh()
/** Null: the tests can run. */
export const noPwsh: string | null =
  pwsh === null
    ? 'PowerShell 7 is not installed: dotnet tool install --tool-path DIR PowerShell --version 7.6.9, and AGENT_SWARM_TEST_PWSH=DIR/pwsh'
    : null
if (noPwsh !== null && isLong) process.stderr.write(`Left out: Hyper-V. ${noPwsh}\n`)

/** What a process of PowerShell gets besides PATH. */
const pwshEnvironment = (folder: string) => ({
  ...{ HOME: folder, PATH: process.env.PATH, TERM: 'dumb', NO_COLOR: '1' },
  ...{ POWERSHELL_TELEMETRY_OPTOUT: '1', POWERSHELL_UPDATECHECK: 'Off', DOTNET_CLI_TELEMETRY_OPTOUT: '1' },
})

export type StandInVm = {
  id: string
  name: string
  state: string
  /** The state that follows at this time; null: none. */
  next: string | null
  at: number
  notes: string
  path: string
  disk: string
  dvd: string | null
  hangs: boolean
  /** Of the guest's memory: it is another one after each start that is a boot. */
  boot: string | null
  checkpoints: string
  automatic: boolean
  stopAction: string
  startAction: string
  template: string
  dynamic: boolean
  cpus: number
  memory: number
  adapters: {
    mac: string
    switch: string
    spoofing: string
    dhcp: string
    router: string
    kvp: string | null
    acls: Record<string, unknown>[]
  }[]
}
type Fault = { id: string; category: string; message: string; code: number }
export type StandInState = {
  vms: StandInVm[]
  snapshots: { id: string; vm: string; name: string; state: string; at: number; config: StandInVm }[]
  vhds: Record<string, { content: string; parent: string | null; size: number }>
  merges: { vm: string; path: string }[]
  switches: { name: string; type: string }[]
  nats: { name: string; prefix: string }[]
  addresses: { address: string; bits: number; interface: string }[]
  neighbours: { address: string; mac: string }[]
  faults: Record<string, Fault>
  /** Milliseconds that a cmdlet takes before it does anything. */
  pauses: Record<string, number>
  /** The name of the machine that somebody removes before a cmdlet looks. */
  leaves: Record<string, string>
  /** The state after restoring a checkpoint with memory. */
  restoreLeaves: 'Saved' | 'Off' | 'Running'
  /** What guests report, after so many looks. */
  kvp: string | null
  kvpLooks: number
  unprivileged: boolean
  /** This user may not use Hyper-V, and lists nothing. */
  silent: boolean
  /** A differencing disk is made with its parent's size alone. */
  parentSizes: boolean
  /** An exported checkpoint has all disks of its chain, in place of a merged one. */
  exportsChains: boolean
  /** Disks that somebody gave every machine besides its own. */
  moreDisks: string[]
  /** A disk that is converted depends on the one of which it was made. */
  convertsToChains: boolean
  fullDisk: boolean
  /** Bytes of memory. */
  free: number
  /** Milliseconds. */
  slowness: number
  mergeMs: number
}

const INITIAL: StandInState = {
  ...{ vms: [], snapshots: [], vhds: {}, merges: [], nats: [], moreDisks: [], neighbours: [], faults: {}, pauses: {} },
  leaves: {},
  switches: [{ name: 'Default Switch', type: 'Internal' }],
  addresses: [
    { address: '127.0.0.1', bits: 8, interface: 'Loopback Pseudo-Interface 1' },
    { address: '10.20.30.40', bits: 24, interface: 'Ethernet' },
    { address: '172.30.5.1', bits: 20, interface: 'vEthernet (Default Switch)' },
  ],
  ...{
    restoreLeaves: 'Saved',
    kvp: null,
    kvpLooks: 0,
    unprivileged: false,
    silent: false,
    parentSizes: false,
    exportsChains: false,
    convertsToChains: false,
    fullDisk: false,
  },
  ...{ free: 16 * 1024 ** 3, slowness: 100, mergeMs: 400 },
}

/** The words that Windows PowerShell must get, and nothing else. PowerShell's own noise goes to stderr, as XML. */
const powershell = (root: string) => `#!/bin/bash
set -u
root='${root}'
printf '%s\\n' "\${*:1:6}" >>"$root/processes.log"
[ "\${*:1:6}" = '-NoLogo -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand' ] && [ $# = 7 ] || { echo 'unexpected words' >>"$root/violations"; exit 64; }
[ $(( \${#7} + 200 )) -lt 32767 ] || { echo 'the command line is too long' >>"$root/violations"; exit 1; }
[ -z "\${PSModulePath:-}" ] || { echo 'PSModulePath was passed on' >>"$root/violations"; exit 1; }
printf '#< CLIXML\\r\\n<Objs Version="1.1.0.1"><Obj S="progress"></Obj></Objs>' >&2
echo 'noise before the answer'
export HYPERV_STAND_IN="$root" PSModulePath="$root/modules" PSModuleAnalysisCachePath="$root/cache" HOME="$root"
export POWERSHELL_TELEMETRY_OPTOUT=1 POWERSHELL_UPDATECHECK=Off DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_TieredPGO=0
if [ -p "$root/requests" ] && [ ! -e "$root/before" ]; then
  file="$root/spool/$$"
  cat >"$file.in"
  printf '%s' "$7" >"$file.script"
  mkfifo "$file.out"
  echo $$ >"$root/requests"
  timeout 110 sed -u '/<\\/agent-swarm>$/q' <"$file.out"
  rm -f "$file".*
  exit 0
fi
[ ! -e "$root/before" ] || . "$root/before"
exec '${pwsh}' "$@"
`

/** Where a test is killed, the server ends by itself. */
const SERVER_SECONDS = '3600'

/** Starts the PowerShell that runs the scripts of all calls. Returns what ends it. */
const startServer = (root: string): (() => void) => {
  if (pwsh === null) return () => {}
  mkdirSync(join(root, 'spool'))
  execFileSync('/bin/sh', ['-c', 'mkfifo "$1"', 'sh', join(root, 'requests')])
  const folder = import.meta.dirname
  const words = ['-NoLogo', '-NoProfile', '-NonInteractive', '-File', join(folder, 'server.ps1')]
  const server = spawn('timeout', [SERVER_SECONDS, pwsh, ...words], {
    // pwsh is a process that starts another one: the group is ended.
    detached: true,
    env: {
      ...pwshEnvironment(root),
      ...{ HYPERV_STAND_IN: root, PSModulePath: join(root, 'modules'), PSModuleAnalysisCachePath: join(root, 'cache') },
      ...{ PATH: `${join(root, 'bin')}:/usr/bin:/bin`, SystemRoot: root, DOTNET_TieredPGO: '0' },
    },
    stdio: 'ignore',
  })
  server.unref()
  return () => {
    if (server.pid !== undefined) process.kill(-server.pid, 'SIGKILL')
  }
}

const WHOAMI = `#!/bin/sh
[ "$*" = '/user /fo csv /nh' ] || exit 1
echo '"pc\\anna","S-1-5-21-1-2-3-1001"'
`
const icacls = (root: string) => `#!/bin/sh
echo "icacls $*" >>'${root}/permissions'
echo 'processed file: 1'
[ ! -e '${root}/no-icacls' ]
`
/** What Windows holds as sparse has a file beside it, as qemu-img leaves it. */
const FSUTIL = `#!/bin/sh
[ "$1 $2 $4" = 'sparse setflag 0' ] || exit 1
rm -f "$3.sparse"
`
const qemuImg = (real: string) => `#!/bin/sh
'${real}' "$@" || exit $?
[ "$1" = convert ] || exit 0
for last in "$@"; do :; done
touch "$last.sparse"
`

/** `warm`: one process of PowerShell for all calls; without, each call is a process, as on Windows. `qemu`: the real qemu-img. */
export const openHypervStandIn = (
  more: Partial<StandInState> = {},
  { qemu = null, warm = true }: { qemu?: string | null; warm?: boolean } = {},
) => {
  const root = mkdtempSync(join(tmpdir(), 'hyperv-'))
  const at = (name: string) => join(root, name)
  for (const name of ['bin', 'content', 'merging']) mkdirSync(at(name))
  symlinkSync(at('bin'), at('System32'))
  writeModules(at('modules'))
  const program = (name: string, text: string) => {
    writeFileSync(at(`bin/${name}`), text)
    chmodSync(at(`bin/${name}`), 0o755)
  }
  program('powershell.exe', powershell(root))
  program('whoami.exe', WHOAMI)
  program('icacls.exe', icacls(root))
  program('fsutil.exe', FSUTIL)
  if (qemu !== null) program('qemu-img', qemuImg(qemu))
  const write = (state: StandInState) => writeFileSync(at('state.json'), JSON.stringify(state))
  write({ ...INITIAL, ...more })
  const endServer = warm ? startServer(root) : () => {}
  const state = (): StandInState => {
    const present: StandInState = JSON.parse(readFileSync(at('state.json'), 'utf8'))
    // States take time, and whoever looks sees them change.
    for (const vm of present.vms)
      if (vm.next !== null && Date.now() >= vm.at) Object.assign(vm, { state: vm.next, next: null })
    return present
  }
  const text = (name: string) => (existsSync(at(name)) ? readFileSync(at(name), 'utf8') : '')
  const requireVm = (name: string): StandInVm => {
    const vm = state().vms.find(each => each.name === name)
    if (vm === undefined) throw new Error(`the stand-in has no ${name}`)
    return vm
  }
  return {
    root,
    path: `${at('bin')}:/usr/bin:/bin`,
    /** For what runs there. */
    environment: { PATH: `${at('bin')}:/usr/bin:/bin`, SystemRoot: root },
    state,
    /** Changes what Hyper-V has, as if somebody else did it. No cmdlet may run meanwhile. */
    change: (work: (state: StandInState) => void) => {
      const present = state()
      work(present)
      write(present)
    },
    /** Takes one rule from each port of the machine, as somebody does in PowerShell. Returns how many there were. */
    loseRule: (vmId: string, direction: 'Inbound' | 'Outbound', remote: string): number => {
      const present = state()
      const adapters = present.vms.filter(({ name }) => name === vmId).flatMap(vm => vm.adapters)
      const before = adapters.flatMap(({ acls }) => acls).length
      for (const adapter of adapters)
        adapter.acls = adapter.acls.filter(rule => rule.Direction !== direction || rule.RemoteIPAddress !== remote)
      write(present)
      return before - adapters.flatMap(({ acls }) => acls).length
    },
    vm: requireVm,
    /** The guest's files: the content of the disk that its machine has now. */
    contentOf: (name: string): string => {
      const present = state()
      const disk = present.vms.find(each => each.name === name)?.disk ?? ''
      return at(`content/${present.vhds[disk]?.content}`)
    },
    /** How often PowerShell was started. */
    processes: () => text('processes.log').split('\n').filter(Boolean).length,
    /** The cmdlets that ran, with their parameters' names. */
    cmdlets: () => text('cmdlets.log').split('\n').filter(Boolean),
    permissions: () => text('permissions'),
    /** Merges that go on. */
    merging: () => readdirSync(at('merging')).length,
    /** Waits until no script runs any more, also of callers that were killed. */
    idle: () => until('the scripts', () => readdirSync(at('spool')).length === 0),
    /** What was done that Windows does not forgive, when Hyper-V has nothing to do any more. */
    violations: async (): Promise<string> => {
      await until('the merges of Hyper-V', () => readdirSync(at('merging')).length === 0)
      return text('violations')
    },
    write: (name: string, content: string) => writeFileSync(at(name), content),
    remove: (name: string) => rmSync(at(name), { force: true }),
    close: () => {
      endServer()
      rmSync(root, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}
export type HypervStandIn = ReturnType<typeof openHypervStandIn>

/** Runs a script of PowerShell 7 with data on stdin, and returns what it prints. */
export const runPwsh = (file: string, input: unknown): unknown => {
  if (pwsh === null) throw new Error(noPwsh ?? '')
  const output = execFileSync(pwsh, ['-NoLogo', '-NoProfile', '-NonInteractive', '-File', file], {
    input: JSON.stringify(input),
    env: pwshEnvironment(tmpdir()),
    encoding: 'utf8',
  })
  return JSON.parse(output)
}
