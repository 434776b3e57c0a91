/**
 * People's own keys in machines, so that they log in from other hosts while no key of this home leaves its host. They stand in
 * authorized_keys beside the key of the home, each with our word at the end of its line: those that are not wanted any more go.
 */
import { readFileSync, statSync } from 'node:fs'
import type { Provider } from '../../../providers/provider.ts'
import type { Config } from '../../config/config.ts'
import { fail } from '../../errors.ts'
import { isPublicKey } from '../../schema/public-key.ts'
import { shellWord } from '../../shell-word.ts'
import { runAsUserInGuest } from './guest.ts'

const MAX_FILE = 64 * 1024
const MAX_KEYS = 200
const DEADLINE_MS = 60_000
/** The end of each of our lines. */
const OURS = 'agent-swarm-person'

const keysInFile = (path: string): string[] => {
  const doing = `reading the keys of people in ${path}`
  const stats = statSync(path, { throwIfNoEntry: false })
  if (stats?.isFile() !== true) throw fail('not-configured', `${doing}: it is not a file`, 'Correct authorizedKeys.')
  if (stats.size > MAX_FILE) throw fail('not-configured', `${doing}: it has more than ${MAX_FILE / 1024} KiB`)
  const lines = readFileSync(path, 'utf8')
    .split(/\r?\n/)
    .map(line => line.trim())
  return lines.flatMap((line, at) => {
    if (line === '' || line.startsWith('#')) return []
    if (isPublicKey(line)) return [line]
    throw fail(
      'not-configured',
      `${doing}: line ${at + 1} is not a public key without options`,
      'Each line is a key, for example: ssh-ed25519 AAAA… alice@example.org',
    )
  })
}

/** The keys of the setting and of its files, each once. Null: there is no setting, and machines keep what they have. */
export const peopleKeys = ({ authorizedKeys }: Pick<Config, 'authorizedKeys'>): string[] | null => {
  if (authorizedKeys === null) return null
  const keys = [...new Set(authorizedKeys.flatMap(text => (isPublicKey(text) ? [text] : keysInFile(text))))]
  if (keys.length > MAX_KEYS)
    throw fail('not-configured', `authorizedKeys has ${keys.length} keys, and ${MAX_KEYS} are the most`)
  return keys
}

/** Runs as the user whose file it is: root must not write where that user decides what a path means. */
export const keysScript = (keys: readonly string[]): string => `set -eu
umask 077
mkdir -p "$HOME/.ssh"
file=$HOME/.ssh/authorized_keys
touch "$file"
new=$(mktemp "$file.XXXXXX")
trap 'rm -f "$new"' EXIT
grep -v ' ${OURS}$' "$file" >"$new" || [ $? -eq 1 ]
${keys.map(key => `printf '%s\\n' ${shellWord(`${key} ${OURS}`)} >>"$new"\n`).join('')}cmp -s "$new" "$file" || mv -f "$new" "$file"
`

/** Nothing where the setting is missing, or the guest is not reached over SSH. */
export const putPeopleKeys = async (
  context: Parameters<typeof runAsUserInGuest>[0] & { config: Pick<Config, 'authorizedKeys'> },
  provider: Provider,
  vmId: string,
  signal: AbortSignal,
): Promise<void> => {
  if (provider.runInGuest !== undefined) return
  const keys = peopleKeys(context.config)
  if (keys === null) return
  const options = { deadline: DEADLINE_MS, signal, doing: `putting the keys of people into ${vmId}` }
  await runAsUserInGuest(context, provider, vmId, keysScript(keys), options)
}
