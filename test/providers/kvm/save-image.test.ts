/** libvirt's save image, byte by byte. */
import { endianness } from 'node:os'
import { expect, test } from 'vitest'
import { parseSaveImage, saveImageStart, streamOffset } from '../../../providers/kvm/save-image.ts'
import { failureOf } from './fake-virsh.ts'

const XML = "<domain type='qemu'><name>Größe</name></domain>"
const COOKIE = '<cookie><slirpHelper/></cookie>'

const numbers = (...values: number[]): Buffer => {
  const bytes = Buffer.alloc(4 * values.length)
  for (const [at, value] of values.entries())
    endianness() === 'LE' ? bytes.writeUInt32LE(value, 4 * at) : bytes.writeUInt32BE(value, 4 * at)
  return bytes
}
type Parts = { magic?: string; version?: number; length?: number; running?: number; format?: number; cookieAt?: number }
/** As libvirt writes it. */
const image = (data: Buffer, parts: Parts = {}): Buffer => {
  const { magic = 'LibvirtQemudSave', version = 2, length = data.length, running = 1, format = 0, cookieAt = 0 } = parts
  return Buffer.concat([
    Buffer.from(magic),
    numbers(version, length, running, format, cookieAt),
    Buffer.alloc(56),
    data,
    Buffer.from('QEVM'),
  ])
}
const text = (...words: string[]) => Buffer.concat(words.map(word => Buffer.from(`${word}\0`)))
const withPadding = Buffer.concat([text(XML, COOKIE), Buffer.alloc(1000)])
const cookieAt = Buffer.byteLength(XML) + 1

test('an image of libvirt is read: definition, cookie, state, and where the stream begins', () => {
  const bytes = image(withPadding, { cookieAt, running: 0, format: 1 })
  expect(parseSaveImage(bytes)).toEqual({ xml: XML, cookie: COOKIE, wasRunning: false, format: 1 })
  expect(bytes.toString('latin1', streamOffset(bytes))).toBe('QEVM')
  expect(parseSaveImage(image(text(XML)))).toEqual({ xml: XML, cookie: null, wasRunning: true, format: 0 })
  // Nothing but the header is needed for that.
  expect(streamOffset(bytes.subarray(0, 92))).toBe(92 + withPadding.length)
})

test('what is written is what libvirt writes, as short as it can be or of a given length', () => {
  const part = { xml: XML, cookie: COOKIE, wasRunning: true, format: 0 }
  const short = saveImageStart(part)
  expect(short).toEqual(image(text(XML, COOKIE), { cookieAt }).subarray(0, -4))
  const long = saveImageStart(part, 92 + withPadding.length)
  expect(long).toEqual(image(withPadding, { cookieAt }).subarray(0, -4))
  expect(parseSaveImage(saveImageStart({ ...part, cookie: null }))).toEqual({ ...part, cookie: null })
})

test('a definition that does not fit in front of the stream is refused', async () => {
  const write = async () => saveImageStart({ xml: XML, cookie: COOKIE, wasRunning: true, format: 0 }, 100)
  expect(await failureOf(write())).toMatchObject({ kind: 'unsupported', message: expect.stringContaining('no room') })
})

test.for<[string, Buffer, string]>([
  [
    'an image that libvirt did not finish',
    image(text(XML), { magic: 'LibvirtQemudPart' }),
    'did not write it to its end',
  ],
  ['another file', Buffer.alloc(4096), 'not a save image of libvirt'],
  ['a file shorter than the header', image(text(XML)).subarray(0, 91), 'it has 91 bytes'],
  ['another version, or another byte order', image(text(XML), { version: 0x02_00_00_00 }), 'version 33554432'],
  ['a length of gigabytes', image(text(XML), { length: 0xff_ff_ff_ff }), 'would have 4294967295 bytes'],
  ['no definition at all', image(Buffer.alloc(0)), 'would have 0 bytes'],
  ['a cookie outside the data', image(text(XML), { cookieAt: 10_000 }), 'its cookie lies outside'],
  ['an image that ends within its definition', image(withPadding).subarray(0, 200), 'ends within its definition'],
  ['zeros in place of the definition', image(Buffer.alloc(500)), 'it has no definition'],
])('%s is told as damage', async ([, bytes, message]) => {
  const read = async () => parseSaveImage(bytes)
  expect(await failureOf(read())).toMatchObject({ kind: 'damaged', message: expect.stringContaining(message) })
})

test('a stream that QEMU would have to seek in is not supported, and the setting is named', async () => {
  for (const format of [6, 99]) {
    const read = async () => parseSaveImage(image(text(XML), { format }))
    expect(await failureOf(read())).toMatchObject({
      kind: 'unsupported',
      remedy: expect.stringContaining('snapshot_image_format'),
    })
  }
})
