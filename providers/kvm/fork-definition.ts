/** The definition of a fork: its source's, as the memory's image has it, with everything that is a machine's own replaced. */
import { randomUUID } from 'node:crypto'
import { fail } from '../../src/errors.ts'
import { volumesOf } from './definition.ts'
import { type Isolation, interfaceXml } from './libvirt-xml.ts'
import { type Mark, markAttributes, NAMESPACE } from './marks.ts'
import { type Piece, xml } from './xml.ts'

export type Fork = {
  mark: Mark
  network: string
  isolation: Isolation | null
  /** The folder of the pool's volumes. */
  folder: string
}

/** What a definition must have once, at least, or the fork would share it with its source. */
const replaceRequired = (text: string, pattern: RegExp, change: (found: string) => string | Piece): string => {
  if (!pattern.test(text))
    throw fail('unsupported', `making a fork: the definition of its source has nothing like ${pattern.source}`)
  return text.replace(pattern, found => {
    const changed = change(found)
    return typeof changed === 'string' ? changed : changed.piece
  })
}

const diskAt = (target: string) =>
  new RegExp(`<disk\\s(?:(?!</disk>)[\\s\\S])*<target dev=["']${target}["'](?:(?!</disk>)[\\s\\S])*</disk>`)

/**
 * The file, and nothing of what lies below it: libvirt reads that from the file itself. `index` numbers the nodes of the process
 * that ran the source.
 */
const withFile = (disk: string, path: string): string =>
  disk
    .replace(/<backingStore[\s>][\s\S]*<\/backingStore>|<backingStore\/>/, '')
    .replace(/<source\s[^>]*?(?:\/>|>[\s\S]*?<\/source>)/, () => xml`<source file="${path}"/>`.piece)

/** The memory knows the place on the bus and nothing else. */
const interfaceOf = (device: string, { mark, network, isolation }: Fork): string => {
  const place = device.match(/<address\s+type=["']pci["'][^>]*\/>/)?.[0] ?? ''
  return interfaceXml(mark.mac, network, isolation).piece.replace('</interface>', () => `${place}</interface>`)
}

/**
 * `text`: in the format that `dumpxml --migratable --security-info` prints, of a machine on a network. The machine type, memory,
 * processors, features and addresses of devices stay: the memory depends on them.
 */
export const forkDefinition = (text: string, source: string, fork: Fork): string => {
  const { mark, folder } = fork
  const volumes = volumesOf(mark.vmId)
  const path = (volume: string) => `${folder}/${volume}`
  let result = replaceRequired(text, /<name>[^<]*<\/name>/, () => xml`<name>${mark.vmId}</name>`)
  result = replaceRequired(result, /<uuid>[^<]*<\/uuid>/, () => xml`<uuid>${randomUUID()}</uuid>`)
  result = result.replace(/<genid>[^<]*<\/genid>/, () => xml`<genid>${randomUUID()}</genid>`.piece)
  result = replaceRequired(
    result,
    /<(?:\w+:)?vm\s[^>]*\/>/,
    () => xml`<as:vm xmlns:as="${NAMESPACE}" ${markAttributes(mark)}/>`,
  )
  result = replaceRequired(result, diskAt('vda'), disk => withFile(disk, path(volumes.disk)))
  result = replaceRequired(result, diskAt('sda'), disk => withFile(disk, path(volumes.seed)))
  result = replaceRequired(result, /<interface\s[\s\S]*?<\/interface>/, device => interfaceOf(device, fork))
  // The console and its serial port have the same file.
  result = replaceRequired(result, /<log\s+file=["'][^"']*["']/g, () => xml`<log file="${path(volumes.console)}"`)
  result = result.replace(
    /(<nvram[^>]*>)[^<]*<\/nvram>/,
    (_, begin) => `${begin}${xml`${path(volumes.nvram)}`.piece}</nvram>`,
  )
  // libvirt chooses these for each process.
  result = result
    .replace(/<source\s+mode=["']bind["'][^>]*\/>/g, '')
    .replace(/<seclabel\s+type=["']dynamic["'](?:[^>]*\/>|[\s\S]*?<\/seclabel>)/g, '')
  if (result.includes(source))
    throw fail('unsupported', `making a fork: the definition of ${source} names it in a place that is not known`)
  return result
}
