/**
 * A git server with tokens, in place of GitHub's: `git http-backend` behind basic authentication. Each token has rights for each
 * repository, and can be revoked; a branch can be protected.
 */
import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { devNull, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

/** What git sees: no configuration of the person who runs the tests. */
export const gitEnvironment = (home: string): Record<string, string> => ({
  PATH: process.env.PATH ?? '',
  HOME: home,
  LC_ALL: 'C',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_GLOBAL: devNull,
  GIT_TERMINAL_PROMPT: '0',
  ...Object.fromEntries(
    ['AUTHOR', 'COMMITTER'].flatMap(who => [
      [`GIT_${who}_NAME`, 'Dana Example'],
      [`GIT_${who}_EMAIL`, 'dana@example.org'],
    ]),
  ),
})

type Rights = 'read' | 'write'
type Repository = { isPrivate: boolean; path: string }
type GitRequest = { method: string; url: string; token: string | null; status: number }

const readToken = ({ headers }: IncomingMessage): string | null => {
  const encoded = headers.authorization?.match(/^Basic (.+)$/)?.[1]
  return encoded === undefined ? null : (Buffer.from(encoded, 'base64').toString().split(':')[1] ?? null)
}

const PROTECTION = `#!/bin/sh
if [ -e hold ]; then
  : > held
  while [ -e hold ]; do sleep 0.05; done
  trap ': > decided' EXIT
fi
while read -r old new ref; do
  if grep -qxF "$ref" protected 2>/dev/null; then
    echo "error: GH006: Protected branch update failed for $ref." >&2
    exit 1
  fi
done
`

/** The answer of `git http-backend` for the bare repositories below `root`: its head, then its bytes. It ends after `beforeEnd`. */
export const serveGit = (
  root: string,
  request: IncomingMessage,
  response: ServerResponse,
  beforeEnd: () => Promise<void> = async () => {},
): void => {
  const { pathname, search } = new URL(request.url ?? '/', 'http://server')
  const { headers } = request
  const child = spawn('git', ['http-backend'], {
    env: {
      ...gitEnvironment(root),
      ...{ GIT_PROJECT_ROOT: root, GIT_HTTP_EXPORT_ALL: '1', REMOTE_USER: 'dana', REMOTE_ADDR: '127.0.0.1' },
      ...{ PATH_INFO: pathname, QUERY_STRING: search.slice(1), REQUEST_METHOD: request.method },
      ...{ CONTENT_TYPE: headers['content-type'], CONTENT_LENGTH: headers['content-length'] },
      ...{ HTTP_CONTENT_ENCODING: headers['content-encoding'], GIT_PROTOCOL: String(headers['git-protocol'] ?? '') },
    },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  child.stdin.on('error', () => request.resume())
  request.pipe(child.stdin)
  let head = Buffer.alloc(0)
  const readHead = (chunk: Buffer) => {
    head = Buffer.concat([head, chunk])
    const end = head.indexOf('\r\n\r\n')
    if (end === -1) return
    child.stdout.off('data', readHead)
    const lines = head.subarray(0, end).toString().split('\r\n')
    const fields = Object.fromEntries(lines.map(line => line.split(/: (.*)/).slice(0, 2))) as Record<string, string>
    const { Status: status = '200', ...rest } = fields
    response.writeHead(Number.parseInt(status, 10), rest)
    response.write(head.subarray(end + 4))
    child.stdout.pipe(response, { end: false })
  }
  child.stdout.on('data', readHead)
  child.on('close', () => void beforeEnd().finally(() => response.end()))
  response.on('close', () => child.kill())
}

export const startGitServer = async () => {
  const root = mkdtempSync(join(tmpdir(), 'agent-swarm-git-server-'))
  const repositories = new Map<string, Repository>()
  const tokens = new Map<string, Readonly<Record<string, Rights>>>()
  const requests: GitRequest[] = []
  let isAway = false

  const git = (repo: string, ...argv: string[]): string =>
    execFileSync('git', ['--git-dir', repositories.get(repo)?.path ?? '', ...argv], { env: gitEnvironment(root) })
      .toString()
      .trim()

  /** The status of a refusal; 200 when the request may go on. */
  const judge = (request: IncomingMessage, token: string | null): number => {
    const [, name = ''] = request.url?.match(/^\/([^/]+\/[^/.]+)(?:\.git)?\//) ?? []
    const repository = repositories.get(name.toLowerCase())
    if (isAway) return 503
    const isPush = request.url?.includes('git-receive-pack') === true
    const rights = token === null ? undefined : tokens.get(token)
    if (token !== null && rights === undefined) return 401
    if (repository === undefined) return token === null ? 401 : 404
    const right = rights?.[name.toLowerCase()]
    if (isPush ? right === 'write' : right !== undefined || !repository.isPrivate) return 200
    return token === null ? 401 : right === undefined ? 404 : 403
  }
  const server = createServer((request, response) => {
    const token = readToken(request)
    const status = judge(request, token)
    requests.push({ method: request.method ?? '', url: request.url ?? '', token, status })
    if (status === 200) {
      const [, name = '', rest = ''] = request.url?.match(/^\/([^/]+\/[^/.]+)(?:\.git)?(\/.*)$/) ?? []
      request.url = `/${name.toLowerCase()}.git${rest}`
      return serveGit(root, request, response)
    }
    request.resume()
    response.writeHead(status, {
      'content-type': 'text/plain',
      ...(status === 401 ? { 'www-authenticate': 'Basic realm="GitHub"' } : {}),
    })
    return response.end(status === 403 ? 'Permission to this repository denied.\n' : 'Not found.\n')
  })
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo

  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    /** The folder of a repository on the server. */
    path: (repo: string) => repositories.get(repo)?.path ?? '',
    /** Runs git in the server's repository, past all rights. */
    git,
    /** An empty repository, `acme/shop`. */
    addRepository: (repo: string, { isPrivate = true }: { isPrivate?: boolean } = {}) => {
      const path = join(root, `${repo}.git`)
      mkdirSync(dirname(path), { recursive: true })
      repositories.set(repo, { isPrivate, path })
      execFileSync('git', ['init', '-q', '--bare', '-b', 'main', path], { env: gitEnvironment(root) })
      git(repo, 'config', 'http.receivepack', 'true')
      git(repo, 'config', 'uploadpack.allowFilter', 'true')
      writeFileSync(join(path, 'hooks', 'pre-receive'), PROTECTION)
      chmodSync(join(path, 'hooks', 'pre-receive'), 0o755)
    },
    /** `{ 'acme/shop': 'write' }` */
    addToken: (token: string, rights: Readonly<Record<string, Rights>>) => void tokens.set(token, rights),
    revoke: (token: string) => void tokens.delete(token),
    protect: (repo: string, ...refs: string[]) =>
      writeFileSync(join(repositories.get(repo)?.path ?? '', 'protected'), refs.map(ref => `${ref}\n`).join('')),
    /** While it is away, each request gets 503. */
    setAway: (away: boolean) => {
      isAway = away
    },
    /** Pushes to the repository wait there, before they are taken, until `release`. */
    hold: (repo: string) => {
      const path = repositories.get(repo)?.path ?? ''
      writeFileSync(join(path, 'hold'), '')
      return {
        isHeld: () => existsSync(join(path, 'held')),
        release: () => rmSync(join(path, 'hold')),
        isDecided: () => existsSync(join(path, 'decided')),
      }
    },
    stop: async () => {
      server.closeAllConnections()
      await new Promise(done => server.close(done))
      rmSync(root, { recursive: true, force: true })
    },
  }
}
