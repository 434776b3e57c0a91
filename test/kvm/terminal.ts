/** Commands on a terminal, interrupted by Ctrl-C. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { onTerminal, pressedAt, type Step } from '../support/terminal.ts'
import { entry, swarmEnvironment } from './cli.ts'

export const typeOn = async (
  words: readonly string[],
  steps: readonly Step[],
  environment: Record<string, string> = {},
): Promise<{ screen: string; code: number }> => {
  const command = [process.execPath, entry, ...words]
  const { screen, code } = await onTerminal(command, { ...swarmEnvironment, LC_ALL: 'C.UTF-8', ...environment }, steps)
  return { code, screen: stripVTControlCharacters(screen) }
}

/** Presses Ctrl-C while the command stands still at the beginning of each phase. */
export const interruptAt = async (phases: readonly string[], ...words: string[]) => {
  const marks = mkdtempSync(join(tmpdir(), 'agent-swarm-marks-'))
  try {
    const { environment, type } = pressedAt(phases, marks)
    return await typeOn(words, type, environment)
  } finally {
    rmSync(marks, { recursive: true })
  }
}
