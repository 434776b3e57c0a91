/**
 * A stand-in for GitHub: the simulator `emulate` behind a front. What people do here goes through its REST API, and what GitHub
 * would send about it is sent signed, as GitHub does.
 */
import { generateKeyPairSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { createEmulator } from 'emulate'
import { parse } from 'yaml'
import { type AgentState, openAgentPeople } from './github-agents.ts'
import { openFrontState, type Permission, startFront } from './github-front.ts'
import { type GitPush, openGitSide } from './github-git.ts'
import { type Json, openWebhooks, WEBHOOK_SECRET, type Webhooks } from './github-webhooks.ts'
import { askSimulator } from './simulator.ts'

export type { Permission, Role } from './github-front.ts'
export { WEBHOOK_SECRET } from './github-webhooks.ts'

const APP_ID = 7
const INSTALLATION = 100
const OWNER = 'acme'
/** An organization, for its teams. */
const GUILD = 'guild'
const root = resolve(import.meta.dirname, '../..')
/** What our App may do, and its events. */
const { default_permissions, default_events } = parse(readFileSync(join(root, 'app.yml'), 'utf8'))
/** GitHub's name for "no commit". */
const NO_COMMIT = '0'.repeat(40)

export type Comment = { id: number; body: string; author: string; authorType: string }
type Api = (login: string, method: string, path: string, body?: unknown) => Promise<Json>
type Commit = { sha: string; message: string }
type Context = { full: string; api: Api; webhooks: Webhooks; agents: AgentState }

let appKey: string | null = null
/** Our App's private key, PEM: one for all simulators of this process, since making one takes longer than a start. */
const privateKeyOfApp = (): string => {
  appKey ??= generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  }).privateKey
  return appKey
}

const startEmulator = (repositories: readonly string[], logins: readonly string[], more: Record<string, string>) =>
  createEmulator({
    service: 'github',
    port: 0,
    seed: {
      tokens: Object.fromEntries([OWNER, ...logins].map(login => [`token-${login}`, { login, scopes: ['repo'] }])),
      github: {
        users: [OWNER, ...logins].map(login => ({ login })),
        orgs: [{ login: GUILD }],
        repos: repositories.map(name => ({ owner: OWNER, name, auto_init: true })),
        apps: [
          {
            app_id: APP_ID,
            private_key: privateKeyOfApp(),
            slug: 'agent-swarm',
            name: 'agent-swarm',
            permissions: { ...default_permissions, ...more },
            events: default_events,
            installations: [{ installation_id: INSTALLATION, account: OWNER, repository_selection: 'all' }],
          },
        ],
      },
    },
  })

const openApi =
  (url: string): Api =>
  async (login, method, path, body) => {
    const response = await askSimulator(path, url, {
      method,
      headers: { authorization: `token token-${login}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const { text } = response
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text.slice(0, 300)}`)
    return text === '' ? {} : (JSON.parse(text) as Json)
  }

const pushPayload = (full: string, branch: string, before: string, { sha, message }: Commit, login: string) => {
  const url = `https://github.com/${full}`
  const person = { name: login, email: `${login}@example.org`, username: login }
  const commit = {
    ...{ id: sha, tree_id: sha, distinct: true, message, timestamp: new Date().toISOString() },
    ...{ url: `${url}/commit/${sha}`, author: person, committer: person, added: [], removed: [], modified: [] },
  }
  return {
    ...{ ref: `refs/heads/${branch}`, before, after: sha, base_ref: null, created: before === NO_COMMIT },
    ...{ deleted: false, forced: false, compare: `${url}/compare/${branch}`, commits: [commit], head_commit: commit },
    pusher: { name: login, email: person.email },
  }
}

/** The issue behind a pull request, as comment events describe it. The simulator has none. */
const issueOfPull = (full: string, { head: _, base: __, ...shared }: Json) => {
  const { number } = shared as { number: number }
  const [api, web] = [`https://api.github.com/repos/${full}`, `https://github.com/${full}/pull/${number}`]
  return {
    ...shared,
    active_lock_reason: null,
    repository_url: api,
    labels_url: `${api}/issues/${number}/labels{/name}`,
    events_url: `${api}/issues/${number}/events`,
    pull_request: { url: `${api}/pulls/${number}`, html_url: web, diff_url: `${web}.diff`, patch_url: `${web}.patch` },
    reactions: {
      url: `${api}/issues/${number}/reactions`,
      ...{ total_count: 0, '+1': 0, '-1': 0, laugh: 0, hooray: 0, confused: 0, heart: 0, rocket: 0, eyes: 0 },
    },
  }
}

/** The members that the payloads of all events have. */
const openCommon = ({ full, api }: Context) => {
  const known = new Map<string, Promise<Json>>()
  const once = (path: string) => {
    const answer = known.get(path) ?? api(OWNER, 'GET', path)
    known.set(path, answer)
    return answer
  }
  return async (login: string) => ({
    repository: await once(`/repos/${full}`),
    sender: await once(`/users/${login}`),
    installation: { id: INSTALLATION, node_id: 'MDIzOkludGVncmF0aW9uSW5zdGFsbGF0aW9uMTAw' },
  })
}

/** What GitHub tells of a push that came by git with the App's token. The bot may be gone by then. */
const pushed = async (context: Context, { branch, before, after, message }: GitPush): Promise<void> => {
  const { repository, sender, installation } = await openCommon(context)(OWNER)
  const login = 'agent-swarm[bot]'
  const payload = pushPayload(context.full, branch, before, { sha: after, message }, login)
  await context.webhooks
    .deliver('push', { ...payload, repository, installation, sender: { ...sender, login, type: 'Bot' } })
    .catch(error => {
      if (!(error instanceof TypeError)) throw error
    })
}

/** What people do in the repository. Each sends its event. */
const openPeople = (context: Context) => {
  const { full, api, webhooks } = context
  const common = openCommon(context)
  const pull = (number: number): Promise<Json> => api(OWNER, 'GET', `/repos/${full}/pulls/${number}`)
  const pullEvent = async (action: string, number: number, login: string) =>
    webhooks.deliver('pull_request', { action, number, pull_request: await pull(number), ...(await common(login)) })
  const headOf = async (branch: string): Promise<string> => {
    const ref = (await api(OWNER, 'GET', `/repos/${full}/git/ref/heads/${branch}`)) as { object: { sha: string } }
    return ref.object.sha
  }
  const commit = async (branch: string, path: string, content: string, message: string, sha?: unknown) => {
    const answer = (await api(OWNER, 'PUT', `/repos/${full}/contents/${path}`, {
      ...{ message, content: Buffer.from(content).toString('base64'), branch },
      ...(sha === undefined ? {} : { sha }),
    })) as { commit: { sha: string } }
    return { sha: answer.commit.sha, message }
  }
  const pushEvent = async (branch: string, before: string, pushed: Commit, login: string) =>
    webhooks.deliver('push', { ...pushPayload(full, branch, before, pushed, login), ...(await common(login)) })
  const issueOf = async (number: number) => issueOfPull(full, await pull(number))
  let pushes = 0

  return {
    common,
    pull,
    issueOf,
    ...openAgentPeople(context.agents, { webhooks, common, pull, headOf }),
    /** Pushes a new commit to `branch`, which is made of main when it does not exist. Returns the commit. */
    push: async (branch: string, login = 'dev'): Promise<string> => {
      const main = await headOf('main')
      const ref = { ref: `refs/heads/${branch}`, sha: main }
      const created = await api(OWNER, 'POST', `/repos/${full}/git/refs`, ref).catch(() => null)
      pushes += 1
      const pushed = await commit(branch, `file-${pushes}.txt`, String(pushes), `change ${pushes}`)
      await pushEvent(branch, created === null ? main : NO_COMMIT, pushed, login)
      return pushed.sha
    },
    /** Writes a file on an existing branch. */
    write: async (branch: string, path: string, content: string, login = 'dev'): Promise<void> => {
      const before = await headOf(branch)
      const known = await api(OWNER, 'GET', `/repos/${full}/contents/${path}?ref=${branch}`).catch(() => null)
      await pushEvent(branch, before, await commit(branch, path, content, `change ${path}`, known?.sha), login)
    },
    /** Opens a pull request of `branch`. Returns its number. */
    open: async (branch: string, title: string, login = 'dev'): Promise<number> => {
      const pullRequest = { title, head: branch, base: 'main', body: '' }
      const { number } = (await api(OWNER, 'POST', `/repos/${full}/pulls`, pullRequest)) as { number: number }
      await pullEvent('opened', number, login)
      return number
    },
    merge: async (number: number, login = 'dev') => {
      await api(OWNER, 'PUT', `/repos/${full}/pulls/${number}/merge`, {})
      return pullEvent('closed', number, login)
    },
    /** Makes a draft ready for review. GitHub has a mutation of GraphQL for it, the simulator this. */
    ready: async (number: number, login = 'dev') => {
      await api(OWNER, 'PATCH', `/repos/${full}/pulls/${number}`, { draft: false })
      return pullEvent('ready_for_review', number, login)
    },
    close: async (number: number, login = 'dev') => {
      await api(OWNER, 'PATCH', `/repos/${full}/pulls/${number}`, { state: 'closed' })
      return pullEvent('closed', number, login)
    },
    reopen: async (number: number, login = 'dev') => {
      await api(OWNER, 'PATCH', `/repos/${full}/pulls/${number}`, { state: 'open' })
      return pullEvent('reopened', number, login)
    },
    /** Comments on a pull request. Returns the comment's id. */
    comment: async (
      number: number,
      body: string,
      login = 'dev',
      action: 'created' | 'edited' = 'created',
    ): Promise<number> => {
      const comment = (await api(login, 'POST', `/repos/${full}/issues/${number}/comments`, { body })) as { id: number }
      await webhooks.deliver('issue_comment', {
        ...{ action, issue: await issueOf(number), comment },
        ...(await common(login)),
      })
      return comment.id
    },
  }
}

/** `people`: logins with their permission in the repositories; null: not a collaborator. `more`: repositories besides `repo`. */
export const startGitHub = async ({
  repo = 'shop',
  more = [] as string[],
  people = { dev: 'push' } as Record<string, Permission | null>,
  /** Of the App, besides those of app.yml. */
  permissions = {} as Record<string, string>,
} = {}) => {
  const full = `${OWNER}/${repo}`
  const repositories = [repo, ...more]
  const emulator = await startEmulator(repositories, Object.keys(people), permissions)
  const privateKey = privateKeyOfApp()
  const app = { id: APP_ID, privateKey, installation: INSTALLATION }
  const api = openApi(emulator.url)
  const state = openFrontState()
  const webhooks = openWebhooks()
  const git = openGitSide({
    ...{ api, owner: OWNER, repositories: repositories.map(name => `${OWNER}/${name}`) },
    rightOf: token => {
      const permission = people[token.replace(/^token-/, '')] ?? null
      return state.gitTokens.get(token) ?? (permission === null ? null : permission === 'pull' ? 'read' : 'write')
    },
    onPush: (name, push) => void pushed({ full: name, api, webhooks, agents: state.agents }, push),
  })
  const front = await startFront({
    ...{ state, webhooks, app, owner: OWNER, people, repositories, emulatorUrl: emulator.url, git, api },
  })
  for (const [login, permission] of Object.entries(people))
    for (const name of permission === null ? [] : repositories)
      await api(OWNER, 'PUT', `/repos/${OWNER}/${name}/collaborators/${login}`, { permission })

  const { reactions, ...shown } = state
  return {
    url: front.url,
    repo: full,
    app,
    /** The settings of a bot that is its App. */
    settings: {
      ...{ APP_ID: String(APP_ID), PRIVATE_KEY: privateKey, WEBHOOK_SECRET, GITHUB_API_URL: front.url },
      GITHUB_REPOSITORIES: repositories.map(name => `${OWNER}/${name}`).join(','),
    },
    api,
    ...shown,
    ...webhooks,
    ...openPeople({ full, api, webhooks, agents: state.agents }),
    comments: async (number: number): Promise<Comment[]> => {
      type Listed = { id: number; body: string; user: { login: string; type: string } }
      const path = `/repos/${full}/issues/${number}/comments?per_page=100`
      const listed = (await api(OWNER, 'GET', path)) as unknown as Listed[]
      return listed.map(({ id, body, user }) => ({ id, body, author: user.login, authorType: user.type }))
    },
    /** Makes a team of the organization with these members. Returns its name in a rule. */
    team: async (name: string, ...members: string[]): Promise<string> => {
      await api(OWNER, 'POST', `/orgs/${GUILD}/teams`, { name })
      for (const login of members) await api(OWNER, 'PUT', `/orgs/${GUILD}/teams/${name}/memberships/${login}`, {})
      return `${GUILD}/${name}`
    },
    reactions: (commentId: number): string[] => reactions.get(commentId) ?? [],
    /** Throws when a request was not one that GitHub's description allows: every test that uses this proves its requests. */
    stop: async () => {
      await front.stop()
      git.stop()
      await emulator.close()
      if (state.invalid.length > 0) throw new Error(`GitHub would refuse these requests:\n${state.invalid.join('\n')}`)
    },
  }
}
export type GitHubStandIn = Awaited<ReturnType<typeof startGitHub>>
