/** (k) How much longer the start of a machine takes by its isolation. The guests need no disk: nothing of them runs. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseAddress, rangeOf } from '../providers/ipv4.ts'
import { ephemeralPorts, localAddresses } from '../providers/kvm/addresses.ts'
import { filterName, filterXml } from '../providers/kvm/filter.ts'
import { interfaceXml, networkXml } from '../providers/kvm/libvirt-xml.ts'
import type { Row } from './main.ts'
import { hasLibvirt, median } from './measure.ts'

const ROUNDS = 7
const TARGET_S = 1.5
const NAME = 'as-bench-isolation'
const SUBNET = '192.168.179'

const virsh = (...words: string[]) => execFileSync('virsh', ['-q', ...words], { encoding: 'utf8', stdio: 'pipe' })
const quietly = (...words: string[]) => {
  try {
    virsh(...words)
  } catch {
    // It is not there.
  }
}

const domain = (network: string): string =>
  `<domain type="qemu"><name>${NAME}</name><memory unit="MiB">64</memory><vcpu>1</vcpu><os><type arch="x86_64" machine="q35">hvm</type></os><devices>${network}</devices></domain>`

/** Seconds. */
const timeStart = (): number => {
  const begin = performance.now()
  virsh('start', NAME, '--paused')
  const seconds = (performance.now() - begin) / 1000
  virsh('destroy', NAME)
  return seconds
}

export const isolation = async (): Promise<Row[]> => {
  if (!hasLibvirt()) return []
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-bench-'))
  const file = (content: string): string => {
    const path = join(folder, 'file')
    writeFileSync(path, content)
    return path
  }
  const gateway = parseAddress(`${SUBNET}.1`) ?? 0
  const filter = filterName(NAME)
  const surroundings = {
    ...{ gateway, subnet: rangeOf(gateway, 24), own: localAddresses(), allowed: [] },
    ephemeral: ephemeralPorts(),
  }
  const mac = '52:54:00:00:be:9c'
  const plain = domain(interfaceXml(mac, NAME, null).piece)
  const isolated = domain(interfaceXml(mac, NAME, { filter, ip: `${SUBNET}.10` }).piece)
  try {
    virsh('net-define', file(networkXml(NAME, 'asbench', SUBNET)))
    virsh('net-start', NAME)
    virsh('nwfilter-define', file(filterXml(filter, surroundings, 'x')))
    const times: Record<'plain' | 'isolated', number[]> = { plain: [], isolated: [] }
    for (let round = 0; round < ROUNDS; round += 1)
      for (const [kind, text] of [
        ['plain', plain],
        ['isolated', isolated],
      ] as const) {
        virsh('define', file(text))
        times[kind].push(timeStart())
        virsh('undefine', NAME)
      }
    const [without, withIt] = [median(times.plain), median(times.isolated)]
    return [
      {
        row: 'k',
        what: `start of a guest, isolated and not, medians of ${ROUNDS} alternating`,
        measured: `${withIt.toFixed(2)} s, ${without.toFixed(2)} s: ${(withIt - without).toFixed(2)} s longer`,
        target: `<= ${TARGET_S} s longer`,
        ok: withIt - without <= TARGET_S,
      },
    ]
  } finally {
    quietly('destroy', NAME)
    quietly('undefine', NAME)
    quietly('net-destroy', NAME)
    quietly('net-undefine', NAME)
    quietly('nwfilter-undefine', filter)
    rmSync(folder, { recursive: true, force: true })
  }
}
