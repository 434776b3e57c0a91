/**
 * The repositories of the GitHub stand-in over git's own protocol. The simulator names objects as git does, so both sides have the
 * same commits: what the API wrote is copied into a bare repository before a fetch, and what was pushed into the simulator after it.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text as textOf } from 'node:stream/consumers'
import { gitEnvironment, serveGit } from './git-server.ts'
import type { Json } from './github-webhooks.ts'

type Api = (login: string, method: string, path: string, body?: unknown) => Promise<Json>
type Identity = { name: string; email: string; date: string }
type ApiCommit = {
  message: string
  tree: { sha: string }
  parents: { sha: string }[]
  author: Identity
  committer: Identity
}
type Entry = { mode: string; type: string; sha: string; path: string }
export type GitPush = { branch: string; before: string; after: string; message: string }
export type GitSide = {
  /** False: it is not a request of git. */
  handle(request: IncomingMessage, response: ServerResponse): boolean
  stop(): void
}

const ROUTE =
  /^\/([^/]+\/[^/]+?)(?:\.git)?(\/(?:info\/refs\?service=git-(?:upload|receive)-pack|git-(?:upload|receive)-pack))$/
const NO_COMMIT = '0'.repeat(40)
const pad = (value: number) => String(value).padStart(2, '0')

/** git's `1700000000 +0100` as the API has it. */
const isoDate = (seconds: number, zone: string): string => {
  const minutes = Number(`${zone[0]}1`) * (Number(zone.slice(1, 3)) * 60 + Number(zone.slice(3)))
  const local = new Date((seconds + minutes * 60) * 1000).toISOString().slice(0, 19)
  return `${local}${zone.slice(0, 3)}:${zone.slice(3)}`
}
const gitDate = (iso: string): string => {
  const [, sign = '+', hours = '00', minutes = '00'] = iso.match(/([+-])(\d\d):?(\d\d)$/) ?? []
  return `${Math.floor(Date.parse(iso) / 1000)} ${sign}${pad(Number(hours))}${pad(Number(minutes))}`
}
const identityOf = (head: string, who: string): Identity => {
  const [, name = '', email = '', seconds = '0', zone = '+0000'] =
    head.match(new RegExp(`^${who} (.*) <(.*)> (\\d+) ([+-]\\d{4})$`, 'm')) ?? []
  return { name, email, date: isoDate(Number(seconds), zone) }
}

type Repository = { folder: string; full: string; owner: string; api: Api; environment: Record<string, string> }

const git = async ({ folder, environment }: Repository, argv: string[], input?: Buffer | string): Promise<Buffer> => {
  const child = spawn('git', ['--git-dir', folder, ...argv], { env: environment, stdio: ['pipe', 'pipe', 'pipe'] })
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  const chunks: Buffer[] = []
  child.stdout.on('data', chunk => chunks.push(chunk))
  const [errors, [code]] = await Promise.all([textOf(child.stderr), once(child, 'close')])
  if (code !== 0) throw new Error(`git ${argv[0]}: ${errors}`)
  return Buffer.concat(chunks)
}
const lines = async (repository: Repository, ...argv: string[]): Promise<string[]> =>
  (await git(repository, argv))
    .toString()
    .split('\n')
    .filter(line => line !== '')

const has = (repository: Repository, sha: string): Promise<boolean> =>
  git(repository, ['cat-file', '-e', sha]).then(
    () => true,
    () => false,
  )
const write = async (repository: Repository, sha: string, argv: string[], content: Buffer | string): Promise<void> => {
  const written = (await git(repository, argv, content)).toString().trim()
  if (written !== sha) throw new Error(`the simulator calls an object ${sha}, and git ${written}`)
}

// ── From the simulator to git ──

const ask = async <T>({ api, owner, full }: Repository, path: string): Promise<T> =>
  (await api(owner, 'GET', `/repos/${full}/git/${path}`)) as T

const bringTree = async (repository: Repository, sha: string): Promise<void> => {
  if (await has(repository, sha)) return
  const { tree } = await ask<{ tree: Entry[] }>(repository, `trees/${sha}`)
  for (const entry of tree) {
    if (entry.type === 'tree') await bringTree(repository, entry.sha)
    if (entry.type !== 'blob' || (await has(repository, entry.sha))) continue
    const { content } = await ask<{ content: string }>(repository, `blobs/${entry.sha}`)
    await write(repository, entry.sha, ['hash-object', '-w', '--stdin'], Buffer.from(content, 'base64'))
  }
  const listing = tree.map(({ mode, type, sha, path }) => `${mode} ${type} ${sha}\t${path}\n`).join('')
  await write(repository, sha, ['mktree'], listing)
}

const bringCommit = async (repository: Repository, sha: string): Promise<void> => {
  if (await has(repository, sha)) return
  const { message, tree, parents, author, committer } = await ask<ApiCommit>(repository, `commits/${sha}`)
  for (const parent of parents) await bringCommit(repository, parent.sha)
  await bringTree(repository, tree.sha)
  const head = [
    `tree ${tree.sha}`,
    ...parents.map(parent => `parent ${parent.sha}`),
    `author ${author.name} <${author.email}> ${gitDate(author.date)}`,
    `committer ${committer.name} <${committer.email}> ${gitDate(committer.date)}`,
  ]
  const content = `${head.join('\n')}\n\n${message.endsWith('\n') ? message : `${message}\n`}`
  await write(repository, sha, ['hash-object', '-w', '-t', 'commit', '--stdin'], content)
}

const refsOfSimulator = async (repository: Repository): Promise<Map<string, string>> => {
  const refs = await ask<{ ref: string; object: { sha: string } }[]>(repository, 'matching-refs/heads/')
  return new Map(refs.map(({ ref, object }) => [ref, object.sha]))
}
const refsOfGit = async (repository: Repository): Promise<Map<string, string>> =>
  new Map(
    (await lines(repository, 'for-each-ref', '--format=%(refname) %(objectname)', 'refs/heads')).map(line => {
      const [ref = '', sha = ''] = line.split(' ')
      return [ref, sha]
    }),
  )

const toGit = async (repository: Repository): Promise<void> => {
  const [theirs, ours] = await Promise.all([refsOfSimulator(repository), refsOfGit(repository)])
  for (const [ref, sha] of theirs) {
    if (ours.get(ref) === sha) continue
    await bringCommit(repository, sha)
    await git(repository, ['update-ref', ref, sha])
  }
  for (const ref of ours.keys()) if (!theirs.has(ref)) await git(repository, ['update-ref', '-d', ref])
}

// ── From git to the simulator ──

const sendCommit = async (repository: Repository, sha: string): Promise<string> => {
  const { api, owner, full } = repository
  const post = (what: string, body: unknown) => api(owner, 'POST', `/repos/${full}/git/${what}`, body)
  const tree = (await lines(repository, 'ls-tree', '-r', sha)).map(line => {
    const [, mode = '', type = '', sha = '', path = ''] = line.match(/^(\d+) (\w+) (\w+)\t(.*)$/) ?? []
    return { mode, type, sha, path }
  })
  for (const entry of tree) {
    const content = (await git(repository, ['cat-file', 'blob', entry.sha])).toString('base64')
    await post('blobs', { content, encoding: 'base64' })
  }
  const saved = await post('trees', { tree })
  const text = (await git(repository, ['cat-file', 'commit', sha])).toString()
  const end = text.indexOf('\n\n')
  const [head, message] = [text.slice(0, end), text.slice(end + 2)]
  const parents = [...head.matchAll(/^parent (\w+)$/gm)].map(([, parent]) => parent)
  const [author, committer] = [identityOf(head, 'author'), identityOf(head, 'committer')]
  const commit = await post('commits', { message, tree: saved.sha, parents, author, committer })
  if (commit.sha !== sha) throw new Error(`git calls a commit ${sha}, and the simulator ${commit.sha}`)
  return message
}

/** Returns what was pushed. */
const toSimulator = async (repository: Repository): Promise<GitPush[]> => {
  const { api, owner, full } = repository
  const [theirs, ours] = await Promise.all([refsOfSimulator(repository), refsOfGit(repository)])
  const pushes: GitPush[] = []
  for (const [ref, after] of ours) {
    const before = theirs.get(ref) ?? null
    if (before === after) continue
    const known = [...theirs.values()].map(sha => `^${sha}`)
    let message = ''
    for (const sha of await lines(repository, 'rev-list', '--reverse', '--topo-order', after, ...known))
      message = await sendCommit(repository, sha)
    const [method, path, body] =
      before === null
        ? ['POST', '', { ref, sha: after }]
        : ['PATCH', ref.slice('refs'.length), { sha: after, force: true }]
    await api(owner, `${method}`, `/repos/${full}/git/refs${path}`, body)
    pushes.push({ branch: ref.slice('refs/heads/'.length), before: before ?? NO_COMMIT, after, message })
  }
  return pushes
}

// ── Over HTTP ──

export type GitSideOptions = {
  api: Api
  owner: string
  /** `acme/shop` */
  repositories: readonly string[]
  /** What a token may do with the contents of repositories. Null: no such token. */
  rightOf: (token: string) => 'read' | 'write' | null
  onPush: (full: string, push: GitPush) => void
}

const tokenOf = ({ headers }: IncomingMessage): string | null => {
  const encoded = headers.authorization?.match(/^Basic (.+)$/)?.[1]
  return encoded === undefined ? null : (Buffer.from(encoded, 'base64').toString().split(':')[1] ?? null)
}

export const openGitSide = ({ api, owner, repositories, rightOf, onPush }: GitSideOptions): GitSide => {
  let root: string | null = null
  let last: Promise<unknown> = Promise.resolve()
  /** One look or change of the two sides at a time. */
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const turn = last.then(work)
    last = turn.catch(() => {})
    return turn
  }
  const open = async (full: string): Promise<Repository> => {
    root ??= mkdtempSync(join(tmpdir(), 'agent-swarm-github-git-'))
    const folder = join(root, `${full}.git`)
    const repository = { folder, full, owner, api, environment: gitEnvironment(root) }
    if (existsSync(folder)) return repository
    mkdirSync(folder, { recursive: true })
    await git(repository, ['init', '-q', '--bare', '-b', 'main'])
    await git(repository, ['config', 'http.receivepack', 'true'])
    return repository
  }
  const answer = async (full: string, rest: string, request: IncomingMessage, response: ServerResponse) => {
    const repository = await inTurn(async () => {
      const opened = await open(full)
      if (request.method === 'GET') await toGit(opened)
      return opened
    })
    request.url = `/${full}.git${rest}`
    serveGit(`${root}`, request, response, async () => {
      if (rest !== '/git-receive-pack') return
      const pushes = await inTurn(() => toSimulator(repository))
      for (const push of pushes) onPush(full, push)
    })
  }
  return {
    handle: (request, response) => {
      const [, full, rest] = request.url?.match(ROUTE) ?? []
      if (full === undefined || rest === undefined) return false
      const token = tokenOf(request)
      const right = token === null ? null : rightOf(token)
      const isAllowed = right === 'write' || !rest.endsWith('git-receive-pack')
      const status = right === null ? 401 : !repositories.includes(full) ? 404 : isAllowed ? 200 : 403
      if (status === 200)
        answer(full, rest, request, response).catch(error => {
          response.destroy(error)
          throw error
        })
      else {
        request.resume()
        response
          .writeHead(status, status === 401 ? { 'www-authenticate': 'Basic realm="GitHub"' } : {})
          .end('Permission to this repository denied.\n')
      }
      return true
    },
    stop: () => {
      if (root !== null) rmSync(root, { recursive: true, force: true })
    },
  }
}
