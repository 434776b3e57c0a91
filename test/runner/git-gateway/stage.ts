/** A gateway between machines (folders here, over TCP) and a git server with tokens. */
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { fail } from '../../../src/errors.ts'
import { openLog } from '../../../src/log.ts'
import { type GitGatewayOptions, openGitGateway } from '../../../src/runner/git-gateway/gateway.ts'
import type { Push } from '../../../src/schema/environment.ts'
import { gitEnvironment, startGitServer } from '../../support/git-server.ts'

export const TOKEN = 'ghs_ExampleTokenOfTheRunner0123456789'
export type Ran = { code: number; stdout: string; stderr: string }

export const runGit = (folder: string, argv: readonly string[], env: Record<string, string> = {}): Promise<Ran> =>
  new Promise(done => {
    const child = spawn('git', argv, {
      cwd: folder,
      env: { ...gitEnvironment(folder), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', chunk => {
      stdout += chunk
    })
    child.stderr.on('data', chunk => {
      stderr += chunk
    })
    child.on('close', code => done({ code: code ?? 1, stdout: stdout.trim(), stderr }))
  })

/** Tickets of DROP may fetch acme/shop and acme/api. */
export const openStage = async (change: Partial<GitGatewayOptions> = {}) => {
  const server = await startGitServer()
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-test-'))
  for (const repo of ['acme/shop', 'acme/api', 'acme/secret']) server.addRepository(repo)
  server.addToken(TOKEN, { 'acme/shop': 'write', 'acme/api': 'write', 'acme/secret': 'write' })
  const pushes: (Push & { ticket: string })[] = []
  const own = new Set<string>()
  const refusedTickets = new Set<string>()
  const lines: Record<string, unknown>[] = []
  const log = {
    ...openLog('silent'),
    ...Object.fromEntries(
      ['debug', 'info', 'warn', 'error'].map(level => [
        level,
        (fields: object, msg: string) => void lines.push({ level, ...fields, msg }),
      ]),
    ),
  } as ReturnType<typeof openLog>
  let repositories = ['acme/shop', 'acme/api']
  const options: GitGatewayOptions = {
    ...{ home, environment: process.env, clock: Date.now, log },
    tokens: {
      tokenFor: async ({ repo, ticket }) => {
        if (refusedTickets.has(ticket)) throw fail('refused', `${ticket} is not pinned to this runner`)
        return {
          token: TOKEN,
          username: 'x-access-token',
          expiresAt: Date.now() + 3_600_000,
          remoteUrl: `${server.url}/${repo}`,
        }
      },
    },
    record: {
      recordPush: (ticket, push, commits) => {
        pushes.push({ ticket, ...push })
        for (const commit of commits) own.add(`${ticket} ${push.repo} ${commit}`)
      },
      pushedAll: (ticket, repo, commits) => commits.every(commit => own.has(`${ticket} ${repo} ${commit}`)),
    },
    mayFetch: (ticket, repo) => ticket.startsWith('DROP-') && ['acme/shop', 'acme/api'].includes(repo),
    remoteOf: repo => `${server.url}/${repo}`,
    rulesOf: () => ({ projects: ['DROP', 'WEB'], attempts: [], currentKey: ticket => ticket }),
    isAgentRun: (_ticket, run) => run === 'the-run',
    repositories: () => repositories,
    isProjectOf: ticket => ticket === 'DROP-1',
    ...change,
  }
  let gateway = openGitGateway(options)
  /** One address for each machine, as each has its own link. */
  const listeners: ReturnType<typeof createServer>[] = []
  const addressOf = async (ticket: string): Promise<string> => {
    const vmId = `as-${ticket.toLowerCase()}-00000001`
    const listener = createServer((request, response) => void gateway.handle({ ticket, vmId }, request, response))
    listeners.push(listener)
    await new Promise<void>(done => listener.listen(0, '127.0.0.1', done))
    return `http://127.0.0.1:${(listener.address() as AddressInfo).port}`
  }
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-guest-'))
  /** A folder with git, as in the machine of a ticket. */
  const machine = async (ticket: string) => {
    const address = await addressOf(ticket)
    const place = join(folder, `${ticket}-${listeners.length}`)
    mkdirSync(place, { recursive: true })
    const shop = join(place, 'shop')
    const git = (...argv: string[]) => runGit(shop, argv)
    return {
      address,
      place,
      shop,
      git,
      clone: (...more: string[]) => runGit(place, ['clone', '-q', ...more, `${address}/acme/shop`, 'shop']),
      /** A commit with one file; returns its id. */
      commit: async (name: string, content: string | Uint8Array = name): Promise<string> => {
        writeFileSync(join(shop, name), content)
        await git('add', '-A')
        await git('commit', '-q', '-m', name)
        return (await git('rev-parse', 'HEAD')).stdout
      },
    }
  }
  /** Somebody who pushes to the server without the gateway. */
  const colleague = async () => {
    const place = mkdtempSync(join(folder, 'colleague-'))
    const url = server.url.replace('//', `//dana:${TOKEN}@`)
    await runGit(place, ['clone', '-q', `${url}/acme/shop`, 'shop'])
    const shop = join(place, 'shop')
    return { shop, git: (...argv: string[]) => runGit(shop, argv) }
  }
  const close = async () => {
    await gateway.close()
    for (const listener of listeners) {
      listener.closeAllConnections()
      listener.close()
    }
    await server.stop()
    for (const one of [home, folder]) rmSync(one, { recursive: true, force: true, maxRetries: 5 })
  }
  onTestFinished(close)
  const first = await colleague()
  writeFileSync(join(first.shop, 'readme'), 'one\n')
  for (const argv of [
    ['checkout', '-q', '-b', 'main'],
    ['add', '-A'],
    ['commit', '-q', '-m', 'one'],
    ['push', '-q', 'origin', 'main'],
  ])
    await first.git(...argv)
  return {
    ...{ server, home, lines, pushes, own, options, addressOf, machine, colleague, folder },
    gateway: () => gateway,
    refuseTokens: (ticket: string) => void refusedTickets.add(ticket),
    setRepositories: (next: string[]) => {
      repositories = next
    },
    /** As after a start of the runner. */
    restart: async (more: Partial<GitGatewayOptions> = {}) => {
      await gateway.close()
      gateway = openGitGateway({ ...options, ...more })
    },
    mirror: (repo = 'acme/shop') => join(home, 'mirrors', `${repo}.git`),
    mirrorGit: async (...argv: string[]) =>
      (await runGit(home, ['--git-dir', join(home, 'mirrors', 'acme/shop.git'), ...argv])).stdout,
  }
}
