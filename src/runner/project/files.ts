/** The operator's files, copied into the project. */
import type { ProjectRow } from '../../registry/registry.ts'
import { askGuest, base64, type Guest, shown } from './guest.ts'
import { operatorFiles } from './operator-files.ts'

/** Copies the operator's files. Returns what could not be copied. `onlyMissing`: those that are there stay as they are. */
export const copyFiles = async (
  guest: Guest,
  { repo, path }: Pick<ProjectRow, 'repo' | 'path'>,
  { onlyMissing, signal }: { onlyMissing: boolean; signal: AbortSignal },
): Promise<string[]> => {
  const { files, problems } = operatorFiles(guest.context.home, repo)
  if (files.length === 0) return problems
  const calls = files
    .map(
      ({ name, content }) => `copy_file '${base64(name)}' '${base64(content)}' '${onlyMissing ? 1 : ''}' </dev/null\n`,
    )
    .join('')
  const answer = await askGuest(guest, 'files.sh', { variables: { path }, calls: `${calls}echo end\n` }, { signal })
  return [...problems, ...answer.flatMap(({ word, text }) => (word === 'refused' ? shown(text, 500) : []))]
}
