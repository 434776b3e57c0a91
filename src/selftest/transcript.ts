/** What a selftest leaves in AGENT_SWARM_HOME/proven/: one file a run, for its reader to judge or to hand on. */
import { chmodSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { arch, cpus, release, totalmem, type } from 'node:os'
import { join } from 'node:path'
import { timestamp } from '../domain.ts'
import { writeFileAtomic } from '../files.ts'
import { systemName } from '../system-name.ts'
import { counted } from '../words.ts'
import { hideOwner, type Owner } from './owner.ts'
import type { PromiseResult } from './run.ts'

/** `commands`: the outside commands that the promise took, as lines. */
export type Tried = PromiseResult & { commands: readonly string[] }
export type Transcript = {
  version: string
  at: Date
  provider: string
  /** What its machines are made of. */
  machines: string
  /** Whether the processors of its machines are emulated by software. */
  isEmulated: boolean
  /** What the provider says of the host: versions of its tools, and what is missing. */
  host: readonly string[]
  tried: readonly Tried[]
}

export const FIRST_LINE = 'agent-swarm doctor --selftest'
const KEPT = 20
const NAME = /^\d{8}-\d{6}-[a-z][a-z0-9-]{1,15}-[0-9a-f]{4}\.txt$/
const MAX_LINE = 500
/** Lines of commands of one promise: a guest that boots is asked again and again. */
const MAX_COMMANDS = 500

/** Tools and guests wrote parts of it. */
const plain = (text: string): string => text.replaceAll(/[\p{Cc}\p{Cf}]/gu, '?').slice(0, MAX_LINE)
const indented = (text: string): string[] => text.split('\n').map(line => `    ${plain(line)}`)

/** Words that stand before a version, `libvirt 9.0.0`, and not before an amount, `of 9.0 GiB`. */
const toolsIn = (text: string): string[] =>
  [...text.matchAll(/\b([A-Za-z][A-Za-z-]*) v?(\d+(?:\.\d+)+)(?![\d.]*\s*(?:[KMGT]i?B|%))/g)]
    .slice(0, 4)
    .map(([, name, version]) => `${name} ${version}`)

/** Where the promises were tried, in few words. The first finding of `diagnose` names the tools. */
const onLine = ({ host: [first = ''], isEmulated }: Pick<Transcript, 'host' | 'isEmulated'>): string =>
  [
    systemName() ?? `${type()} ${release()}`,
    ...toolsIn(first),
    ...(isEmulated ? ['processors emulated by software'] : []),
  ].join(', ')

const systemLine = (): string => {
  const processors = cpus()
  const model = processors[0]?.model.trim() ?? 'unknown'
  const memory = (totalmem() / 1024 ** 3).toFixed(1)
  const name = systemName()
  return `${name === null ? '' : `${name}, `}${type()} ${/^[\d.]+/.exec(release())?.[0] ?? release()} ${arch()}, ${processors.length} CPUs (${model}), ${memory} GiB of memory, Node ${process.versions.node}`
}

const countsOf = (results: readonly PromiseResult[]): Record<PromiseResult['result'], number> => {
  const count = (result: PromiseResult['result']) => results.filter(each => each.result === result).length
  return { ok: count('ok'), failed: count('failed'), 'left-out': count('left-out') }
}
/** `14 promises kept, 1 broken, 2 left out`. */
export const summaryOf = (results: readonly PromiseResult[]): string => {
  const { ok, failed, 'left-out': leftOut } = countsOf(results)
  return `${counted(ok, 'promise')} kept, ${failed} broken, ${leftOut} left out`
}

const triedLines = ({ name, result, milliseconds, why, commands }: Tried): string[] => {
  const more = commands.length - MAX_COMMANDS
  return [
    `${result.padEnd(8)} ${(milliseconds / 1000).toFixed(1).padStart(8)} s  ${name}`,
    ...(why === null ? [] : indented(why)),
    ...commands.slice(0, MAX_COMMANDS).map(line => `  ${plain(line)}`),
    ...(more > 0 ? [`  … ${more} more commands`] : []),
  ]
}

const transcriptText = ({ version, at, provider, machines, isEmulated, host, tried }: Transcript): string =>
  [
    FIRST_LINE,
    `version   ${version}`,
    `date      ${at.toISOString()}`,
    `on        ${plain(onLine({ host, isEmulated }))}`,
    `system    ${plain(systemLine())}`,
    `provider  ${provider}`,
    `machines  ${machines}`,
    `result    ${summaryOf(tried)}`,
    '',
    'What the provider says of this host:',
    ...host.map(line => `  ${plain(line)}`),
    '',
    ...tried.flatMap(triedLines),
    '',
  ].join('\n')

/** Without what tells whose host it was. */
const toHandOn = (transcript: Transcript, owner: Owner): Transcript => {
  const hide = hideOwner(owner)
  return {
    ...transcript,
    host: transcript.host.map(hide),
    tried: transcript.tried.map(({ why, commands, ...each }) => ({
      ...each,
      why: why === null ? null : hide(why),
      commands: commands.map(hide),
    })),
  }
}

/** Writes it, and removes all but the newest. Returns its path. `random`: four hex digits. */
export const writeTranscript = (owner: Owner, transcript: Transcript, random: string): string => {
  const folder = join(owner.home, 'proven')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  chmodSync(folder, 0o700)
  const path = join(folder, `${timestamp(transcript.at)}-${transcript.provider}-${random}.txt`)
  writeFileAtomic(path, transcriptText(toHandOn(transcript, owner)), { mode: 0o600 })
  const old = readdirSync(folder).filter(name => NAME.test(name))
  for (const name of old.sort().slice(0, -KEPT)) rmSync(join(folder, name), { force: true })
  return path
}
