/** Downloads from servers on this computer, each of which breaks in its own way. */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import { isFailure } from '../../../src/errors.ts'
import { imageAddress } from '../../../src/runner/images/addresses.ts'
import { downloadImage, removeUnusedDownloads } from '../../../src/runner/images/download.ts'

const IMAGE = Buffer.alloc(300_000, 'an image ')
const SHA256 = createHash('sha256').update(IMAGE).digest('hex')
const OTHER = 'f'.repeat(64)

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-downloads-'))
})
afterEach(() => rmSync(home, { recursive: true, force: true }))
const folder = () => join(home, 'downloads')
const files = () => (existsSync(folder()) ? readdirSync(folder()).filter(name => name.endsWith('.part')) : [])

type Answer = (request: IncomingMessage, response: ServerResponse, count: number) => void
/** `requests`: the range that each asked for. */
const serve = async (answer: Answer) => {
  const requests: (string | null)[] = []
  const server = createServer((request, response) => {
    requests.push(request.headers.range ?? null)
    answer(request, response, requests.length)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/noble.img?signature=secret`, requests }
}

const download = (url: string, more: Partial<Parameters<typeof downloadImage>[1]> = {}) =>
  downloadImage(home, {
    ...{ url: imageAddress(url), sha256: SHA256, signal: new AbortController().signal, onBytes: () => {} },
    remedy: 'Use a file.',
    ...more,
  })
const failureOf = async (promise: Promise<unknown>) => {
  const error = await promise.then(
    () => null,
    (thrown: unknown) => thrown,
  )
  if (!isFailure(error)) throw new Error(`expected a failure, got: ${error}`)
  return error.failure
}

/** Serves ranges as a web server does. */
const whole: Answer = ({ headers: { range } }, response) => {
  const from = Number(range?.match(/^bytes=(\d+)-$/)?.[1] ?? 0)
  if (from >= IMAGE.length) return void response.writeHead(416).end()
  const more = range === undefined ? {} : { 'content-range': `bytes ${from}-${IMAGE.length - 1}/${IMAGE.length}` }
  response.writeHead(range === undefined ? 200 : 206, { 'content-length': IMAGE.length - from, ...more })
  response.end(IMAGE.subarray(from))
}
/** Breaks the first connection after half of the image. */
const brokenOnce =
  (later: Answer): Answer =>
  (request, response, count) => {
    if (count > 1) return later(request, response, count)
    response.writeHead(200, { 'content-length': IMAGE.length })
    response.write(IMAGE.subarray(0, IMAGE.length / 2), () => response.destroy())
  }

test('the file is whole, for its owner alone, and its progress is reported in bytes', async () => {
  const { url } = await serve(whole)
  const progress: [number, number | null][] = []
  const file = await download(url, { onBytes: (...bytes) => progress.push(bytes) })
  expect(readFileSync(file.path).equals(IMAGE)).toBe(true)
  expect(statSync(file.path).mode & 0o777).toBe(0o600)
  expect(statSync(folder()).mode & 0o777).toBe(0o700)
  expect(progress.at(0)).toEqual([0, IMAGE.length])
  expect(progress.at(-1)).toEqual([IMAGE.length, IMAGE.length])
  file.remove()
  expect(readdirSync(folder())).toEqual([])
})

test('a connection that breaks is continued where it ended', async () => {
  const { url, requests } = await serve(brokenOnce(whole))
  const file = await download(url)
  expect(readFileSync(file.path).equals(IMAGE)).toBe(true)
  expect(requests).toHaveLength(2)
  expect(Number(requests[1]?.match(/bytes=(\d+)-/)?.[1])).toBeGreaterThan(0)
  file.release()
})

test('a server without ranges sends everything again', async () => {
  const { url, requests } = await serve(
    brokenOnce((_, response) => void response.writeHead(200, { 'content-length': IMAGE.length }).end(IMAGE)),
  )
  const file = await download(url)
  expect(readFileSync(file.path).equals(IMAGE)).toBe(true)
  expect(requests).toHaveLength(2)
  file.release()
})

test('a server that sends another part is asked for everything', async () => {
  const { url, requests } = await serve(
    brokenOnce((request, response, count) =>
      count === 2
        ? void response.writeHead(206, { 'content-range': `bytes 5-9/${IMAGE.length}` }).end('other')
        : whole(request, response, count),
    ),
  )
  const file = await download(url)
  expect(readFileSync(file.path).equals(IMAGE)).toBe(true)
  expect(requests.at(-1)).toBeNull()
  file.release()
})

test('a cancelled download is kept, and the next one continues there', async () => {
  const cancel = new AbortController()
  const { url, requests } = await serve((request, response, count) => {
    if (count > 1) return whole(request, response, count)
    response.writeHead(200, { 'content-length': IMAGE.length })
    response.write(IMAGE.subarray(0, 1_000))
  })
  const onBytes = (done: number) => {
    if (done === 1_000) cancel.abort()
  }
  expect(await failureOf(download(url, { signal: cancel.signal, onBytes }))).toMatchObject({ kind: 'cancelled' })
  expect(files()).toEqual([`${SHA256}.part`])
  const file = await download(url)
  expect(requests).toEqual([null, 'bytes=1000-'])
  expect(readFileSync(file.path).equals(IMAGE)).toBe(true)
  file.release()
  // Whole already: nothing is sent.
  const again = await download(url)
  expect(requests).toEqual([null, 'bytes=1000-', `bytes=${IMAGE.length}-`])
  again.release()
})

test('what does not have the checksum is removed, and nothing gets it', async () => {
  const { url } = await serve(whole)
  expect(await failureOf(download(url, { sha256: OTHER }))).toMatchObject({
    kind: 'refused',
    message: expect.stringMatching(new RegExp(`noble.img: its SHA-256 is ${SHA256}, not ${OTHER}`)),
  })
  expect(readdirSync(folder())).toEqual([])
})

test('a beginning of another file costs one more download', async () => {
  mkdirSync(folder())
  writeFileSync(join(folder(), `${SHA256}.part`), 'another file')
  const { url, requests } = await serve(whole)
  const file = await download(url)
  expect(requests).toEqual(['bytes=12-', null])
  expect(readFileSync(file.path).equals(IMAGE)).toBe(true)
  file.release()
})

test('two downloads of one file: the second says so', async () => {
  const { url } = await serve(whole)
  const file = await download(url)
  expect(await failureOf(download(url))).toMatchObject({ kind: 'busy' })
  // What is used stays.
  removeUnusedDownloads(home)
  expect(files()).toEqual([`${SHA256}.part`])
  file.release()
  removeUnusedDownloads(home)
  expect(readdirSync(folder())).toEqual([])
})

test('another download removes what nobody uses any more', async () => {
  mkdirSync(folder())
  writeFileSync(join(folder(), `${OTHER}.part`), 'of a build that was given up')
  writeFileSync(join(folder(), 'notes.txt'), 'not ours')
  const { url } = await serve(whole)
  const file = await download(url)
  expect(files()).toEqual([`${SHA256}.part`])
  expect(existsSync(join(folder(), 'notes.txt'))).toBe(true)
  file.release()
})

test.for([
  ['an answer that says no', 404, 'HTTP 404', 'refused'],
  ['a server that fails', 503, 'HTTP 503', 'network'],
] as const)('%s is told with the address and the way on', async ([, status, text, kind]) => {
  const { url } = await serve((_, response) => void response.writeHead(status).end())
  const failure = await failureOf(download(url))
  expect(failure).toMatchObject({ kind, remedy: 'Use a file.' })
  expect(failure.message).toMatch(new RegExp(`^downloading http://127\\.0\\.0\\.1:\\d+/noble\\.img: ${text}$`))
  expect(failure.message).not.toContain('secret')
})

test('a server that cannot be reached is reported with the address and the way on', async () => {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise(resolve => server.close(resolve))
  expect(await failureOf(download(`http://127.0.0.1:${port}/a.img`))).toMatchObject({
    kind: 'network',
    message: expect.stringMatching(new RegExp(`^downloading http://127.0.0.1:${port}/a.img: .*ECONNREFUSED`)),
    remedy: 'Use a file.',
  })
})

test('more than an image can have is not downloaded', async () => {
  const { url } = await serve(
    (_, response) => void response.writeHead(200, { 'content-length': 17 * 1024 ** 3 }).flushHeaders(),
  )
  expect(await failureOf(download(url))).toMatchObject({
    kind: 'refused',
    message: expect.stringContaining('more than 16 GiB'),
  })
})

test.for([
  ['http elsewhere', 'http://example.org/noble.img', 'which is not https'],
  ['a file of this computer', 'file:///etc/passwd', 'which is not https'],
] as const)('a redirect to %s is refused', async ([, location, text]) => {
  const { url } = await serve((_, response) => void response.writeHead(302, { location }).end())
  expect(await failureOf(download(url))).toMatchObject({ kind: 'refused', message: expect.stringContaining(text) })
})

test('a redirect without end is refused', async () => {
  const { url, requests } = await serve((_, response) => void response.writeHead(302, { location: '/again' }).end())
  expect(await failureOf(download(url))).toMatchObject({
    kind: 'refused',
    message: expect.stringContaining('more than 5 times'),
  })
  expect(requests).toHaveLength(6)
})

test('a redirect on this computer is followed', async () => {
  const { url } = await serve((request, response, count) =>
    request.url === '/there'
      ? whole(request, response, count)
      : void response.writeHead(302, { location: '/there' }).end(),
  )
  const file = await download(url)
  expect(readFileSync(file.path).equals(IMAGE)).toBe(true)
  file.release()
})
