/**
 * libvirt's save image: a machine's memory with the definition that it belongs to. Layout of libvirt 9.0 to 11.3
 * (src/qemu/qemu_saveimage.h): a header of 92 bytes, numbers of 32 bits in the host's byte order; the definition, a cookie of
 * libvirt's own and zeros; then QEMU's stream, which holds neither the machine's name nor its paths.
 */
import { endianness } from 'node:os'
import { fail } from '../../src/errors.ts'

export const HEADER_BYTES = 92
export const COMPLETE = 'LibvirtQemudSave'
/** libvirt's own mark of an image that it is still writing. */
export const UNFINISHED = 'LibvirtQemudPart'
const VERSION = 2
/** Definition, cookie and padding: libvirt's own are below 100 KiB. */
const MOST_DATA_BYTES = 4 * 1024 ** 2
const MIN_DEFINITION = '<domain'
/** How the stream is packed, by number: libvirt runs the program of that name. The last one is no stream: QEMU seeks in it. */
const FORMATS = ['raw', 'gzip', 'bzip2', 'xz', 'lzop', 'zstd', 'sparse']
const SPARSE = FORMATS.indexOf('sparse')

export type SaveImage = {
  /** The definition. */
  xml: string
  cookie: string | null
  wasRunning: boolean
  /** How the stream is packed: an index of FORMATS. */
  format: number
}

const little = endianness() === 'LE'
const readNumber = (bytes: Buffer, at: number): number => (little ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at))
const writeNumber = (bytes: Buffer, value: number, at: number): number =>
  little ? bytes.writeUInt32LE(value, at) : bytes.writeUInt32BE(value, at)

const damaged = (what: string) =>
  fail('damaged', `reading the memory of a machine: ${what}`, 'Use another checkpoint, or fork the running machine.')

const headerOf = (bytes: Buffer) => {
  if (bytes.length < HEADER_BYTES)
    throw damaged(`it has ${bytes.length} bytes, and its header alone has ${HEADER_BYTES}`)
  const magic = bytes.toString('latin1', 0, COMPLETE.length)
  if (magic === UNFINISHED) throw damaged('libvirt did not write it to its end')
  if (magic !== COMPLETE) throw damaged('it is not a save image of libvirt')
  const number = (at: number) => readNumber(bytes, at)
  const [version, dataBytes, running, format, cookieAt] = [number(16), number(20), number(24), number(28), number(32)]
  if (version !== VERSION) throw damaged(`it has version ${version}, and only ${VERSION} is known`)
  if (dataBytes === 0 || dataBytes > MOST_DATA_BYTES) throw damaged(`its definition would have ${dataBytes} bytes`)
  if (cookieAt > dataBytes) throw damaged('its cookie lies outside it')
  if (format === SPARSE || format >= FORMATS.length)
    throw fail(
      'unsupported',
      `reading the memory of a machine: its format ${FORMATS[format] ?? format} cannot be forked`,
      'Set snapshot_image_format = "raw" in /etc/libvirt/qemu.conf, restart libvirt, and make the checkpoint again.',
    )
  return { dataBytes, running, format, cookieAt }
}

/** Where the stream begins in an image that begins with these bytes, at least HEADER_BYTES. */
export const streamOffset = (bytes: Buffer): number => HEADER_BYTES + headerOf(bytes).dataBytes

/** The text up to its zero byte. */
const textIn = (bytes: Buffer): string => {
  const end = bytes.indexOf(0)
  return bytes.toString('utf8', 0, end === -1 ? bytes.length : end)
}

/** `bytes`: everything before the stream. */
export const parseSaveImage = (bytes: Buffer): SaveImage => {
  const { dataBytes, running, format, cookieAt } = headerOf(bytes)
  if (bytes.length < HEADER_BYTES + dataBytes) throw damaged('it ends within its definition')
  const data = bytes.subarray(HEADER_BYTES, HEADER_BYTES + dataBytes)
  const xml = textIn(cookieAt === 0 ? data : data.subarray(0, cookieAt))
  if (!xml.startsWith(MIN_DEFINITION)) throw damaged('it has no definition')
  const cookie = cookieAt === 0 ? '' : textIn(data.subarray(cookieAt))
  return { xml, cookie: cookie === '' ? null : cookie, wasRunning: running !== 0, format }
}

/** Everything before the stream. `length`: in all, with zeros at the end; null: as short as it can be. */
export const saveImageStart = (image: SaveImage, length: number | null = null): Buffer => {
  const [xml, cookie] = [image.xml, image.cookie ?? ''].map(text => Buffer.from(text === '' ? '' : `${text}\0`))
  if (xml === undefined || cookie === undefined) throw new RangeError('an image has two texts')
  const needed = HEADER_BYTES + xml.length + cookie.length
  const bytes = Buffer.alloc(length ?? needed)
  if (bytes.length < needed)
    throw fail('unsupported', `writing the memory of a machine: its definition has no room before the stream`)
  bytes.write(COMPLETE, 'latin1')
  const numbers = [
    VERSION,
    bytes.length - HEADER_BYTES,
    image.wasRunning ? 1 : 0,
    image.format,
    cookie.length === 0 ? 0 : xml.length,
  ]
  for (const [at, value] of numbers.entries()) writeNumber(bytes, value, COMPLETE.length + 4 * at)
  xml.copy(bytes, HEADER_BYTES)
  cookie.copy(bytes, HEADER_BYTES + xml.length)
  return bytes
}
