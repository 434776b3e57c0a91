/** What both status pages show. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { MAX_RESCUES_LISTED } from '../../domain.ts'
import type { RunnerContext } from '../../runner/context.ts'
import type { Progress } from '../../schema/action.ts'
import type { Rescued } from '../../schema/operation.ts'
import { counted, timeBetween } from '../../words.ts'
import { onOneLine, stripControls, type Terminal } from '../terminal/output.ts'
import { paragraph, table } from '../terminal/table.ts'
import { size, when } from '../terminal/text.ts'

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
  const bytes = all.reduce((sum, rescue) => sum + (rescue.bytes ?? 0), 0)
  return [
    ...section(
      'RESCUED',
      table(
        [
          { title: 'TICKET', whole: true },
          'SAVED',
          'SIZE',
          'REPOSITORIES',
          { title: onTerminal ? 'NAME' : 'FOLDER', whole: true },
        ],
        all
          .slice(0, RESCUES_SHOWN)
          .map(rescued => [
            rescued.ticket,
            when(rescued.savedAt, now, terminal),
            size(rescued.bytes),
            stripControls(rescued.repositories?.join(', ') ?? 'rescued.json cannot be read'),
            onTerminal ? rescued.name : rescued.folder,
          ]),
        terminal,
      ),
    ),
    ...(older > 0 ? [`and ${older} older`] : []),
    paragraph(
      `${all.length === MAX_RESCUES_LISTED ? 'The newest ' : ''}${counted(all.length, 'rescue')}, ${size(bytes)}, in ${folder}. To bring one back: agent-swarm rescued restore NAME`,
      terminal,
    ),
  ]
}

export const phaseText = (
  { phase, interrupted }: { phase: Progress | null; interrupted: boolean },
  now: Date,
): string => {
  if (interrupted) return 'interrupted; the next command on the ticket, or the runner, recovers it'
  return phase === null
    ? 'starting'
    : `${onOneLine(phase.phase)}, for ${timeBetween(Date.parse(phase.at), now.getTime())}`
}
