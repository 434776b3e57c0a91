/** A virsh that is a script: a pool with these volumes, and no machine. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** `answers`: cases of sh for other commands; `$last` is the last argument. */
export const standInVirsh = (
  folder: string,
  { volumes, answers = '' }: { volumes: readonly string[]; answers?: string },
): void => {
  const pool = `<pool type='dir'><name>agent-swarm</name><capacity unit='bytes'>9000000000</capacity><available unit='bytes'>9000000000</available><target><path>/pool</path></target></pool>`
  mkdirSync(folder, { recursive: true })
  writeFileSync(
    join(folder, 'virsh'),
    `#!/bin/sh
for last; do :; done
case "$*" in
  ${answers}
  *vol-list*) printf ' %s /x\\n' ${volumes.join(' ')} ;;
  *pool-dumpxml*) echo ' agent-swarm active yes'; echo "${pool}" ;;
  *pool-list*) echo ' agent-swarm active yes' ;;
esac
`,
  )
  chmodSync(join(folder, 'virsh'), 0o755)
}
