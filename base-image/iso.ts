/**
 * A small ISO 9660 image with Joliet names: just enough for a NoCloud seed. All files are in the root folder.
 * Layout (ECMA-119 and the Joliet specification): 16 empty sectors, primary and Joliet volume descriptors, terminator, path
 * tables, root folders, data.
 */

const SECTOR = 2048
const SYSTEM_SECTORS = 16
const FIRST_PATH_TABLE = 19
const FIRST_ROOT = 23
const FIRST_DATA = 25

export type IsoFile = { name: string; content: Buffer }
type PlacedFile = IsoFile & { index: number; sector: number }
/** The primary tree has plain names of ISO level 1; the Joliet tree has the real ones. */
type Tree = 'primary' | 'joliet'
type Layout = { label: string; at: Date; files: PlacedFile[]; sectors: number }

// ── Numbers, text and times as ECMA-119 writes them ──

/** Little-endian, then big-endian. `bytes`: of each. */
const both = (value: number, bytes: number) => {
  const buffer = Buffer.alloc(2 * bytes)
  buffer.writeUIntLE(value, 0, bytes)
  buffer.writeUIntBE(value, bytes, bytes)
  return buffer
}
const both16 = (value: number) => both(value, 2)
const both32 = (value: number) => both(value, 4)
const single32 = (value: number, isBigEndian: boolean) =>
  both32(value).subarray(isBigEndian ? 4 : 0, isBigEndian ? 8 : 4)
const ucs2 = (text: string) => Buffer.from(text, 'utf16le').swap16()
const padText = (text: string, bytes: number, tree: Tree) => {
  if (tree === 'primary') return Buffer.from(text.padEnd(bytes).slice(0, bytes), 'latin1')
  const characters = Math.floor(bytes / 2)
  return Buffer.concat([ucs2(text.padEnd(characters).slice(0, characters)), Buffer.alloc(bytes % 2)])
}
/** Fills the last sector with zeroes. Even an empty file has a sector. */
const padSectors = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(sectorsOf(bytes) * SECTOR - bytes.length)])
const sectorsOf = (bytes: Buffer) => Math.max(1, Math.ceil(bytes.length / SECTOR))

/** Seven bytes: years since 1900, month, day, hour, minute, second, time zone. */
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
/** Seventeen bytes: sixteen digits down to hundredths of a second, and the time zone. */
const volumeTime = (digits: string) => Buffer.concat([Buffer.from(digits.padEnd(16, '0'), 'latin1'), Buffer.from([0])])
const digitsOf = (at: Date) => at.toISOString().replaceAll(/\D/g, '').slice(0, 14)

// ── The parts of the image ──

const directoryRecord = (name: Buffer, sector: number, size: number, isFolder: boolean, at: Date): Buffer => {
  const padding = name.length % 2 === 0 ? 1 : 0
  return Buffer.concat([
    Buffer.from([33 + name.length + padding, 0]),
    both32(sector),
    both32(size),
    recordTime(at),
    Buffer.from([isFolder ? 2 : 0, 0, 0]),
    both16(1),
    Buffer.from([name.length]),
    name,
    Buffer.alloc(padding),
  ])
}

/** A name of level 1, for readers without Joliet; cloud-init and Linux read the Joliet names. The index keeps names unique. */
const plainName = ({ name, index }: PlacedFile) => {
  const [stem = '', extension = ''] = name.toUpperCase().split('.')
  const clean = (part: string, length: number) => part.replaceAll(/[^A-Z0-9]/g, '_').slice(0, length)
  return Buffer.from(`${clean(stem, 7)}${index}.${clean(extension, 3)};1`, 'latin1')
}

const rootSector = (tree: Tree) => (tree === 'primary' ? FIRST_ROOT : FIRST_ROOT + 1)
const rootRecord = (name: number, tree: Tree, at: Date) =>
  directoryRecord(Buffer.from([name]), rootSector(tree), SECTOR, true, at)

const rootFolder = ({ files, at }: Layout, tree: Tree): Buffer => {
  const records = files
    .map(file => ({ ...file, encoded: tree === 'joliet' ? ucs2(file.name) : plainName(file) }))
    .sort((a, b) => Buffer.compare(a.encoded, b.encoded))
    .map(({ encoded, sector, content }) => directoryRecord(encoded, sector, content.length, false, at))
  // The folder itself and its parent, which is the same.
  const bytes = Buffer.concat([rootRecord(0, tree, at), rootRecord(1, tree, at), ...records])
  if (bytes.length > SECTOR) throw new RangeError('the files of an ISO image do not fit into one folder sector')
  return padSectors(bytes)
}

const pathTable = (tree: Tree, isBigEndian: boolean): Buffer => {
  const parent = isBigEndian ? [0, 1] : [1, 0]
  return padSectors(Buffer.concat([Buffer.from([1, 0]), single32(rootSector(tree), isBigEndian), Buffer.from(parent)]))
}

const volumeDescriptor = ({ label, at, sectors }: Layout, tree: Tree): Buffer => {
  const text = (value: string, bytes: number) => padText(value, bytes, tree)
  const table = tree === 'primary' ? FIRST_PATH_TABLE : FIRST_PATH_TABLE + 2
  const created = volumeTime(digitsOf(at))
  return padSectors(
    Buffer.concat([
      Buffer.from([tree === 'primary' ? 1 : 2]),
      Buffer.from('CD001', 'latin1'),
      Buffer.from([1, 0]),
      text('', 32),
      text(label, 32),
      Buffer.alloc(8),
      both32(sectors),
      // The escape sequence of UCS-2 level 3 marks the descriptor as Joliet.
      tree === 'joliet' ? Buffer.concat([Buffer.from('%/E', 'latin1'), Buffer.alloc(29)]) : Buffer.alloc(32),
      both16(1),
      both16(1),
      both16(SECTOR),
      // The bytes of a path table.
      both32(10),
      ...[single32(table, false), single32(0, false), single32(table + 1, true), single32(0, true)],
      rootRecord(0, tree, at),
      // Set, publisher, preparer and application; copyright and abstract files.
      ...[128, 128, 128, 128, 37, 37, 37].map(bytes => text('', bytes)),
      ...[created, created, volumeTime(''), volumeTime('')],
      Buffer.from([1, 0]),
    ]),
  )
}

const terminator = padSectors(Buffer.concat([Buffer.from([255]), Buffer.from('CD001', 'latin1'), Buffer.from([1])]))

const assignSectors = (files: readonly IsoFile[]): Pick<Layout, 'files' | 'sectors'> => {
  let sectors = FIRST_DATA
  const placed = files.map((file, index) => {
    const sector = sectors
    sectors += sectorsOf(file.content)
    return { ...file, index, sector }
  })
  return { files: placed, sectors }
}

/** `label` has at most 16 characters, a name at most 64. Throws RangeError when the names do not fit into one sector. */
export const isoImage = (label: string, files: readonly IsoFile[], at: Date = new Date()): Buffer => {
  const layout: Layout = { label, at, ...assignSectors(files) }
  return Buffer.concat([
    Buffer.alloc(SYSTEM_SECTORS * SECTOR),
    volumeDescriptor(layout, 'primary'),
    volumeDescriptor(layout, 'joliet'),
    terminator,
    pathTable('primary', false),
    pathTable('primary', true),
    pathTable('joliet', false),
    pathTable('joliet', true),
    rootFolder(layout, 'primary'),
    rootFolder(layout, 'joliet'),
    ...layout.files.map(({ content }) => padSectors(content)),
  ])
}
