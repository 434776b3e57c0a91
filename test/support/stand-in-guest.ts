/**
 * A guest with its own root folder: scripts run in a shell on this host as the test's user, and `systemctl` is a script that
 * starts and stops the programs of units. Around a synthetic machine, so that the rest of the provider is real.
 */
import { execFile, execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, wrapProviders } from './context.ts'

const SYSTEMCTL = `#!/bin/bash
# The part of systemctl that the product uses. A unit's process is the leader of its own group.
units=$AGENT_SWARM_GUEST_ROOTS/etc/systemd/system
state=$AGENT_SWARM_GUEST_ROOTS/units; mkdir -p "$state"
command=$1; unit=\${*: -1}
alive() { [ -f "$state/$unit.pid" ] && kill -0 "-$(cat "$state/$unit.pid")" 2>/dev/null; }
case $command in
daemon-reload) ;;
enable) touch "$state/$unit.enabled" ;;
disable) rm -f "$state/$unit.enabled" ;;
start)
  [ -f "$units/$unit" ] || { echo "Unit $unit not found." >&2; exit 5; }
  ! alive || exit 0
  line=$(sed -n 's/^ExecStart=//p' "$units/$unit")
  setsid bash -c 'echo $$ >"$1.pid"; exec $2' sh "$state/$unit" "$line" </dev/null >/dev/null 2>&1 &
  until [ -s "$state/$unit.pid" ]; do :; done ;;
stop) ! alive || kill -9 -- "-$(cat "$state/$unit.pid")"; rm -f "$state/$unit.pid" ;;
show) if alive; then echo active; else echo inactive; fi ;;
esac
`

/** The ticket's machines are stand-ins from now on. */
export const useStandInGuests = ({ context, home }: TestContext): void => {
  const bin = join(home, 'guest-bin')
  mkdirSync(bin, { recursive: true })
  writeFileSync(join(bin, 'systemctl'), SYSTEMCTL, { mode: 0o755 })
  wrapProviders(context, ({ ownSystem: _, ...provider }) => ({
    ...provider,
    runInGuest: (vmId, script, { signal, deadline = 60_000 } = {}) => {
      const disk = join(home, 'synthetic', vmId, 'disk')
      const env = {
        ...{ HOME: disk, AGENT_SWARM_GUEST_ROOTS: disk, PATH: `${bin}:${process.env.PATH}` },
        ...{ GIT_CONFIG_SYSTEM: join(disk, 'etc/gitconfig') },
      }
      return new Promise((resolve, reject) => {
        const options = {
          cwd: disk,
          env,
          timeout: deadline,
          maxBuffer: 32 * 1024 * 1024,
          ...(signal ? { signal } : {}),
        }
        const child = execFile('/bin/sh', ['-s'], options, (error, stdout, stderr) =>
          error !== null && typeof error.code !== 'number' ? reject(error) : resolve({ stdout, stderr, exitCode: 0 }),
        )
        child.stdin?.end(script)
      })
    },
  }))
}

const ENV = {
  ...{ PATH: process.env.PATH, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1', HOME: '/nonexistent' },
  ...{ GIT_AUTHOR_NAME: 'n', GIT_AUTHOR_EMAIL: 'e', GIT_COMMITTER_NAME: 'n', GIT_COMMITTER_EMAIL: 'e' },
}

/** A git remote on disk. `through` is what stands in for https://github.com/. */
export const openRemote = (home: string, repo = 'acme/shop') => {
  const root = join(home, 'remotes')
  const bare = join(root, `${repo}.git`)
  const work = join(root, 'work', repo)
  const git = (...argv: string[]) => execFileSync('git', argv, { cwd: work, env: ENV, encoding: 'utf8' }).trim()
  mkdirSync(work, { recursive: true })
  mkdirSync(bare, { recursive: true })
  execFileSync('git', ['init', '-q', '--bare', '-b', 'main', bare], { env: ENV })
  git('init', '-q', '-b', 'main')
  git('remote', 'add', 'origin', bare)
  return {
    through: `file://${root}/`,
    bare,
    git,
    /** Commits these files on a branch, and pushes it. `at`: seconds since 1970. */
    push: (branch: string, files: Record<string, string>, at = 1_700_000_000) => {
      if (git('branch', '--list', branch) === '') git('checkout', '-q', '-B', branch)
      else git('checkout', '-q', branch)
      for (const [name, text] of Object.entries(files)) {
        mkdirSync(join(work, name, '..'), { recursive: true })
        writeFileSync(join(work, name), text)
      }
      git('add', '-A')
      execFileSync('git', ['commit', '-qm', 'a change', '--allow-empty'], {
        ...{ cwd: work, env: { ...ENV, GIT_COMMITTER_DATE: `${at} +0000` } },
      })
      git('push', '-q', 'origin', branch)
    },
    branches: () => git('ls-remote', '--heads', 'origin'),
  }
}

/** A file in the machine of the ticket; null when there is none. */
export const fileIn = (it: TestContext, ticket: string, name: string): string | null => {
  const path = join(it.home, 'synthetic', it.vmIdOf(ticket), 'disk', name)
  return existsSync(path) ? readFileSync(path, 'utf8') : null
}
