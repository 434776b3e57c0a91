/** What people are told when a machine answers; once, about the isolation of machines: that there is none, or how to open a private network. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Provider } from '../../providers/provider.ts'
import { writeFileAtomic } from '../files.ts'
import { waitUntilReady } from './machine.ts'
import type { Target } from './operation.ts'

/** The last note that was printed, by provider. Without a readable file, none was. */
const readTold = (file: string): Record<string, unknown> => {
  try {
    return existsSync(file) ? { ...JSON.parse(readFileSync(file, 'utf8')) } : {}
  } catch {
    return {}
  }
}

/** The sentence, without a full stop; null when it was printed before. Another reason is printed again. */
export const isolationNote = async (home: string, provider: Provider): Promise<string | null> => {
  const report = await provider.isolated?.()
  if (report === undefined) return null
  const file = join(home, 'isolation-told.json')
  const told = readTold(file)
  const now = report.isolated ? 'isolated' : report.reason
  if (told[provider.name] === now) return null
  writeFileAtomic(file, JSON.stringify({ ...told, [provider.name]: now }))
  const text = report.isolated
    ? report.note
    : [`Machines are not isolated here: ${report.reason}`, report.remedy].filter(part => part !== null).join('. ')
  return text.replace(/\.$/, '')
}

/** Waits until the guest answers. Returns what is added to the summary of the action: notes on the machine, and on isolation when that was not told before. */
export const waitAndTell = async (target: Target, deadline?: number): Promise<string> => {
  // The guest boots meanwhile. An isolation that cannot be asked for is no reason to fail.
  const asked = isolationNote(target.context.home, target.provider).catch(() => null)
  const notes = await waitUntilReady(target, deadline)
  const note = await asked
  return [...notes, ...(note === null ? [] : [note])].map(text => `. ${text}`).join('')
}
