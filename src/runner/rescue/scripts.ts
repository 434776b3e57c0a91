/** The two scripts that run in a guest. Each begins with its variables and the part that both share. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import type { ProjectRow } from '../../registry/registry.ts'
import { fullCommit } from '../../schema/basics.ts'
import { MAX_REFLOG, MAX_REPOSITORIES } from './unsaved-work.ts'

const readPart = (name: string): string => readFileSync(join(import.meta.dirname, name), 'utf8')

/** Ignored files that count as work: patterns below the folder of the project. */
export type Saved = Pick<ProjectRow, 'path' | 'save'>

/** As base64, of which no sign means something to a shell. */
const savedLines = (saved: Saved | null): string => {
  const line = (name: string, value: string) => `${name}='${Buffer.from(value).toString('base64')}'\n`
  return line('save_path_64', saved?.path ?? '') + line('save_64', saved?.save.join('\n') ?? '')
}

const LIMITS = { max_repositories: MAX_REPOSITORIES, max_reflog: MAX_REFLOG }

/** These variables are whole numbers: nothing that a guest or a person wrote becomes part of a script. */
const assemble = (part: string, variables: Record<string, number>): string => {
  const assignments = Object.entries(variables).map(([name, value]) => {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${name} must be a whole number, not ${value}`)
    return `${name}=${value}\n`
  })
  return [...assignments, readPart('repositories.sh'), readPart(part)].join('')
}

/**
 * Prints the unsaved work of all repositories; `parseUnsavedWork` reads it. `mergedCommits`: whole ids of commits that are saved
 * elsewhere, with their ancestors.
 */
export const unsavedWorkScript = (mergedCommits: readonly string[] = [], saved: Saved | null = null): string => {
  for (const id of mergedCommits) if (!v.is(fullCommit, id)) throw new RangeError('a merged commit must be a whole id')
  return `${savedLines(saved)}merged='${mergedCommits.join(' ')}'\n${assemble('unsaved-work.sh', LIMITS)}`
}

/**
 * Prints a bundle of one repository, and a report on standard error that `parseBundleReport` reads. `line`: the repository's line
 * in the guest's list, from 1. `savedAt`: the time of the commits that hold uncommitted changes; with the same time, the same work
 * has the same report.
 */
export const bundleScript = (line: number, saved: Saved | null, savedAt: Date): string =>
  bundlePart(line, saved, savedAt, 0)
/** Prints the report alone. */
export const bundleReportScript = (line: number, saved: Saved | null, savedAt: Date): string =>
  bundlePart(line, saved, savedAt, 1)
const bundlePart = (line: number, saved: Saved | null, savedAt: Date, report_only: 0 | 1): string => {
  const saved_at = Math.floor(savedAt.getTime() / 1000)
  return savedLines(saved) + assemble('bundle.sh', { ...LIMITS, line, saved_at, report_only })
}
