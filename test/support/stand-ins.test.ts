/** The stand-ins answer as the clients of the real services expect. */
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createCloudClient, isNotFoundError, isScopeError } from 'jira.js'
import { Probot, ProbotOctokit } from 'probot'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { gitEnvironment } from './git-server.ts'
import { type GitHubStandIn, startGitHub } from './github.ts'
import { type JiraStandIn, startJira } from './jira.ts'

describe('Jira, with a jira.js that throws at every unexpected answer', () => {
  let jira: JiraStandIn
  let client: ReturnType<typeof createCloudClient>
  const as = (email: string, apiToken: string) =>
    createCloudClient({ host: jira.url, auth: { type: 'basic', email, apiToken }, onSchemaMismatch: 'throw' })
  beforeAll(async () => {
    jira = await startJira({ issues: { 'SHOP-1': 'One', 'SHOP-2': 'Two' } })
    client = as(jira.me.emailAddress, jira.token)
  })
  afterAll(() => jira.stop())

  test('the own account', async () => {
    expect((await client.myself.getCurrentUser()).accountId).toBe(jira.me.accountId)
  })
  test('a wrong token is refused', async () => {
    await expect(as(jira.me.emailAddress, 'wrong').myself.getCurrentUser()).rejects.toMatchObject({ status: 401 })
  })
  test('a token with scopes is refused at the site, and accepted at the gateway within its scopes', async () => {
    const { token, url, scopes } = jira.scoped
    const { emailAddress: email } = jira.me
    await expect(as(email, token).myself.getCurrentUser()).rejects.toMatchObject({ status: 401 })
    expect(await (await fetch(`${jira.url}/_edge/tenant_info`)).json()).toEqual({ cloudId: url.split('/').at(-1) })
    const through = createCloudClient({ host: url, auth: { type: 'basic', email, apiToken: token } })
    expect((await through.myself.getCurrentUser()).accountId).toBe(jira.me.accountId)
    scopes.delete('read:jira-user')
    const lacking = await through.myself.getCurrentUser().catch((error: unknown) => error)
    expect(isScopeError(lacking)).toBe(true)
    expect((await through.serverInfo.getServerInfo()).deploymentType).toBe('Cloud')
    scopes.add('read:jira-user')
  })
  test('an issue with its status category', async () => {
    const issue = await client.issues.getIssue({ issueIdOrKey: 'SHOP-1', fields: ['status', 'assignee'] })
    expect(issue.fields?.status?.statusCategory?.key).toBe('new')
  })
  test('an unknown issue', async () => {
    const missing = await client.issues.getIssue({ issueIdOrKey: 'SHOP-9' }).catch((error: unknown) => error)
    expect(isNotFoundError(missing)).toBe(true)
  })
  test('a transition moves an issue', async () => {
    const { transitions = [] } = await client.issues.getTransitions({ issueIdOrKey: 'SHOP-2' })
    const id = transitions.find(transition => transition.to?.name === 'In Progress')?.id
    await client.issues.doTransition({ issueIdOrKey: 'SHOP-2', transition: { id } })
    expect(jira.issue('SHOP-2')?.status).toBe('In Progress')
  })
  test('a comment is a document, and is in the list', async () => {
    const body = {
      type: 'doc' as const,
      version: 1 as const,
      content: [{ type: 'paragraph', content: [{ type: 'text', text: 'Ready.' }] }],
    }
    await client.issueComments.addComment({ issueIdOrKey: 'SHOP-1', body })
    const { total } = await client.issueComments.getComments({ issueIdOrKey: 'SHOP-1' })
    expect([total, jira.comments('SHOP-1')]).toEqual([1, ['Ready.']])
  })
  test('a comment is read alone and with a search, with its author and whether it was edited', async () => {
    const id = await jira.write('SHOP-2', 'one\n/swarm create', { by: 'somebody', app: true })
    const read = () => client.issueComments.getComment({ issueIdOrKey: 'SHOP-2', id })
    const comment = await read()
    expect(comment.author).toMatchObject({ accountId: 'somebody', accountType: 'app' })
    expect([comment.body?.type, comment.updated]).toEqual(['doc', comment.created])
    await jira.rewrite('SHOP-2', id, 'another')
    const edited = await read()
    expect(edited.updated).not.toEqual(edited.created)
    const jql = 'project in ("SHOP") AND updated >= -60m ORDER BY updated ASC'
    const { issues = [] } = await client.issueSearch.searchAndReconsileIssuesUsingJql({ jql, fields: ['comment'] })
    expect(issues.find(issue => issue.key === 'SHOP-2')?.fields).toMatchObject({
      comment: { total: 1, comments: [{ id }] },
    })
    const body = { type: 'doc' as const, version: 1 as const, content: [] }
    // Only its author may edit it.
    await expect(
      client.issueComments.updateComment({ issueIdOrKey: 'SHOP-2', id, body: { body } }),
    ).rejects.toMatchObject({ status: 400 })
    const ours = await client.issueComments.addComment({ issueIdOrKey: 'SHOP-2', body })
    const change = { issueIdOrKey: 'SHOP-2', id: ours.id ?? '', notifyUsers: false, body: { body } }
    expect((await client.issueComments.updateComment(change)).id).toBe(ours.id)
    await expect(client.issueComments.getComment({ issueIdOrKey: 'SHOP-2', id: '1' })).rejects.toMatchObject({
      status: 404,
    })
  })
  test('the clock and the statuses', async () => {
    expect((await client.serverInfo.getServerInfo()).serverTime).toBeDefined()
    const statuses = await client.workflowStatuses.getStatuses()
    expect(statuses.map(status => status.statusCategory?.key)).toContain('indeterminate')
  })
  test('an issue that was moved is found by its present and its previous key', async () => {
    await jira.rekey('SHOP-2', 'WEB-7')
    for (const issueIdOrKey of ['SHOP-2', 'WEB-7'])
      expect((await client.issues.getIssue({ issueIdOrKey })).key).toBe('WEB-7')
    const { issues = [] } = await client.issues.bulkFetchIssues({ issueIdsOrKeys: ['SHOP-2'], expand: ['changelog'] })
    expect(issues.map(issue => issue.key)).toEqual(['WEB-7'])
    expect(issues[0]?.changelog?.histories?.[0]?.items).toMatchObject([
      { field: 'project', toString: 'WEB' },
      { field: 'Key', fromString: 'SHOP-2', toString: 'WEB-7' },
    ])
    await jira.rekey('WEB-7', 'SHOP-2')
    expect((await client.issues.getIssue({ issueIdOrKey: 'WEB-7' })).key).toBe('SHOP-2')
  })
  test('the existing ones of some keys, with their changes', async () => {
    const { issues = [] } = await client.issues.bulkFetchIssues({
      issueIdsOrKeys: ['SHOP-2', 'SHOP-99'],
      fields: ['status'],
      expand: ['changelog'],
    })
    expect(issues.map(issue => [issue.key, issue.changelog?.histories?.length])).toEqual([['SHOP-2', 3]])
  })
  test('the projects, and the permissions in one', async () => {
    expect((await client.projects.searchProjects()).values?.map(project => project.key)).toEqual(['SHOP'])
    expect((await client.projects.getProject({ projectIdOrKey: 'SHOP' })).key).toBe('SHOP')
    await expect(client.projects.getProject({ projectIdOrKey: 'NONE' })).rejects.toMatchObject({ status: 404 })
    const query = { projectKey: 'SHOP', permissions: 'BROWSE_PROJECTS' }
    const { permissions } = await client.permissions.getMyPermissions(query)
    expect(permissions?.BROWSE_PROJECTS).toMatchObject({ havePermission: true })
  })
  test('a remote link, one per id', async () => {
    const link = (title: string) =>
      client.issueRemoteLinks.createOrUpdateRemoteIssueLink({
        issueIdOrKey: 'SHOP-1',
        globalId: 'one',
        relationship: 'pull request',
        object: { url: 'https://example.org/', title },
      })
    expect((await link('first')).id).toBe((await link('second')).id)
    expect(jira.links('SHOP-1').map(link => link.object.title)).toEqual(['second'])
  })
  test('it fails at its end when something was requested that it lacks', async () => {
    const other = await startJira({ issues: { 'SHOP-1': 'One' } })
    const headers = {
      authorization: `Basic ${Buffer.from(`${other.me.emailAddress}:${other.token}`).toString('base64')}`,
    }
    await fetch(`${other.url}/rest/api/3/issue/SHOP-1/votes`, { headers })
    await fetch(`${other.url}/rest/api/3/dashboard`, { headers })
    await expect(other.stop()).rejects.toThrow('GET /rest/api/3/issue/SHOP-1/votes\nGET /rest/api/3/dashboard')
  })
  test('a search', async () => {
    const { issues = [] } = await client.issueSearch.searchAndReconsileIssuesUsingJql({
      jql: 'project in ("SHOP") AND updated >= -60m ORDER BY updated ASC',
      fields: ['status'],
      expand: 'changelog',
    })
    // A comment is a change too.
    expect(issues.map(issue => issue.key).sort()).toEqual(['SHOP-1', 'SHOP-2'])
    expect(issues.find(issue => issue.key === 'SHOP-2')?.changelog?.histories?.at(-1)?.items).toMatchObject([
      { field: 'status', to: '3' },
    ])
    const { values = [] } = await client.issues.getChangeLogs({ issueIdOrKey: 'SHOP-2' })
    expect(values).toHaveLength(3)
    const unknown = client.issueSearch.searchAndReconsileIssuesUsingJql({ jql: 'project in ("NONE")' })
    await expect(unknown).rejects.toMatchObject({ status: 400 })
  })
})

describe('GitHub, with Probot as the App', () => {
  let github: GitHubStandIn
  let octokit: Awaited<ReturnType<Probot['auth']>>
  const [owner, repo] = ['acme', 'shop']
  beforeAll(async () => {
    github = await startGitHub({ people: { dev: 'push', reader: 'pull', stranger: null } })
    const probot = new Probot({
      appId: github.app.id,
      privateKey: github.app.privateKey,
      secret: 'unused',
      baseUrl: github.url,
      logLevel: 'fatal',
      Octokit: ProbotOctokit.defaults((options: Record<string, unknown>) => ({
        ...options,
        throttle: { enabled: false },
        retry: { enabled: false },
      })),
    })
    octokit = await probot.auth(github.app.installation)
  })
  afterAll(() => github.stop())

  test.for([
    ['dev', 'write'],
    ['reader', 'read'],
  ] as const)('%s has the permission %s', async ([username, permission]) => {
    const { data } = await octokit.rest.repos.getCollaboratorPermissionLevel({ owner, repo, username })
    expect(data.permission).toBe(permission)
  })
  test('a stranger can at most read', async () => {
    const permission = await octokit.rest.repos
      .getCollaboratorPermissionLevel({ owner, repo, username: 'stranger' })
      .then(
        ({ data }) => data.permission,
        (error: { status: number }) => error.status,
      )
    expect(['read', 'none', 404]).toContain(permission)
  })
  test('a comment of the App is by a bot, and can be edited', async () => {
    await github.push('SHOP-1-x')
    const number = await github.open('SHOP-1-x', 'One')
    const { data } = await octokit.rest.issues.createComment({ owner, repo, issue_number: number, body: 'first' })
    await octokit.rest.issues.updateComment({ owner, repo, comment_id: data.id, body: 'second' })
    expect(await github.comments(number)).toEqual([expect.objectContaining({ body: 'second', authorType: 'Bot' })])
    expect((await octokit.rest.pulls.get({ owner, repo, pull_number: number })).data.head.ref).toBe('SHOP-1-x')
  })
  test('git has what the API wrote, and the API what was pushed, under the same ids', async () => {
    const written = await github.push('SHOP-2-x')
    const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-test-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const run = promisify(execFile)
    const git = async (...argv: string[]) =>
      (await run('git', argv, { cwd: folder, env: gitEnvironment(folder) })).stdout.trim()
    const urlFor = (login: string) => `${github.url.replace('://', `://x:token-${login}@`)}/acme/shop.git`
    await git('clone', '-q', '-b', 'SHOP-2-x', urlFor('dev'), '.')
    expect(await git('rev-parse', 'HEAD')).toBe(written)
    await git('commit', '-q', '--allow-empty', '-m', 'One more\n\nwith a body')
    await expect(git('push', '-q', urlFor('reader'), 'HEAD')).rejects.toThrow('403')
    await git('push', '-q', 'origin', 'HEAD')
    const { data } = await octokit.rest.git.getRef({ owner, repo, ref: 'heads/SHOP-2-x' })
    expect(data.object.sha).toBe(await git('rev-parse', 'HEAD'))
  })
  test("a reaction is kept once, and must be one of GitHub's", async () => {
    const react = (content: string) =>
      octokit.rest.reactions.createForIssueComment({ owner, repo, comment_id: 1, content: content as 'eyes' })
    await react('eyes')
    await react('eyes')
    await expect(react('thinking')).rejects.toMatchObject({ status: 422 })
    expect(github.reactions(1)).toEqual(['eyes'])
    // The front checks requests against GitHub's description.
    expect(github.invalid.splice(0)).toEqual([
      expect.stringMatching(/^POST .*\/reactions: the body\/content must be equal to one of/),
    ])
  })
  test('only payloads that GitHub could send are sent', async () => {
    await expect(github.deliver('push', { ref: 'refs/heads/x' })).rejects.toThrow("required property 'after'")
    await expect(github.deliver('push', { action: 'fly' })).rejects.toThrow('GitHub sends no push-fly')
    await expect(github.deliver('__proto__', {})).rejects.toThrow('GitHub sends no --proto--')
  })
})
