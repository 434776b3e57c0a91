/** Our files in a machine: `swarm`, its MCP server, what git runs for pushes, and the machine's end of the link. */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { GUEST_LIBRARY, GUEST_STATE, LINK_PORTS } from '../../schema/link.ts'
import { shellWord } from '../../shell-word.ts'

/** Where our files lie in a machine, and which ports are the link's. Tests have several machines on one loopback. */
export const GUEST = { library: GUEST_LIBRARY, state: GUEST_STATE, commands: '/usr/local/bin', ports: LINK_PORTS }
export type GuestLayout = Omit<typeof GUEST, 'ports'> & { ports: Readonly<Record<keyof typeof LINK_PORTS, number>> }

/** Beside the sources, and beside the compiled scripts in the package. */
const FOLDER = join(import.meta.dirname, '../../../guest')
const COMMANDS = ['swarm', 'git-remote-agent-swarm']
const NAMES = ['link.sh', ...COMMANDS, 'mcp.mjs']

type GuestFiles = { hash: string; files: { name: string; content: Buffer }[] }
let read: GuestFiles | null = null
/** In a checkout without its bundle, `swarm mcp` says what is missing. */
const guestFiles = (): GuestFiles => {
  if (read !== null) return read
  const files = NAMES.filter(name => existsSync(join(FOLDER, name))).map(name => ({
    name,
    content: readFileSync(join(FOLDER, name)),
  }))
  const sum = createHash('sha256')
  for (const { name, content } of files) sum.update(`${name} ${content.length}\n`).update(content)
  read = { hash: sum.digest('hex').slice(0, 16), files }
  return read
}

/** What a machine that has these files says. */
export const guestHash = (): string => guestFiles().hash

/** A command line that prints the hash of the files that a machine has, and succeeds without them, too. */
export const hashCommand = ({ library }: GuestLayout = GUEST): string =>
  `cat ${shellWord(join(library, 'hash'))} 2>/dev/null || :`

/** A script for root that puts the files in. Their hash goes last. */
export const putScript = ({ library, state, commands }: GuestLayout = GUEST): string => {
  const { hash, files } = guestFiles()
  const at = (name: string) => shellWord(join(library, name))
  const put = files.map(({ name, content }) =>
    [
      `base64 -d >${at(`${name}.new`)} <<'END'`,
      content.toString('base64').replaceAll(/.{76}/g, '$&\n'),
      'END',
      `chmod 755 ${at(`${name}.new`)}`,
      `mv -f ${at(`${name}.new`)} ${at(name)}`,
    ].join('\n'),
  )
  return [
    'set -eu',
    'umask 022',
    `mkdir -p ${shellWord(library)} ${shellWord(commands)} ${shellWord(state)}`,
    // The ssh user's.
    `chown "\${SUDO_USER:-$(id -un)}" ${shellWord(state)}`,
    ...put,
    ...COMMANDS.map(name => `ln -sf ${at(name)} ${shellWord(join(commands, name))}`),
    `echo ${hash} >${at('hash')}`,
    '',
  ].join('\n')
}
