/** How a guest is asked: over SSH with a key of ours and the host key that we gave it, or as its provider brings it. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { GuestAccess, Provider, SshInfo } from '../../../providers/provider.ts'
import { allow, fail, isFailure } from '../../errors.ts'
import type { Explain, Run } from '../../exec.ts'

/** Milliseconds between two tries to reach a guest that is coming up. */
const POLL_MS = 250
/** A first boot under software emulation, with others beside it, takes minutes. */
const READY_DEADLINE_MS = 10 * 60_000

const explainSsh: Explain = [
  // OpenSSH 9.2
  [
    /Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED/,
    'refused',
    'The machine at this address is not the one that was made. Try: agent-swarm status',
  ],
  [/Permission denied/, 'refused', 'The guest does not take our key. Its user may have changed authorized_keys.'],
  [
    /Connection (refused|timed out|reset|closed)|No route to host|Network is unreachable|Operation timed out|kex_exchange_identification/,
    'guest-unreachable',
    'Is the machine up? Try: agent-swarm status',
  ],
]

const sshFolder = (home: string) => join(home, 'ssh')
const knownHosts = (home: string, vmId: string) => join(sshFolder(home), `${vmId}.known_hosts`)

/** How long one is in the making, at most: ssh-keygen has its deadline. Milliseconds. */
const KEY_MADE_WITHIN_MS = 60_000
const NEW = 'new-'
/** Removes keys that a process had in the making when it died. */
export const sweepKeys = (home: string): void => {
  const folder = sshFolder(home)
  if (!existsSync(folder)) return
  for (const name of readdirSync(folder)) {
    const begun = statSync(join(folder, name), { throwIfNoEntry: false })
    if (name.startsWith(NEW) && begun !== undefined && Date.now() - begun.mtimeMs > KEY_MADE_WITHIN_MS)
      rmSync(join(folder, name), { recursive: true, force: true })
  }
}

/** Makes an ed25519 pair with ssh-keygen (OpenSSH's own private format is what sshd and cloud-init take) in a new folder: `key` and `key.pub`. */
const makeKey = async (run: Run, home: string): Promise<string> => {
  mkdirSync(sshFolder(home), { recursive: true, mode: 0o700 })
  const folder = mkdtempSync(join(sshFolder(home), NEW))
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'agent-swarm', '-f', join(folder, 'key')], {
    deadline: 10_000,
  }).catch(error => {
    rmSync(folder, { recursive: true, force: true })
    throw error
  })
  return folder
}
const publicLine = (folder: string) => readFileSync(join(folder, 'key.pub'), 'utf8').trim()

/** The key of this home, that may log in to its machines: made at first use. Returns its public line. */
export const loginKey = async (run: Run, home: string): Promise<string> => {
  const login = join(sshFolder(home), 'login')
  if (!existsSync(login)) {
    const made = await makeKey(run, home)
    try {
      // Both halves at once, and only the first of several that begin together.
      renameSync(made, login)
    } catch (error) {
      if (!existsSync(login)) throw error
      rmSync(made, { recursive: true, force: true })
    }
  }
  return publicLine(login)
}

/** A new host key for one machine, and the pin that every later connection is held to. */
export const pinnedHostKey = async (run: Run, home: string, vmId: string) => {
  const folder = await makeKey(run, home)
  try {
    const publicKey = publicLine(folder)
    const [type, body] = publicKey.split(' ')
    writeFileSync(knownHosts(home, vmId), `${vmId} ${type} ${body}\n`, { mode: 0o600 })
    return { privateKey: readFileSync(join(folder, 'key'), 'utf8'), publicKey }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
export const forgetHostKey = (home: string, vmId: string) => rmSync(knownHosts(home, vmId), { force: true })

/** A path as the value of an ssh option: quoted, and its % no token. OpenSSH has no way to write `${` or a line's end. */
const asOption = (path: string) => {
  if (path.includes('${') || /[\r\n]/.test(path))
    throw fail('not-configured', `ssh cannot be told of the path "${path}"`, 'Move AGENT_SWARM_HOME to a plain one.')
  return `"${path.replaceAll('%', '%%').replaceAll(/["\\]/g, '\\$&')}"`
}

/**
 * What every connection to a machine holds to, as OpenSSH options: no other key than ours, no host but the pinned one, and
 * nothing lent to the machine. Each says also what is OpenSSH's own default, since a person's configuration may say otherwise.
 */
export const sshOptions = (home: string, vmId: string, ssh: SshInfo): [string, string][] => {
  if (isIP(ssh.host) === 0 && ssh.host !== 'localhost') throw fail('refused', `"${ssh.host}" is no address`)
  if (!/^[a-z_][a-z0-9_-]*$/.test(ssh.user)) throw fail('refused', `"${ssh.user}" is no user`)
  return [
    ['Port', String(ssh.port)],
    ['User', ssh.user],
    ['IdentityFile', asOption(join(sshFolder(home), 'login', 'key'))],
    ['IdentitiesOnly', 'yes'],
    ['HostKeyAlias', vmId],
    ['UserKnownHostsFile', asOption(knownHosts(home, vmId))],
    ['GlobalKnownHostsFile', 'none'],
    ['StrictHostKeyChecking', 'yes'],
    ['VerifyHostKeyDNS', 'no'],
    ['UpdateHostKeys', 'no'],
    ['ProxyCommand', 'none'],
    // A connection that is shared outlives the machine that it led to, and would be taken for the next one at its address.
    ['ControlPath', 'none'],
    ['ForwardAgent', 'no'],
    ['ForwardX11', 'no'],
    ['ServerAliveInterval', '15'],
    ['ServerAliveCountMax', '4'],
    ['LogLevel', 'ERROR'],
  ]
}

/** `-o Name=value` each. What is said first counts. */
export const asArguments = (options: readonly (readonly [string, string])[]): string[] =>
  options.flatMap(([name, value]) => ['-o', `${name}=${value}`])

/** The arguments of ssh up to the host, with no configuration of the user's. */
export const sshArguments = (home: string, vmId: string, ssh: SshInfo): string[] => [
  ...['-F', 'none'],
  ...asArguments(sshOptions(home, vmId, ssh)),
]

const BATCH = ['-o', 'BatchMode=yes', '-o', 'ConnectTimeout=5', '-T']

/** What a guest wrote last on its console, as the end of a message about it. */
const lastWords = async (provider: Provider, vmId: string): Promise<string> => {
  const lines = (await provider.consoleTail?.(vmId).catch(() => [])) ?? []
  return lines.length === 0 ? '' : `. Its console ends with:\n${lines.map(line => `  ${line}`).join('\n')}`
}

export type Guest = {
  /** Waits until an SSH reply came with the pinned key. Returns where. Null where the provider has no SSH. */
  ready(
    provider: Provider,
    vmId: string,
    deadline?: number,
    signal?: AbortSignal,
    onAddress?: (ssh: SshInfo) => void,
  ): Promise<SshInfo | null>
  /** Runs a shell script as root in the guest, and returns what it printed. Fails with `guest-unreachable` when it cannot. */
  script(provider: Provider, vmId: string, script: string, deadline: number, signal?: AbortSignal): Promise<string>
  /** The same, with what it prints in a new file; it may end with any exit code. Returns what it said on stderr. */
  stream(
    provider: Provider,
    vmId: string,
    script: string,
    options: { into: { file: string; limit: number }; deadline: number; signal: AbortSignal },
  ): Promise<{ stderr: string }>
}
/** A script's own exit codes; ssh itself ends with 255. */
const ANY_CODE = Array.from({ length: 254 }, (_, code) => code + 1)

export const openGuest = (run: Run, home: string): Guest => {
  const answer = async (vmId: string, ssh: SshInfo, signal: AbortSignal | undefined) => {
    try {
      await run('ssh', [...sshArguments(home, vmId, ssh), ...BATCH, '--', ssh.host, 'true'], {
        deadline: 15_000,
        explain: explainSsh,
        ...(signal === undefined ? {} : { signal }),
      })
      return true
    } catch (error) {
      // A guest that comes up refuses, resets and stalls; cloud-init gives it our host key only along the way, and
      // before that an answer under another key is no answer.
      if (isFailure(error) && error.failure.kind !== 'cancelled' && error.failure.kind !== 'provider-missing')
        return false
      throw error
    }
  }
  return {
    ready: async (provider, vmId, deadline = READY_DEADLINE_MS, signal, onAddress = () => {}) => {
      if (provider.runInGuest !== undefined) return null
      const until = performance.now() + deadline
      let told: string | null = null
      while (true) {
        const ssh = (await provider.sshInfo(vmId).catch(allow('no-address-yet'))) ?? null
        if (ssh !== null && told !== ssh.host) {
          told = ssh.host
          onAddress(ssh)
        }
        if (ssh !== null && (await answer(vmId, ssh, signal))) return ssh
        if (performance.now() > until) {
          const what = ssh === null ? 'it got no address' : `no SSH reply from ${ssh.host}`
          throw fail(
            'guest-unreachable',
            `waiting for ${vmId}: ${what} within ${Math.round(deadline / 1000)} s${await lastWords(provider, vmId)}`,
            'What its console says, if anything, may tell why.',
          )
        }
        await delay(POLL_MS, undefined, signal === undefined ? {} : { signal }).catch(() => {
          throw fail('cancelled', `waiting for ${vmId}: cancelled`)
        })
      }
    },
    script: async (provider, vmId, script, deadline, signal) => {
      if (provider.runInGuest !== undefined) return (await provider.runInGuest(vmId, script, { deadline })).stdout
      const ssh = await provider.sshInfo(vmId)
      const { stdout } = await run(
        'ssh',
        [...sshArguments(home, vmId, ssh), ...BATCH, '--', ssh.host, 'sudo -n sh -s'],
        {
          input: script,
          deadline,
          explain: explainSsh,
          ...(signal === undefined ? {} : { signal }),
        },
      )
      return stdout
    },
    stream: async (provider, vmId, script, options) => {
      if (provider.runInGuest !== undefined) return provider.runInGuest(vmId, script, options)
      const ssh = await provider.sshInfo(vmId)
      return run('ssh', [...sshArguments(home, vmId, ssh), ...BATCH, '--', ssh.host, 'sudo -n sh -s'], {
        ...options,
        input: script,
        doing: `reading from ${vmId} over SSH`,
        answers: ANY_CODE,
        explain: explainSsh,
      })
    },
  }
}

/** How a base image's build reaches the machine that it boots: with keys of its own, that are gone with `forget`. */
export const guestForBuild = async (
  run: Run,
  home: string,
  alias: string,
  signal: AbortSignal,
): Promise<{ access: GuestAccess; forget: () => void }> => {
  const [publicKey, hostKey] = await Promise.all([loginKey(run, home), pinnedHostKey(run, home, alias)])
  const access: GuestAccess = {
    publicKey,
    hostKey,
    run: async (ssh, script, deadline) => {
      const until = performance.now() + deadline
      const left = () => Math.max(1_000, until - performance.now())
      const target = [...sshArguments(home, alias, ssh), ...BATCH, '--', ssh.host]
      while (true) {
        try {
          await run('ssh', [...target, 'true'], { deadline: 15_000, explain: explainSsh })
          break
        } catch (error) {
          if (performance.now() > until) throw error
          if (signal.aborted) throw fail('cancelled', 'waiting for the machine that builds the image: cancelled')
          await delay(POLL_MS)
        }
      }
      return (await run('ssh', [...target, 'sudo -n sh -s'], { input: script, deadline: left(), explain: explainSsh }))
        .stdout
    },
  }
  return { access, forget: () => forgetHostKey(home, alias) }
}
