/**
 * The stand-ins for GitHub's API and for its git server under one address, as github.com is one: a token that the API gives opens the
 * repository that it was narrowed to, and a branch that git pushes is one that the API knows.
 */
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import type { startGitServer } from './git-server.ts'
import type { GitHubStandIn } from './github.ts'

type GitServer = Awaited<ReturnType<typeof startGitServer>>
type Answer = Record<string, unknown> & { token: string }

const GIT_PATH = /^\/([^/]+\/[^/]+?)\.git\//
const TOKENS_PATH = /^\/app\/installations\/\d+\/access_tokens$/

export const startGitHubWithGit = async (github: GitHubStandIn, git: GitServer) => {
  const [owner = ''] = github.repo.split('/')
  const given: string[] = []

  /** The API's commits are others: only the names of branches go over. */
  const shareBranches = async (repo: string): Promise<void> => {
    const main = (await github.api(owner, 'GET', `/repos/${repo}/git/ref/heads/main`)) as { object: { sha: string } }
    for (const branch of git.git(repo, 'for-each-ref', '--format=%(refname:short)', 'refs/heads').split('\n')) {
      const path = `/repos/${repo}/git/ref/heads/${branch}`
      if (branch === '' || (await github.api(owner, 'GET', path).catch(() => null)) !== null) continue
      await github.api(owner, 'POST', `/repos/${repo}/git/refs`, { ref: `refs/heads/${branch}`, sha: main.object.sha })
    }
  }
  const learnToken = (body: Buffer, answer: Buffer): void => {
    const { repositories = [], permissions } = JSON.parse(body.toString() || '{}')
    const { token } = JSON.parse(answer.toString()) as Answer
    const right = permissions?.contents
    if (token === undefined || right === undefined) return
    given.push(token)
    git.addToken(token, Object.fromEntries(repositories.map((name: string) => [`${owner}/${name}`, right])))
  }

  const pass = (request: IncomingMessage, response: ServerResponse, body: Buffer | null): void => {
    const { method, url = '/', headers } = request
    const repo = url.match(GIT_PATH)?.[1]
    const target = new URL(url, repo === undefined ? github.url : git.url)
    const passed = httpRequest(target, { method, headers: { ...headers, host: target.host } }, async answer => {
      const isPush = repo !== undefined && method === 'POST' && url.endsWith('/git-receive-pack')
      const isToken = method === 'POST' && TOKENS_PATH.test(url)
      if (!isPush && !isToken) {
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        return void answer.pipe(response)
      }
      const content = await buffer(answer)
      if (isToken && body !== null) learnToken(body, content)
      if (isPush) await shareBranches(repo)
      response.writeHead(answer.statusCode ?? 502, answer.headers).end(content)
    })
    passed.on('error', () => request.socket.destroy())
    if (body === null) request.pipe(passed)
    else passed.end(body)
  }
  const server = createServer((request, response) => {
    if (GIT_PATH.test(request.url ?? '')) return pass(request, response, null)
    return void buffer(request).then(body => pass(request, response, body))
  })
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    url,
    /** The tokens that were given for the contents of a repository. */
    given,
    stop: async () => {
      server.closeAllConnections()
      await new Promise(done => server.close(done))
    },
  }
}
