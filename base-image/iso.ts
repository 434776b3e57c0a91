/**
 * A small ISO 9660 image with Joliet names: what a NoCloud seed needs, and no more. Files in the root folder alone.
 * Layout after ECMA-119 and the Joliet specification: 16 empty sectors, primary and supplementary volume descriptor,
 * terminator, path tables, root folders, data.
 */

const SECTOR = 2048
export type IsoFile = { name: string; content: Buffer }

const both16 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt16LE(value, 0)
  bytes.writeUInt16BE(value, 2)
  return bytes
}
const both32 = (value: number) => {
  const bytes = Buffer.alloc(8)
  bytes.writeUInt32LE(value, 0)
  bytes.writeUInt32BE(value, 4)
  return bytes
}
const ucs2be = (text: string) => Buffer.from(text, 'utf16le').swap16()
const padded = (text: string, length: number) => Buffer.from(text.padEnd(length).slice(0, length), 'latin1')
const paddedWide = (text: string, length: number) =>
  Buffer.concat([
    ucs2be(text.padEnd(Math.floor(length / 2)).slice(0, Math.floor(length / 2))),
    Buffer.alloc(length % 2),
  ])
const sectors = (bytes: number) => Math.ceil(bytes / SECTOR)

/** Seven bytes: years since 1900, month, day, hour, minute, second, offset. */
const recordTime = (at: Date) =>
  Buffer.from([
    at.getUTCFullYear() - 1900,
    at.getUTCMonth() + 1,
    at.getUTCDate(),
    at.getUTCHours(),
    at.getUTCMinutes(),
    at.getUTCSeconds(),
    0,
  ])
/** Seventeen bytes: digits, and the offset. */
const volumeTime = (at: Date) =>
  Buffer.concat([
    Buffer.from(
      `${at
        .toISOString()
        .replaceAll(/[^0-9]/g, '')
        .slice(0, 14)}00`,
      'latin1',
    ),
    Buffer.from([0]),
  ])
const NO_TIME = Buffer.concat([Buffer.from('0'.repeat(16), 'latin1'), Buffer.from([0])])

const record = (name: Buffer, sector: number, size: number, folder: boolean, time: Buffer): Buffer => {
  const length = 33 + name.length + (name.length % 2 === 0 ? 1 : 0)
  return Buffer.concat([
    Buffer.from([length, 0]),
    both32(sector),
    both32(size),
    time,
    Buffer.from([folder ? 2 : 0, 0, 0]),
    both16(1),
    Buffer.from([name.length]),
    name,
    Buffer.alloc(name.length % 2 === 0 ? 1 : 0),
  ])
}

/** Names of level 1 for readers without Joliet: `F0`, `F1`; cloud-init and every Linux read the Joliet ones. */
const plainName = (file: IsoFile, at: number) => {
  const [stem = '', extension = ''] = file.name.toUpperCase().split('.')
  const clean = (part: string, length: number) => part.replaceAll(/[^A-Z0-9]/g, '_').slice(0, length)
  return Buffer.from(`${clean(stem, 7)}${at}.${clean(extension, 3)};1`, 'latin1')
}

/** The image, with the volume label `label` (at most 16 characters). Names at most 64 characters, contents small. */
export const isoImage = (label: string, files: readonly IsoFile[], at: Date = new Date()): Buffer => {
  const time = recordTime(at)
  const [pathTables, roots] = [19, 23]
  const firstData = roots + 2
  let next = firstData
  const placed = files.map((file, index) => {
    const sector = next
    next += Math.max(1, sectors(file.content.length))
    return { file, index, sector }
  })

  const root = (wide: boolean) => {
    const self = roots + (wide ? 1 : 0)
    const entries = placed
      .map(({ file, index, sector }) => ({
        name: wide ? ucs2be(file.name) : plainName(file, index),
        sector,
        size: file.content.length,
      }))
      .sort((a, b) => Buffer.compare(a.name, b.name))
    const bytes = Buffer.concat([
      record(Buffer.from([0]), self, SECTOR, true, time),
      record(Buffer.from([1]), self, SECTOR, true, time),
      ...entries.map(entry => record(entry.name, entry.sector, entry.size, false, time)),
    ])
    if (bytes.length > SECTOR) throw new RangeError('too many files for one folder sector')
    return Buffer.concat([bytes, Buffer.alloc(SECTOR - bytes.length)])
  }
  const pathTable = (wide: boolean, big: boolean) => {
    const bytes = Buffer.alloc(SECTOR)
    bytes[0] = 1
    if (big) bytes.writeUInt32BE(roots + (wide ? 1 : 0), 2)
    else bytes.writeUInt32LE(roots + (wide ? 1 : 0), 2)
    if (big) bytes.writeUInt16BE(1, 6)
    else bytes.writeUInt16LE(1, 6)
    return bytes
  }
  const pointer = (sector: number, big: boolean) => {
    const bytes = Buffer.alloc(4)
    if (big) bytes.writeUInt32BE(sector, 0)
    else bytes.writeUInt32LE(sector, 0)
    return bytes
  }
  const descriptor = (wide: boolean) => {
    const text = (value: string, length: number) => (wide ? paddedWide(value, length) : padded(value, length))
    const bytes = Buffer.concat([
      Buffer.from([wide ? 2 : 1]),
      Buffer.from('CD001', 'latin1'),
      Buffer.from([1, 0]),
      text('', 32),
      text(label, 32),
      Buffer.alloc(8),
      both32(next),
      // The escape sequence of UCS-2 level 3: this is what makes the descriptor Joliet.
      wide ? Buffer.concat([Buffer.from('%/E', 'latin1'), Buffer.alloc(29)]) : Buffer.alloc(32),
      both16(1),
      both16(1),
      both16(SECTOR),
      both32(10),
      pointer(pathTables + (wide ? 2 : 0), false),
      pointer(0, false),
      pointer(pathTables + (wide ? 3 : 1), true),
      pointer(0, true),
      record(Buffer.from([0]), roots + (wide ? 1 : 0), SECTOR, true, time),
      text('', 128),
      text('', 128),
      text('', 128),
      text('', 128),
      text('', 37),
      text('', 37),
      text('', 37),
      volumeTime(at),
      volumeTime(at),
      NO_TIME,
      NO_TIME,
      Buffer.from([1, 0]),
    ])
    return Buffer.concat([bytes, Buffer.alloc(SECTOR - bytes.length)])
  }
  const terminator = Buffer.alloc(SECTOR)
  terminator[0] = 255
  terminator.write('CD001', 1, 'latin1')
  terminator[6] = 1

  const data = placed.map(({ file }) => {
    const whole = Math.max(1, sectors(file.content.length)) * SECTOR
    return Buffer.concat([file.content, Buffer.alloc(whole - file.content.length)])
  })
  return Buffer.concat([
    Buffer.alloc(16 * SECTOR),
    descriptor(false),
    descriptor(true),
    terminator,
    pathTable(false, false),
    pathTable(false, true),
    pathTable(true, false),
    pathTable(true, true),
    root(false),
    root(true),
    ...data,
  ])
}
