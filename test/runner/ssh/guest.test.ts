/** How a machine is reached, with an ssh that answers as OpenSSH does. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Provider } from '../../../providers/provider.ts'
import { explainBy, fail } from '../../../src/errors.ts'
import type { Run, RunOptions } from '../../../src/exec.ts'
import { guestForBuild, waitForGuest } from '../../../src/runner/ssh/guest.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-guest-'))
})
afterEach(() => rmSync(home, { recursive: true, force: true }))

type Answer = (options: RunOptions) => { stdout: string; stderr: string; exitCode: number }
const ssh = { host: '192.0.2.8', port: 22, user: 'agent' }

/** `answer`: to the script; SSH itself answers at once. */
const open = async (answer: Answer) => {
  const run: Run = async (program, argv, options = {}) => {
    const ran = { stdout: '', stderr: '', exitCode: 0, milliseconds: 0 }
    if (program === 'ssh-keygen') {
      writeFileSync(argv.at(-1) ?? '', 'a private key\n')
      writeFileSync(`${argv.at(-1)}.pub`, 'ssh-ed25519 AAAA agent-swarm\n')
      return ran
    }
    if (argv.at(-1) === 'true') return ran
    const { exitCode, ...more } = answer(options)
    // As src/exec.ts does.
    if (exitCode !== 0 && options.answers?.includes(exitCode) !== true)
      throw (options.explain ?? explainBy([]))(
        'ssh',
        more.stderr || `Command failed with exit code ${exitCode}: ssh -F none`,
      )
    return { ...ran, ...more, exitCode }
  }
  return guestForBuild(run, home, 'build-1', new AbortController().signal)
}

test('however a script ends, that is an answer, and its lines are shown', async () => {
  const { access } = await open(({ onLine }) => {
    onLine?.('step git')
    return { stdout: 'step git\n', stderr: 'apt: Connection timed out\n', exitCode: 100 }
  })
  const lines: string[] = []
  expect(await access.run(ssh, 'script', { deadline: 1_000, onLine: line => lines.push(line) })).toEqual({
    stdout: 'step git\n',
    stderr: 'apt: Connection timed out\n',
    exitCode: 100,
  })
  expect(lines).toEqual(['step git'])
})

test('a connection that ends without a word is a guest that does not answer', async () => {
  const { access } = await open(() => ({ stdout: '', stderr: '', exitCode: 255 }))
  const failure = await access.run(ssh, 'script', { deadline: 1_000 }).catch(error => error.failure)
  expect(failure).toMatchObject({ kind: 'guest-unreachable', message: 'ssh: the connection over SSH ended' })
})

test('while a guest boots, no process waits for its port; ssh runs once its server says hello', async () => {
  const server = createServer(socket => socket.end('SSH-2.0-OpenSSH_9.2p1\r\n'))
  const port = await new Promise<number>(resolve => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo
      probe.close(() => resolve(port))
    })
  })
  const ran: string[] = []
  let isUp = false
  const run: Run = async program => {
    ran.push(program)
    if (!isUp) {
      // It starts once ssh has been refused.
      isUp = true
      server.listen(port, '127.0.0.1')
      throw fail('guest-unreachable', 'Connection refused')
    }
    return { stdout: '0123456789abcdef\n', stderr: '', exitCode: 0, milliseconds: 0 }
  }
  const asked: string[] = []
  const sshInfo = async (id: string) => {
    asked.push(id)
    return { host: '127.0.0.1', port, user: 'agent' }
  }
  const provider = { sshInfo } as unknown as Provider
  const answer = await waitForGuest({ run, home }, provider, 'as-a-1-00000001', { deadline: 60_000 })
  server.close()
  expect(answer).toMatchObject({ ssh: { port }, hasOurFiles: false })
  expect(ran).toEqual(['ssh', 'ssh'])
  expect(asked).toHaveLength(2)
})
