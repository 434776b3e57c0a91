/** A home with three environments, and programs on PATH, for tests of completion. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { openRegistry } from '../../src/registry/registry.ts'

/** Texts that a shell must never run. */
export const hostileTexts = [
  '$(touch pwned)',
  '`touch pwned`',
  ';touch pwned;',
  "'; touch pwned; '",
  'a\ntouch pwned',
  '\u001b]0;x\u0007',
]

export const openCompletionHome = () => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-completion-'))
  const home = join(folder, 'state')
  const bin = join(folder, 'bin')
  mkdirSync(bin)
  return {
    folder,
    home,
    environment: {
      PATH: [bin, '/usr/bin', '/bin'].join(delimiter),
      HOME: folder,
      AGENT_SWARM_HOME: home,
      TERM: 'xterm',
      LC_ALL: 'C.UTF-8',
    },
    /** Puts an executable on PATH. */
    program: (name: string, script: string) => {
      const path = join(bin, name)
      writeFileSync(path, `#!/bin/sh\n${script}\n`)
      chmodSync(path, 0o755)
    },
    addEnvironments: () => {
      openRegistry(join(home, 'registry.db')).close()
      const db = new DatabaseSync(join(home, 'registry.db'))
      const environment = db.prepare(
        "insert into environment (ticket, provider, vm_id, base_image, status) values (?, 'kvm', ?, 'debian-12', ?)",
      )
      environment.run('DROP-2100', 'as-drop-2100-00000000', 'running')
      environment.run('DROP-2101', 'as-drop-2101-00000000', 'stopped')
      environment.run('WEB-7', 'as-web-7-00000000', 'lost')
      const checkpoint = db.prepare(
        'insert into checkpoint (ticket, name, why, created_at, with_memory) values (?, ?, ?, ?, 1)',
      )
      checkpoint.run('DROP-2100', 'before-refactor', 'command', '2026-11-23T10:00:00Z')
      checkpoint.run('DROP-2100', 'push-1234567', 'push', '2026-11-23T11:00:00Z')
      checkpoint.run('WEB-7', 'other', 'command', '2026-11-23T11:00:00Z')
      db.close()
    },
    close: () => rmSync(folder, { recursive: true, force: true }),
  }
}
