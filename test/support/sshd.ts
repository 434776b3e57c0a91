/** Machines for tests of the link: a real sshd on loopback, as the user of the test, with folders of its own in place of a system. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import type { RunnerContext } from '../../src/runner/context.ts'
import type { GuestLayout } from '../../src/runner/link/guest-files.ts'
import { loginKey, pinnedHostKey } from '../../src/runner/ssh/keys.ts'
import { wrapProviders } from './context.ts'

const SSHD = '/usr/sbin/sshd'
/** Null: the tests can run. */
export const noSshd: string | null = existsSync(SSHD) ? null : `${SSHD} is not installed (openssh-server)`

/** Ports on loopback that were free just now. */
const freePorts = async (count: number): Promise<number[]> => {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>(resolve => {
          const server = createServer().listen(0, '127.0.0.1', () => resolve(server))
        }),
    ),
  )
  const ports = servers.map(server => (server.address() as { port: number }).port)
  await Promise.all(servers.map(server => new Promise(resolve => server.close(resolve))))
  return ports
}

/** Folders of a machine below `root`, and ports of its own. */
const layoutIn = async (root: string): Promise<GuestLayout> => {
  const [git = 0, model = 0, requests = 0] = await freePorts(3)
  const folder = (name: string) => join(root, name)
  return {
    ...{ library: folder('library'), state: folder('state'), commands: folder('bin') },
    ports: { git, model, requests },
  }
}

/** Starts an sshd that is the machine `vmId` of this home. `hasHome`: its user has a home folder there, with authorized_keys. */
const openSshd = async (context: Pick<RunnerContext, 'run' | 'home'>, root: string, vmId: string, hasHome: boolean) => {
  const [publicKey, hostKey, [port = 0]] = await Promise.all([
    loginKey(context.run, context.home),
    pinnedHostKey(context.run, context.home, vmId),
    freePorts(1),
  ])
  const at = (name: string) => join(root, name)
  mkdirSync(at('tools'), { recursive: true })
  writeFileSync(at('tools/sudo'), '#!/bin/sh\nshift\nexec "$@"\n')
  chmodSync(at('tools/sudo'), 0o755)
  writeFileSync(at('host-key'), hostKey.privateKey, { mode: 0o600 })
  writeFileSync(at('authorized_keys'), `${publicKey}\n`, { mode: 0o600 })
  writeFileSync(
    at('sshd_config'),
    [
      `ListenAddress 127.0.0.1:${port}`,
      `HostKey ${at('host-key')}`,
      `AuthorizedKeysFile ${at('authorized_keys')}${hasHome ? ` ${at('home/.ssh/authorized_keys')}` : ''}`,
      ...['PidFile none', 'UsePAM no', 'StrictModes no', 'PasswordAuthentication no', 'PermitRootLogin yes'],
      ...['MaxStartups 100', `SetEnv PATH=${at('tools')}:/usr/bin:/bin${hasHome ? ` HOME=${at('home')}` : ''}`],
      '',
    ].join('\n'),
  )
  if (hasHome) mkdirSync(at('home'))
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 })
  const sshd: ChildProcess = spawn(SSHD, ['-D', '-e', '-f', at('sshd_config')], { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  await new Promise<void>((resolve, reject) => {
    sshd.stderr?.on('data', bytes => {
      log += bytes
      if (log.includes('Server listening')) resolve()
    })
    sshd.once('exit', () => reject(new Error(`sshd ended: ${log}`)))
  })
  return {
    ssh: { host: '127.0.0.1', port, user: userInfo().username },
    log: () => log,
    close: () => sshd.kill(),
  }
}
type Sshd = Awaited<ReturnType<typeof openSshd>>

/** The machines of a context on the synthetic provider are reached over SSH, each by an sshd that starts with the first look. */
export const useSshd = async (context: RunnerContext, root: string, { hasHome = false } = {}) => {
  context.guest = await layoutIn(join(root, 'guest'))
  const started = new Map<string, Promise<Sshd>>()
  const sshdOf = (vmId: string): Promise<Sshd> => {
    const sshd = started.get(vmId) ?? openSshd(context, join(root, `sshd-${vmId}`), vmId, hasHome)
    started.set(vmId, sshd)
    return sshd
  }
  wrapProviders(context, ({ runInGuest: _, shellInGuest: __, ...provider }) => ({
    ...provider,
    sshInfo: async vmId => (await sshdOf(vmId)).ssh,
  }))
  return {
    sshdOf,
    close: async () => {
      for (const sshd of started.values()) (await sshd).close()
    },
  }
}

/** The ids of processes whose command line has this text. */
export const processesWith = (text: string): number[] => {
  const { stdout } = spawnSync('pgrep', ['-f', '--', text], { encoding: 'utf8' })
  return stdout.split('\n').filter(Boolean).map(Number)
}
