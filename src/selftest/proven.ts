/**
 * Where a provider has kept its promises: the newest transcript that is shipped in docs/proven/, else the newest one of this home.
 * A transcript counts when it says that no promise was broken, and is whole. Its text is not trusted: anybody may have sent it in.
 */
import { existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DAY_MS } from '../clock.ts'
import type { ProviderName } from '../domain.ts'
import { FIRST_LINE } from './transcript.ts'

const MAX_FILES = 50
/** The commands of thirty promises. */
const MAX_BYTES = 16 * 1024 * 1024

/** `on`: the system and the versions of the tools; null in a transcript of an earlier version. */
type Proof = { provider: ProviderName; at: Date; on: string | null }

const counted = (lines: readonly string[], result: string): number => {
  const start = new RegExp(`^${result} +\\d+\\.\\d s {2}\\S`)
  return lines.filter(line => start.test(line)).length
}

/** Null unless the whole transcript is there and every promise that was tried was kept. */
export const parseTranscript = (text: string): Proof | null => {
  const lines = text.split('\n')
  if (lines[0] !== FIRST_LINE) return null
  const end = lines.indexOf('')
  const [head, body] = [lines.slice(1, end), lines.slice(end)]
  const row = (name: string) =>
    head
      .find(line => line.startsWith(`${name.padEnd(10)}`))
      ?.slice(10)
      .trim()
  const [, kept, leftOut] = /^(\d{1,4}) promises? kept, 0 broken, (\d{1,4}) left out$/.exec(row('result') ?? '') ?? []
  const isWhole =
    Number(kept) > 0 &&
    counted(body, 'ok') === Number(kept) &&
    counted(body, 'left-out') === Number(leftOut) &&
    counted(body, 'failed') === 0
  const provider = row('provider') ?? ''
  const at = new Date(row('date') ?? '')
  if (!isWhole || Number.isNaN(at.getTime())) return null
  const on = row('on') ?? ''
  return { provider, at, on: /^\P{C}{1,200}$/u.test(on) ? on : null }
}

const readBounded = (path: string): string => {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  return stats?.isFile() === true && stats.size <= MAX_BYTES ? readFileSync(path, 'utf8') : ''
}

/** The newest proof of the provider in a folder. A date in the future proves nothing. */
const newestIn = (folder: string, provider: ProviderName, now: Date): Proof | null => {
  const isNamed = new RegExp(`^(?:\\d{8}-\\d{6}-)?${provider}(?:-[a-z0-9.-]{1,60})?\\.txt$`)
  const names = existsSync(folder) ? readdirSync(folder).filter(name => isNamed.test(name)) : []
  const proofs = names
    .sort()
    .slice(-MAX_FILES)
    .map(name => parseTranscript(readBounded(join(folder, name))))
    .filter(proof => proof?.provider === provider && proof.at.getTime() <= now.getTime() + DAY_MS)
  return proofs.reduce((newest, proof) => ((proof?.at ?? 0) > (newest?.at ?? 0) ? proof : newest), null) ?? null
}

const day = (at: Date): string => at.toISOString().slice(0, 10)

/** `Debian GNU/Linux 12 (bookworm), libvirt 9.0.0, 2026-11-29`, or `here, 2026-11-28`; null: unproven. */
export const provenOn = (
  provider: ProviderName,
  { shipped, home, now }: { shipped: string; home: string; now: Date },
): string | null => {
  const proof = newestIn(shipped, provider, now)
  if (proof?.on != null) return `${proof.on}, ${day(proof.at)}`
  const own = newestIn(join(home, 'proven'), provider, now)
  return own === null ? null : `here, ${day(own.at)}`
}
