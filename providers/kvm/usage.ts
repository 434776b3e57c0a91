/** What machines take of the host, what the host has, and what guests write on their consoles. */
import { readFileSync } from 'node:fs'
import { VM_ID } from '../../src/domain.ts'
import type { Capacity, VmUsage } from '../provider.ts'
import { lastLines } from './console.ts'
import { type Context, isOurs, look } from './context.ts'
import { machineOf, volumesOf } from './definition.ts'
import { ensurePool, poolCommands, withFile } from './host.ts'
import { parseMarks, readMark } from './marks.ts'
import { parseNames, parseNode, parsePool, parseUsage, parseVolumes } from './parse.ts'
import { savedBytes } from './saved.ts'
import { type Command, inBatches } from './virsh.ts'
import { volumeInfo } from './volumes.ts'

/** virtlogd begins a new file after 2 MiB; where it does not, a guest could write without end. */
const MAX_CONSOLE_BYTES = 8 * 1024 ** 2

export const usageOfMachines = async (context: Context): Promise<Map<string, VmUsage>> => {
  const { virsh, settings } = context
  const { stdout } = await virsh.ask([
    ['domstats', '--state', '--cpu-total', '--vcpu', '--balloon', '--nowait'],
    ['vol-list', settings.kvmPool],
  ])
  const usage = new Map([...parseUsage(stdout)].filter(([name]) => VM_ID.test(name)))
  const volumes = parseNames(stdout).filter(name => usage.has(machineOf(name) ?? ''))
  const commands: Command[] = [...[...usage.keys()].map(readMark), ...volumes.map(name => volumeInfo(context, name))]
  const answers = await Promise.all(inBatches(commands).map(batch => virsh.ask(batch)))
  const text = answers.map(answer => answer.stdout).join('\n')
  const diskBytes = new Map<string, number>()
  for (const [name, bytes] of parseVolumes(text)) {
    const vmId = machineOf(name) ?? ''
    diskBytes.set(vmId, (diskBytes.get(vmId) ?? 0) + bytes)
  }
  const ours = parseMarks(text).filter(mark => isOurs(context, mark))
  const found = await Promise.all(
    ours.map(async ({ vmId }) => {
      const use = usage.get(vmId)
      if (use === undefined) return []
      // libvirt keeps a saved memory outside the pool.
      return [[vmId, { ...use, diskBytes: (diskBytes.get(vmId) ?? 0) + (await savedBytes(settings, vmId)) }] as const]
    }),
  )
  return new Map(found.flat())
}

export const capacityOfHost = async (context: Context): Promise<Capacity> => {
  const { virsh, settings } = context
  const { stdout } = await virsh.ask([['nodeinfo'], ['nodememstats'], ...poolCommands(settings)])
  const { total, available } = parsePool(stdout) ?? (await ensurePool(context))
  return { ...parseNode(stdout), diskBytes: { total, available } }
}

export const consoleTail = (context: Context, id: string): Promise<string[]> =>
  withFile(context, '', async path => {
    // Reading changes nothing, so that one process can check whose the machine is and read its console.
    const { console } = volumesOf(id)
    await look(context, id, [
      ['vol-download', '--pool', context.settings.kvmPool, console, path, '--length', String(MAX_CONSOLE_BYTES)],
    ])
    return lastLines(readFileSync(path))
  })
