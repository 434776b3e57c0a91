/** A virsh that answers as libvirt does, without a process. */
import { readFileSync } from 'node:fs'
import { openKvm } from '../../../providers/kvm/index.ts'
import { type KvmSettings, kvmSettings } from '../../../providers/kvm/settings.ts'
import type { CreateOptions, Provider, Tools } from '../../../providers/provider.ts'
import { explainBy, fail, isFailure } from '../../../src/errors.ts'
import type { Run } from '../../../src/exec.ts'

/** What virsh prints when its arguments contain `to`, or another program when its command line begins with it. With `stderr`, it also fails. */
export type Answer = { to: string; stdout?: string; stderr?: string }

export const VM = 'as-a-1-0000000a'
export const HOME_ID = '00112233445566ff'
export const options: CreateOptions = {
  vmId: VM,
  cpus: 1,
  memoryMiB: 512,
  diskGiB: 4,
  publicKey: 'ssh-ed25519 AAAA x',
  hostKey: { privateKey: 'p', publicKey: 'q' },
}
/** The machine's disk, of this many MiB. */
export const disk = (mebibytes: number): Answer => ({
  to: `vol-info --pool agent-swarm ${VM}.qcow2`,
  stdout: `Name:           ${VM}.qcow2\nType:           file\nAllocation:     ${mebibytes * 1024 ** 2} bytes`,
})

const defaults = Object.fromEntries(
  Object.entries(kvmSettings).map(([name, row]) => [name, row.default]),
) as unknown as KvmSettings

export const mark = (attributes: Record<string, string> = {}): Answer => {
  const all = { name: VM, ticket: 'A-1', home: HOME_ID, mac: 'm', ...attributes }
  const text = Object.entries(all).map(([name, value]) => `${name}="${value}"`)
  return { to: `metadata ${all.name} urn:agent-swarm:1;`, stdout: `<vm xmlns="urn:agent-swarm:1" ${text.join(' ')}/>` }
}
export const state = (number: number, name = VM, reason = 1): Answer => ({
  to: 'domstats',
  stdout: `Domain: '${name}'\n  state.state=${number}\n  state.reason=${reason}\n  balloon.maximum=1048576\n  balloon.rss=716800\n`,
})
export const RUNNING = state(1)
export const STOPPED = state(5)
export const ABSENT: Answer = { to: 'metadata', stderr: `error: failed to get domain '${VM}'` }
export const version = (libvirt: string): Answer => ({
  to: 'version',
  stdout: `Running against daemon: ${libvirt}`,
})
export const pool = (mebibytesFree: number): Answer => ({
  to: 'pool-dumpxml',
  stdout: `<pool type='dir'><name>agent-swarm</name><capacity unit='bytes'>9</capacity><available unit='bytes'>${mebibytesFree * 1024 ** 2}</available><target><path>/pool</path></target></pool>`,
})

export const MAC = '52:54:00:00:00:0a'
type Kept = { mac: string; name: string; ip: string }
/** A network of agent-swarm, with addresses that it keeps. */
export const network = (hosts: readonly Kept[] = []): Answer => ({
  to: 'net-dumpxml',
  stdout: `<network>
  <name>net</name>
  <forward mode='nat'>
    <nat>
      <port start='1024' end='65535'/>
    </nat>
  </forward>
  <bridge name='as814882' stp='off' delay='0'/>
  <mac address='52:54:00:6b:28:9f'/>
  <port isolated='yes'/>
  <ip address='192.168.177.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.177.2' end='192.168.177.254'/>
${hosts.map(({ mac, name, ip }) => `      <host mac='${mac}' name='${name}' ip='${ip}'/>\n`).join('')}    </dhcp>
  </ip>
</network>`,
})
export const noFilter: Answer = {
  to: 'nwfilter-dumpxml',
  stderr: "error: failed to get nwfilter 'x'\nerror: Network filter not found: no nwfilter with matching name 'x'",
}
/** The interface of a machine in `dumpxml`, as libvirt writes it. */
export const isolated = (filter: string, ip: string): string => `<domain type='qemu'>
    <interface type='network'>
      <mac address='${MAC}'/>
      <source network='net'/>
      <port isolated='yes'/>
      <model type='virtio'/>
      <filterref filter='${filter}'>
        <parameter name='IP' value='${ip}'/>
      </filterref>
    </interface>
</domain>`
/** `pool-list --all` with these pools, all active. */
export const pools = (...names: string[]): Answer => ({
  to: 'pool-list',
  stdout: names.map(name => ` ${name}   active   yes`).join('\n'),
})
/** libvirt lists these domains. */
export const domains = (...names: string[]): Answer => ({ to: 'list --all --name', stdout: `${names.join('\n')}\n` })

/** `calls`: the arguments of each virsh, and what it reads. `files`: the content of the files that its commands read, as they were then. */
export const fakeKvm = (
  answers: readonly Answer[],
  tools: Partial<Omit<Tools<KvmSettings>, 'settings'>> & { home: string; settings?: Partial<KvmSettings> },
  onCall: (text: string) => void = () => {},
): { provider: Provider; calls: string[]; files: string[] } => {
  const calls: string[] = []
  const files: string[] = []
  const run: Run = async (program, argv, { explain = explainBy([]), input } = {}) => {
    const text = [...argv, ...(input === undefined ? [] : [String(input).trim()])].join(' ')
    if (program !== 'virsh') {
      const answer = answers.find(({ to }) => `${program} ${text}`.startsWith(to))
      if (answer === undefined) throw explain(`${program} ${text}`, `${program}: Could not open '${argv.at(-1)}'`)
      const { stdout = '', stderr = '' } = answer
      return { stdout, stderr, exitCode: stderr === '' ? 0 : 1, milliseconds: 0 }
    }
    calls.push(text)
    for (const path of text.match(/\S+\/tmp-\w+\/file/g) ?? []) files.push(readFileSync(path, 'utf8'))
    onCall(text)
    // Our pool and the machine's disk are there, and libvirt has nothing else to do, unless an answer says otherwise.
    const has = (command: string) => answers.some(({ to }) => to.includes(command))
    const known = [
      ...answers,
      ...(answers.some(({ to }) => to === 'pool-list') ? [] : [pools('agent-swarm')]),
      ...(has('vol-info') ? [] : [disk(1)]),
      ...(has('domjobinfo') ? [] : [{ to: 'domjobinfo', stdout: 'Job type:         None' }]),
    ]
    const matching = known.filter(({ to }) => `${text};`.includes(to))
    const printed = (stream: 'stdout' | 'stderr') =>
      matching.flatMap(answer => (answer[stream] === undefined ? [] : [`${answer[stream]}\n`])).join('')
    const stderr = printed('stderr')
    return { stdout: printed('stdout'), stderr, exitCode: stderr === '' ? 0 : 1, milliseconds: 0 }
  }
  const provider = openKvm({
    run,
    homeId: HOME_ID,
    knows: () => false,
    ...tools,
    settings: { ...defaults, kvmDomainType: 'qemu', kvmNetwork: 'net', ...tools.settings },
  })
  return { provider, calls, files }
}

/** What `openRun` throws for a program that is not installed. */
export const notInstalled: Run = async program => {
  throw fail('provider-missing', `${program} is not installed`, `Install ${program}.`)
}

export const failureOf = async (promise: Promise<unknown> | undefined) => {
  const error = await (promise ?? Promise.resolve()).then(
    () => null,
    (thrown: unknown) => thrown,
  )
  if (!isFailure(error)) throw new Error(`expected a failure, got: ${error}`)
  return error.failure
}
