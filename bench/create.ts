/** (a) The time that `create` itself takes: wall time without hypervisor processes and without the wait for the guest. */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Row } from './main.ts'
import { entry, finish, hasLibvirt, median, withHome } from './measure.ts'

const ROUNDS = 5
const TARGET_MS = 300

/** On libvirt when it answers and has a base image, otherwise on synthetic, where only our own time is left. */
export const create = (): Promise<Row[]> =>
  withHome(async home => {
    const real = hasLibvirt()
    const provider = real ? 'kvm' : 'synthetic'
    // A wrapper on PATH times each command of the hypervisor.
    const bin = join(home, 'bin')
    const log = join(home, 'virsh.log')
    mkdirSync(bin)
    writeFileSync(
      join(bin, 'virsh'),
      `#!/bin/bash\nb=\${EPOCHREALTIME/./}\n/usr/bin/virsh "$@"; code=$?\necho "$(( \${EPOCHREALTIME/./} - b )) $*" >> ${log}\nexit $code\n`,
    )
    chmodSync(join(bin, 'virsh'), 0o755)
    const environment = {
      PATH: `${bin}:${process.env.PATH}`,
      HOME: home,
      AGENT_SWARM_HOME: join(home, 'state'),
      AGENT_SWARM_PROVIDER: provider,
      AGENT_SWARM_MEMORY_MIB: '1024',
      AGENT_SWARM_DISK_GIB: '8',
    }
    const own: number[] = []
    // The first one makes the login key and fills the compile cache; people feel the later ones.
    for (let round = 0; round <= ROUNDS; round += 1) {
      writeFileSync(log, '')
      const ran = await finish(process.execPath, [entry, 'create', 'BENCH-1', '--json'], environment)
      if (ran.code !== 0) throw new Error(ran.stderr)
      const phases = [...ran.stderr.matchAll(/^\s*([\d.]+) s {2}(.+)$/gm)].map(([, at, name]) => ({
        at: Number(at) * 1000,
        name,
      }))
      const started = phases.find(phase => phase.name === 'address')?.at ?? ran.milliseconds
      const guest = real ? (JSON.parse(ran.stdout).seconds as number) * 1000 - started : 0
      // The wait for the guest begins with the question for its address.
      const calls = readFileSync(log, 'utf8').split('\n').filter(Boolean)
      const waiting = calls.findIndex(call => call.includes('domifaddr'))
      const before = calls
        .slice(0, waiting < 0 ? undefined : waiting)
        .reduce((sum, call) => sum + Number.parseInt(call, 10) / 1000, 0)
      if (round > 0) own.push(ran.milliseconds - guest - before)
      await finish(process.execPath, [entry, 'delete', 'BENCH-1', '--force'], environment)
    }
    const milliseconds = median(own)
    return [
      {
        row: 'a',
        what: `time of create itself on ${provider}${real ? '' : ' (no libvirt with a base image answers)'}, median of ${ROUNDS}`,
        measured: `${Math.round(milliseconds)} ms`,
        target: `< ${TARGET_MS} ms`,
        ok: milliseconds < TARGET_MS,
      },
    ]
  })
