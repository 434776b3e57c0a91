/** Scripts about the project in a machine, and their answers. The machine is hostile: an answer is parsed, bounded and never believed. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Provider } from '../../../providers/provider.ts'
import { fail } from '../../errors.ts'
import type { EnvironmentRow } from '../../registry/registry.ts'
import type { RunnerContext } from '../context.ts'
import { runInGuest } from '../ssh/guest.ts'

/** A machine that answers. */
export type Guest = {
  context: Pick<RunnerContext, 'run' | 'home'>
  provider: Provider
  row: Pick<EnvironmentRow, 'vmId' | 'ssh'>
}

/** Characters of an answer. */
const MAX_ANSWER = 2_000_000
/** A machine under software emulation, next to others, takes minutes for what takes a second elsewhere. */
const DEADLINE_MS = 5 * 60_000
const LINE = /^([a-z]+(?: [\x20-\x7e]{1,200})?)\t([A-Za-z0-9+/=]*)$/

export const readScript = (name: string): string => readFileSync(join(import.meta.dirname, name), 'utf8')
export const base64 = (text: string | Uint8Array): string => Buffer.from(text).toString('base64')

/** Outside text is base64 in the script: no character of it means something to a shell. */
const assemble = (part: string, variables: Record<string, string>, calls: string): string =>
  [
    ...Object.entries(variables).map(([name, value]) => `${name}_64='${base64(value)}'\n`),
    ...[readScript('guest.sh'), readScript(part), calls],
  ].join('')

export type Answer = { word: string; text: string }[]

/** Throws `unknown` when the machine says that it failed, or what we do not understand. */
export const parseAnswer = (stdout: string): Answer => {
  const lines = stdout.trimEnd().split('\n')
  if (lines.pop() !== 'end') throw fail('unknown', "the machine's answer was incomplete")
  const answer = lines.map(line => {
    const [, word, text] = line.match(LINE) ?? []
    if (word === undefined || text === undefined) throw fail('unknown', "the machine's answer has an invalid line")
    return { word, text: Buffer.from(text, 'base64').toString() }
  })
  const failed = answer.find(({ word }) => word === 'failed')
  if (failed !== undefined) throw fail('unknown', shown(failed.text, 2_000))
  return answer
}

/** The first answer with this word. */
export const answered = (answer: Answer, word: string): string | null =>
  answer.find(line => line.word === word)?.text ?? null

/** Outside text for a message: one line for each of its own, and nothing that moves a cursor. */
export const shown = (text: string, most: number): string =>
  text
    .slice(-most)
    .replaceAll(/\r\n?/g, '\n')
    .replaceAll(/(?!\n)[\p{Cc}\p{Cf}]/gu, ' ')
    .trim()

export const askGuest = async (
  { context, provider, row }: Guest,
  part: string,
  { variables, calls = '' }: { variables: Record<string, string>; calls?: string },
  { signal, deadline = DEADLINE_MS }: { signal: AbortSignal; deadline?: number },
): Promise<Answer> => {
  const script = assemble(part, { user: row.ssh?.user ?? '', ...variables }, calls)
  return parseAnswer(
    (await runInGuest(context, provider, row.vmId, script, { signal, deadline, maxOutput: MAX_ANSWER })).stdout,
  )
}
