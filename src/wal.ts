/**
 * Whether the write-ahead log has what its index says. A process that is killed leaves both; the next one makes a new index from
 * the log, as far as that is readable, and what is not is lost without a word. So the old index is looked at before.
 * https://www.sqlite.org/walformat.html
 */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs'
import { uptime } from 'node:os'

const INDEX_SIZE = 48
const LOG_HEADER = 32
const FRAME_HEADER = 24
/** The magic number of a log whose checksums are of little-endian words; 1 more: big-endian. */
const MAGIC = 0x377f0682
const isLittleEndian = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1

/** `frames`: the number of the last frame of the last transaction. `sum`: its checksum, as in the log. `salt`: of the log. */
type Index = { frames: number; sum: string; salt: string; pageSize: number; writtenAt: number }

const readAt = (file: number, at: number, length: number): Buffer => {
  const buffer = Buffer.alloc(length)
  return buffer.subarray(0, readSync(file, buffer, 0, length, at))
}

const withFile = <T>(path: string, read: (file: number) => T): T | null => {
  let file: number
  try {
    file = openSync(path, 'r')
  } catch {
    return null
  }
  try {
    return read(file)
  } finally {
    closeSync(file)
  }
}

/** The index is in the byte order of this host. Null when there is none, or it is being written. */
const readIndex = (path: string): Index | null =>
  withFile(`${path}-shm`, file => {
    const both = readAt(file, 0, 2 * INDEX_SIZE)
    const [index, copy] = [both.subarray(0, INDEX_SIZE), both.subarray(INDEX_SIZE)]
    if (copy.length < INDEX_SIZE || !index.equals(copy) || index[12] !== 1) return null
    const words = new Uint32Array(index.buffer.slice(index.byteOffset, index.byteOffset + INDEX_SIZE))
    const pageSize = new Uint16Array(index.buffer.slice(index.byteOffset + 14, index.byteOffset + 16))[0] ?? 0
    const sum = Buffer.alloc(8)
    sum.writeUInt32BE(words[6] ?? 0, 0)
    sum.writeUInt32BE(words[7] ?? 0, 4)
    return {
      frames: words[4] ?? 0,
      sum: sum.toString('hex'),
      salt: index.toString('hex', 32, 40),
      pageSize: pageSize === 1 ? 65_536 : pageSize,
      writtenAt: fstatSync(file).ctimeMs,
    }
  })

/** The checksum of `bytes`, which goes on from `sum`. */
const addUp = (sum: [number, number], bytes: Buffer, isLittle: boolean): [number, number] => {
  const copy = Buffer.from(bytes)
  if (isLittle !== isLittleEndian) copy.swap32()
  const words = new Uint32Array(copy.buffer, copy.byteOffset, copy.length / 4)
  let [a, b] = sum
  for (let n = 0; n < words.length; n += 2) {
    a = (a + (words[n] ?? 0) + b) >>> 0
    b = (b + (words[n + 1] ?? 0) + a) >>> 0
  }
  return [a, b]
}

/** Whether each of the frames is as it was written. */
const isWhole = (file: number, header: Buffer, { frames, pageSize }: Index): boolean => {
  const isLittle = header.readUInt32BE(0) === MAGIC
  let sum = addUp([0, 0], header.subarray(0, 24), isLittle)
  for (let n = 0; n < frames; n++) {
    const frame = readAt(file, LOG_HEADER + n * (FRAME_HEADER + pageSize), FRAME_HEADER + pageSize)
    sum = addUp(addUp(sum, frame.subarray(0, 8), isLittle), frame.subarray(FRAME_HEADER), isLittle)
    if (frame.readUInt32BE(16) !== sum[0] || frame.readUInt32BE(20) !== sum[1]) return false
  }
  return true
}

/** Whether the log has the frames of the index. `whole`: reads all of them, and not only the first and the last. */
const hasFrames = (path: string, index: Index, whole: boolean): boolean =>
  withFile(`${path}-wal`, file => {
    const header = readAt(file, 0, LOG_HEADER)
    const size = LOG_HEADER + index.frames * (FRAME_HEADER + index.pageSize)
    if (header.length < LOG_HEADER || fstatSync(file).size < size) return false
    if ((header.readUInt32BE(0) & ~1) !== MAGIC || header.toString('hex', 16, 24) !== index.salt) return false
    const last = readAt(file, size - FRAME_HEADER - index.pageSize, FRAME_HEADER)
    return last.toString('hex', 16, 24) === index.sum && (!whole || isWhole(file, header, index))
  }) === true

/**
 * Whether changes are lost that were in the log at `path`. An index of before the host started says nothing: after a power failure
 * it may be older than the log.
 */
export const isLogDamaged = (path: string, { whole }: { whole: boolean }): boolean => {
  // In most cases nobody has the database open, and there is neither log nor index.
  if (statSync(`${path}-shm`, { throwIfNoEntry: false }) === undefined) return false
  const index = readIndex(path)
  if (index === null || index.frames === 0 || index.writtenAt < Date.now() - uptime() * 1000) return false
  if (hasFrames(path, index, whole)) return false
  // Another process may have begun the log anew, or closed the database, meanwhile.
  const later = readIndex(path)
  return later !== null && later.salt === index.salt && later.frames >= index.frames && !hasFrames(path, index, whole)
}
