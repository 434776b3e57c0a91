/** (f) How much memory and disk an idle machine gives back to its host, and at what cost: a real guest with and without it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Row } from './main.ts'
import { entry, finish, hasLibvirt, withHome } from './measure.ts'

const MIB = 1024 ** 2
/** Memory that the guest uses and frees, and disk that it writes and deletes. MiB. */
const USED = 400
const WRITTEN = 300
/** The guest's kernel reports a sixteenth of its free memory every two seconds, so that settling takes a while. */
const [POLL_MS, SETTLED_BYTES, MAX_POLLS] = [5_000, 8 * MIB, 24]

export type GivenBack = {
  /** Resident memory of the guest on its host: before, while the guest uses more, afterwards. */
  memory: { before: number; during: number; after: number; seconds: number }
  /** Bytes of the machine's disk on the host. */
  disk: { before: number; written: number; deleted: number; zeroes: number }
  seconds: { write: number; zeroes: number }
  /** Processor time of the machine during all of it. */
  cpuSeconds: number
}

type Machine = { ticket: string; vmId: string; environment: Record<string, string | undefined> }

const virsh = async (...words: string[]): Promise<string> => {
  const ran = await finish('virsh', ['-q', ...words])
  if (ran.code !== 0) throw new Error(`virsh ${words.join(' ')}: ${ran.stderr}`)
  return ran.stdout
}

/** Uses and frees memory and disk in a running machine, and measures both on its host. */
export const giveBack = async ({ ticket, vmId, environment }: Machine): Promise<GivenBack> => {
  const inside = async (command: string) => {
    const ran = await finish(process.execPath, [entry, 'ssh', ticket, '--', command], environment)
    if (ran.code !== 0) throw new Error(`${command}: ${ran.stderr}`)
    return ran.milliseconds / 1000
  }
  const statistic = async (name: string) => {
    const stats = await virsh('domstats', vmId, '--balloon', '--cpu-total')
    return Number(stats.match(new RegExp(`^ *${name}=(\\d+)`, 'm'))?.[1])
  }
  /** Only the guest's memory: under emulation, QEMU also holds up to a gigabyte of translated code. */
  const resident = async () => {
    const kib = await statistic('balloon\\.maximum')
    const pid = readFileSync(`/run/libvirt/qemu/${vmId}.pid`, 'utf8')
    const maps = readFileSync(`/proc/${pid}/smaps`, 'utf8')
    const rss = maps.match(new RegExp(`^Size:\\s+${kib} kB\\n(?:\\w+:.*\\n)*?Rss:\\s+(\\d+) kB`, 'm'))?.[1]
    if (rss === undefined) throw new Error(`process ${pid} has no mapping of ${kib} KiB`)
    return Number(rss) * 1024
  }
  /** Waits until the host gets nothing more back. */
  const settled = async () => {
    let last = await resident()
    for (let polls = 1; polls < MAX_POLLS; polls += 1) {
      await delay(POLL_MS)
      const now = await resident()
      if (now > last - SETTLED_BYTES) return now
      last = now
    }
    return last
  }
  /** Of the layer that it writes into: after a checkpoint that is another file than the first. */
  const onDisk = async () => {
    const file = (await virsh('domblklist', vmId)).match(/^\s*vda\s+(\S.*?)\s*$/m)?.[1]
    if (file === undefined) throw new Error(`${vmId} has no disk vda`)
    return statSync(file).blocks * 512
  }
  const cpuBefore = await statistic('cpu\\.time')
  // Cached memory is not free.
  await inside('sync; echo 3 | sudo tee /proc/sys/vm/drop_caches')

  const before = await settled()
  const stress = spawn(
    process.execPath,
    [entry, 'ssh', ticket, '--', `python3 -c "b = b'x' * (${USED} << 20); print('full', flush=True); input()"`],
    { env: environment, stdio: ['pipe', 'pipe', 'inherit'] },
  )
  await once(stress.stdout, 'data')
  const during = await resident()
  const ended = once(stress, 'close')
  stress.stdin.end('\n')
  await ended
  const startedAt = performance.now()
  const after = await settled()
  const memory = { before, during, after, seconds: (performance.now() - startedAt) / 1000 }

  await inside('sudo fstrim /')
  const empty = await onDisk()
  const write = await inside(`dd if=/dev/urandom of=big bs=1M count=${WRITTEN} conv=fsync`)
  const written = await onDisk()
  await inside('rm big; sync; sudo fstrim /')
  const deleted = await onDisk()
  const zeroSeconds = await inside(`dd if=/dev/zero of=zeroes bs=1M count=${WRITTEN} conv=fsync`)
  const zeroes = (await onDisk()) - deleted
  await inside('rm zeroes; sync; sudo fstrim /')
  return {
    memory,
    disk: { before: empty, written, deleted, zeroes },
    seconds: { write, zeroes: zeroSeconds },
    cpuSeconds: ((await statistic('cpu\\.time')) - cpuBefore) / 1e9,
  }
}

const mib = (bytes: number) => Math.round(bytes / MIB)

/** The measurements as text. */
export const shown = ({
  memory,
  disk,
  seconds,
  cpuSeconds,
}: GivenBack): Record<'memory' | 'disk' | 'cost', string> => ({
  memory: `${mib(memory.before)} → ${mib(memory.during)} → ${mib(memory.after)} MiB within ${Math.round(memory.seconds)} s`,
  disk: `${mib(disk.before)} → ${mib(disk.written)} → ${mib(disk.deleted)} MiB; ${WRITTEN} MiB of zeroes: ${mib(disk.zeroes)} MiB`,
  cost: `${Math.round(cpuSeconds)} s of processor time; ${WRITTEN} MiB written in ${seconds.write.toFixed(1)} s, zeroes in ${seconds.zeroes.toFixed(1)} s`,
})

const TICKET = 'BENCH-6'

export const giveback = (): Promise<Row[]> =>
  withHome(async home => {
    if (!hasLibvirt()) {
      const measured = 'needs libvirt with a base image: test/kvm/run.sh --run npm run bench -- f'
      return [{ row: 'f', what: 'memory and disk that machines give back', measured, target: '', ok: null }]
    }
    const environment = {
      PATH: process.env.PATH,
      HOME: home,
      AGENT_SWARM_HOME: join(home, 'state'),
      AGENT_SWARM_PROVIDER: 'kvm',
      AGENT_SWARM_MEMORY_MIB: '1024',
      AGENT_SWARM_DISK_GIB: '8',
    }
    const swarm = async (...words: string[]) => {
      const ran = await finish(process.execPath, [entry, ...words], environment)
      if (ran.code !== 0) throw new Error(ran.stderr)
      return ran.stdout
    }
    try {
      await swarm('create', TICKET)
      const [{ vmId }] = JSON.parse(await swarm('list', '--json'))
      const machine = { ticket: TICKET, vmId, environment }
      const ours = await giveBack(machine)
      await swarm('stop', TICKET)
      const plain = (await virsh('dumpxml', vmId, '--inactive')).replaceAll(
        / (freePageReporting|discard|detect_zeroes)=(["'])\w+\2/g,
        '',
      )
      const file = join(home, 'plain.xml')
      writeFileSync(file, plain)
      await virsh('define', file)
      await swarm('start', TICKET)
      const without = await giveBack(machine)
      const [a, b] = [shown(ours), shown(without)]
      const back = ({ memory: { before, during, after } }: GivenBack) => (during - after) / (during - before)
      const freed = ({ disk: { before, written, deleted } }: GivenBack) => (written - deleted) / (written - before)
      const row = (what: string, measured: string, target = '', ok: boolean | null = null): Row => ({
        row: 'f',
        what,
        measured,
        target,
        ok,
      })
      return [
        row(`memory on the host, ${USED} MiB used and freed in the guest`, a.memory, '> 50 % back', back(ours) > 0.5),
        row('the same without free page reporting', b.memory),
        row(`disk on the host, ${WRITTEN} MiB written and deleted`, a.disk, '> 50 % back', freed(ours) > 0.5),
        row('the same without discard and detect_zeroes', b.disk),
        row('cost', a.cost),
        row('cost without any of it', b.cost),
      ]
    } finally {
      await finish(process.execPath, [entry, 'delete', TICKET, '--force'], environment)
    }
  })
