/** What both status pages show. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { RunnerContext } from '../../runner/context.ts'
import type { Progress } from '../../schema/action.ts'
import type { Rescued } from '../../schema/operation.ts'
import { stripControls, type Terminal } from '../terminal/output.ts'
import { paragraph, table } from '../terminal/table.ts'
import { duration, size, when } from '../terminal/text.ts'

/** How a page is rendered. */
export type View = { now: Date; terminal: Terminal }

/** Rescues that a page shows: the newest. */
const RESCUES_SHOWN = 10

const rescuedFolder = (home: string) => join(home, 'rescued')
export const listRescued = async ({ home }: RunnerContext): Promise<Rescued[]> =>
  existsSync(rescuedFolder(home)) ? (await import('../../runner/rescue/list.ts')).listRescued(home) : []

/** A table under its title, below an empty line. */
export const section = (title: string, text: string): string[] => ['', title, text]

export const rescuedSection = (all: readonly Rescued[], home: string, { now, terminal }: View): string[] => {
  if (all.length === 0) return []
  const folder = rescuedFolder(home)
  const onTerminal = terminal.stdout.isTTY === true
  const older = all.length - RESCUES_SHOWN
  return [
    ...section(
      'RESCUED',
      table(
        [{ title: 'TICKET', whole: true }, 'SAVED', 'SIZE', 'REPOSITORIES', { title: 'FOLDER', whole: true }],
        all
          .slice(0, RESCUES_SHOWN)
          .map(rescued => [
            rescued.ticket,
            when(rescued.savedAt, now, terminal),
            size(rescued.bytes),
            stripControls(rescued.repositories?.join(', ') ?? 'rescued.json cannot be read'),
            onTerminal ? rescued.folder.slice(folder.length + 1) : rescued.folder,
          ]),
        terminal,
      ),
    ),
    ...(older > 0 ? [`and ${older} older`] : []),
    paragraph(
      `The folders are in ${folder}. The rescued.json in each has the commands that restore the work.`,
      terminal,
    ),
  ]
}

export const phaseText = (
  { phase, interrupted }: { phase: Progress | null; interrupted: boolean },
  now: Date,
): string => {
  if (interrupted) return 'interrupted; the next command on the ticket, or the runner, recovers it'
  return phase === null ? 'starting' : `${phase.phase}, for ${duration(phase.at, now)}`
}
