/** What a base image is built from: a file, an address, the system's packages, or the cloud image that the provider names. */
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { sha256Of } from '../../../base-image/image.ts'
import type { BaseSource, CloudImage, ImageBeginning, Provider } from '../../../providers/provider.ts'
import { fail, isFailure } from '../../errors.ts'
import { get, imageAddress, isAddress, shownAddress } from './addresses.ts'
import { downloadImage, type OnBytes, removeUnusedDownloads } from './download.ts'

const DEBIAN_PACKAGES = 'debian-packages'
const REGISTRY = 'oci:'
/** Host, path, and a tag or a digest. */
const REFERENCE =
  /^[a-z0-9][a-z0-9.-]{0,252}(?::\d{1,5})?(?:\/[a-z0-9][a-z0-9._-]{0,127}){1,8}(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|@sha256:[0-9a-f]{64})?$/
/** Characters of a file of checksums. */
const MAX_CHECKSUMS = 1024 ** 2
const CHECKSUMS_DEADLINE_MS = 60_000
/** The packages are named only where the provider can begin with them. */
const otherWays = (beginning: ImageBeginning | undefined): string => {
  const packages = beginning?.from === DEBIAN_PACKAGES ? '--from debian-packages (Debian and Ubuntu, as root), or ' : ''
  return `Check this computer's connection. Or build without it: ${packages}--from FILE, an image that you downloaded elsewhere.`
}

/** An image that was built elsewhere, in a registry of containers. */
type Registry = { kind: 'registry'; reference: string }
/** What was asked for, checked. */
export type Wanted = Local | Registry
/** What this host reads or downloads. */
type Local =
  | { kind: 'debian-packages' }
  | { kind: 'file'; path: string; sha256: string | null }
  /** An image of the platform itself. */
  | { kind: 'reference'; reference: string }
  | { kind: 'download'; url: URL; sha256: string }
  /** Of the vendor's own address. `sha256` null: its file of checksums says it. */
  | { kind: 'cloud-image'; image: CloudImage; sha256: string | null }

const inRegistry = (reference: string, checksum: string | null): Registry => {
  if (checksum !== null)
    throw fail(
      'usage',
      '--sha256 is of a file or an address',
      'Pin the image by its digest: --from oci:HOST/NAME@sha256:HEX',
    )
  if (!REFERENCE.test(reference))
    throw fail(
      'usage',
      `${JSON.stringify(reference.slice(0, 200))} is not an image in a registry`,
      'Write for example --from oci:ghcr.io/acme/base:1',
    )
  return { kind: 'registry', reference }
}

/** What `--from` means. `checksum`: 64 hex digits in lower case, or null. Fails with `usage`. */
export const readWanted = (
  from: string | null,
  checksum: string | null,
  {
    cloudImage: image = null,
    imageReferences: references,
  }: Pick<Provider, 'imageReferences'> & { cloudImage?: CloudImage | null },
): Wanted => {
  if (from === null) {
    if (image !== null) return { kind: 'cloud-image', image, sha256: checksum }
    const way =
      references === undefined
        ? 'an image on disk, or an address: --from FILE'
        : `an image: --from ${references.example}`
    throw fail('usage', '--from is missing', `Name ${way}`)
  }
  if (references?.form.test(from)) {
    if (checksum !== null)
      throw fail('usage', `--sha256 is of a file or an address, and cannot be combined with --from ${from}`)
    return { kind: 'reference', reference: from }
  }
  if (from === '') throw fail('usage', '--from is empty', 'Name an image on disk, an address, or debian-packages.')
  if (from === DEBIAN_PACKAGES) {
    if (checksum !== null)
      throw fail('usage', '--sha256 is of a file or an address, and cannot be combined with --from debian-packages')
    return { kind: DEBIAN_PACKAGES }
  }
  if (from.startsWith(REGISTRY)) return inRegistry(from.slice(REGISTRY.length), checksum)
  if (!isAddress(from)) return { kind: 'file', path: resolve(from), sha256: checksum }
  const url = imageAddress(from)
  if (checksum === null)
    throw fail(
      'usage',
      `--sha256 is missing: what ${shownAddress(url)} sends is compared with it before anything reads it`,
      'The vendor publishes it beside the image, often in a file SHA256SUMS: --sha256 HEX',
    )
  return { kind: 'download', url, sha256: checksum }
}

/** What was asked for, in words. */
export const describeWanted = (wanted: Wanted): string => {
  if (wanted.kind === 'download') return shownAddress(wanted.url)
  if (wanted.kind === 'cloud-image') return `${wanted.image.label} (${wanted.image.url})`
  if (wanted.kind === 'registry') return `${REGISTRY}${wanted.reference}`
  if (wanted.kind === 'reference') return wanted.reference
  return wanted.kind === 'file' ? wanted.path : wanted.kind
}

export type SourceTools = {
  home: string
  signal: AbortSignal
  onPhase: (phase: string) => void
  onBytes: OnBytes
  /** Something that the person should know. */
  onNote: (text: string) => void
  beginning: ImageBeginning | undefined
}
type Source = {
  from: BaseSource
  /** Lets others have what was downloaded. `isBuilt`: it has become an image, so that it is removed. */
  end(isBuilt: boolean): void
}

/** The source for the provider. A checksum is compared before anything reads the file. */
export const openSource = (wanted: Local, tools: SourceTools): Source => {
  let downloaded: Awaited<ReturnType<typeof downloadImage>> | null = null
  const { home, signal, onBytes, onPhase } = tools
  const open = async (): Promise<{ path: string; source: string }> => {
    if (wanted.kind === 'debian-packages' || wanted.kind === 'reference') throw new Error('it is made of no file')
    if (wanted.kind === 'file') {
      const { path, sha256 } = wanted
      if (sha256 !== null) await checkFile(path, sha256, tools)
      return { path, source: path }
    }
    const url = wanted.kind === 'download' ? wanted.url : imageAddress(wanted.image.url)
    const sha256 =
      wanted.kind === 'download' ? wanted.sha256 : (wanted.sha256 ?? (await publishedChecksum(wanted.image, tools)))
    onPhase('download')
    downloaded = await downloadImage(home, { url, sha256, signal, onBytes, remedy: otherWays(tools.beginning) })
    return { path: downloaded.path, source: `${shownAddress(url)} (sha256 ${sha256})` }
  }
  if (wanted.kind !== 'download' && wanted.kind !== 'cloud-image') removeUnusedDownloads(home)
  return {
    from: wanted.kind === 'debian-packages' || wanted.kind === 'reference' ? wanted : { kind: 'file', open },
    end: isBuilt => (isBuilt ? downloaded?.remove() : downloaded?.release()),
  }
}

const checkFile = async (path: string, sha256: string, { onPhase, signal }: SourceTools): Promise<void> => {
  if (!existsSync(path)) throw fail('usage', `${path} does not exist`)
  onPhase('checksum')
  const actual = await sha256Of(path, signal)
  if (actual !== sha256)
    throw fail(
      'refused',
      `reading ${path}: its SHA-256 is ${actual}, not ${sha256}`,
      'Download it again, or correct --sha256.',
    )
}

/** The checksum that the image's own server gives for it: it shows that a download is whole, not who made it. */
const publishedChecksum = async (image: CloudImage, tools: SourceTools): Promise<string> => {
  const { signal, onPhase, onNote } = tools
  onPhase('checksum')
  const [url, of] = [imageAddress(image.checksums), imageAddress(image.url)]
  const doing = `reading the checksum of ${image.label} at ${shownAddress(url)}`
  const file = of.pathname.slice(of.pathname.lastIndexOf('/') + 1)
  const text = await readText(url, AbortSignal.any([signal, AbortSignal.timeout(CHECKSUMS_DEADLINE_MS)])).catch(
    error => {
      if (signal.aborted) throw fail('cancelled', `${doing}: cancelled`)
      if (isFailure(error)) throw error
      const { cause } = error
      throw fail(
        'network',
        `${doing}: ${cause instanceof Error && cause.message !== '' ? cause.message : error.message}`,
        otherWays(tools.beginning),
        error,
      )
    },
  )
  const sha256 = text
    .split('\n')
    .map(line => line.match(/^([0-9a-f]{64}) [ *](\S+)\s*$/))
    .find(match => match?.[2] === file)?.[1]
  if (sha256 === undefined) throw fail('refused', `${doing}: it does not name ${file}`, otherWays(tools.beginning))
  onNote(
    `The checksum comes from ${shownAddress(url)}, the server of the image itself: it shows that the download is whole, not who made it. To pin the image: --sha256 ${sha256}`,
  )
  return sha256
}

const readText = async (url: URL, signal: AbortSignal): Promise<string> => {
  const response = await get(url, { signal, sameOrigin: true })
  if (response.status !== 200) {
    await response.body?.cancel()
    throw new Error(`HTTP ${response.status}`)
  }
  let text = ''
  const decoder = new TextDecoder()
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk, { stream: true })
    if (text.length > MAX_CHECKSUMS) throw new Error(`it has more than ${MAX_CHECKSUMS} characters`)
  }
  return text
}
