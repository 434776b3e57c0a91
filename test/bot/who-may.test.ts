/** Who may command: every kind of author and place through a whole bot, and exactly the allowed ones act. */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { CommentRef } from '../../src/schema/action.ts'
import { type Memory, openMemory } from '../../src/store/sqlite/memory.ts'
import type { Role } from '../support/github.ts'
import { until } from '../support/wait.ts'
import { openStage, type Stage } from './stage.ts'

const kinds = ['user', 'bot', 'our App', 'ghost'] as const
const roles = ['none', 'read', 'triage', 'write', 'maintain', 'admin', null] as const satisfies Role[]
const forks = ['none', 'not allowed', 'allowed', 'allowed, then pushed'] as const
const changes = ['created', 'edited'] as const
const places = ['pull request', 'issue'] as const

const [ASSIGNEE, LISTED, OTHER] = ['557058:assignee', '557058:listed', '557058:other']
const HEAD = 'a'.repeat(40)

let stage: Stage
let memory: Memory
beforeAll(async () => {
  const issues = Object.fromEntries(Array.from({ length: 12 }, (_, n) => [`DROP-${n + 1}`, 'a ticket']))
  stage = await openStage({ people: { dev: 'push' }, issues, settings: { JIRA_COMMANDERS: LISTED } })
  memory = openMemory(join(stage.home, 'memory.db'), Date.now)
})
afterAll(async () => {
  memory.close()
  await stage.close()
})

/** Tells what came of a comment whose one command is `checkpoint <name>`. */
const looked = () => {
  const actions = stage.queue.list().map(({ action }) => ('name' in action ? action.name : null))
  const audit = memory.audit(null, 10_000)
  const answers = ['DROP-5', 'DROP-6', 'DROP-7', 'DROP-8', 'DROP-9'].flatMap(ticket => stage.jira.comments(ticket))
  // What waits to be written, and what was.
  const written = [
    ...stage.queue.outbox.take(10_000).map(({ message }) => JSON.stringify(message)),
    ...stage.github.asked.filter(({ method }) => method !== 'GET').map(one => JSON.stringify([one.path, one.body])),
    ...answers.filter(one => one.startsWith('Answer to comment ')).map(one => one.slice(0, 30)),
  ].join('\n')
  return (comment: CommentRef, name: string) => {
    const named = actions.filter(one => one === name).length
    const came = named > 0 ? `acts ${named}` : memory.commandsOf(comment).length > 0 ? 'answered' : 'silence'
    const lines = audit.filter(({ what }) => what === `/swarm checkpoint ${name}`)
    return {
      came,
      writes: new RegExp(`\\b${comment.commentId}\\b`).test(written),
      audit: lines.map(one => one.verdict).join(),
    }
  }
}
const acts = { came: 'acts 1', writes: true, audit: 'allowed' }
const answered = { came: 'answered', writes: true, audit: 'refused' }
const silence = { came: 'silence', writes: false, audit: 'refused' }

type Given = { cell: object; comment: CommentRef; name: string; expected: typeof silence }
/** Those of which something else came. */
const wrongOf = (given: readonly Given[]) => {
  const cameOf = looked()
  return given
    .map(({ cell, comment, name, expected }) => ({ cell, found: cameOf(comment, name), expected }))
    .filter(({ found, expected }) => JSON.stringify(found) !== JSON.stringify(expected))
}

test('on GitHub: author, permission, fork, edited, pull request or issue', async () => {
  const { github } = stage
  const numbers = new Map<string, number>()
  for (const [n, fork] of forks.entries()) {
    await github.push(`drop-${n + 1}-x`)
    const number = await github.open(`drop-${n + 1}-x`, 'x')
    numbers.set(fork, number)
    if (fork === 'none') continue
    github.forks.set(number, HEAD)
    if (fork === 'not allowed') continue
    await github.comment(number, `/swarm allow ${HEAD}`)
    await stage.decided()
    if (fork !== 'allowed') github.forks.set(number, 'b'.repeat(40))
  }
  const cells = kinds.flatMap(kind =>
    roles.flatMap(role =>
      forks.flatMap(fork => changes.flatMap(change => places.map(place => ({ kind, role, fork, change, place })))),
    ),
  )
  expect(cells).toHaveLength(448)
  const number = (fork: string) => numbers.get(fork) ?? 0
  const shared = await github.common('dev')
  const issues = new Map<string, Awaited<ReturnType<typeof github.issueOf>>>()
  for (const fork of forks) issues.set(fork, await github.issueOf(number(fork)))
  const id = await github.comment(number('none'), 'a comment')
  const like = await github.api('dev', 'GET', `/repos/${github.repo}/issues/comments/${id}`)
  const given = cells.map((cell, n) => {
    const { kind, role, fork, change, place } = cell
    const login = { user: `user-${n}`, bot: `helper-${n}[bot]`, 'our App': 'agent-swarm[bot]', ghost: 'ghost' }[kind]
    const comment = { repo: github.repo, number: number(fork), commentId: 1_000_000 + n }
    const name = `cell-${n}`
    const user = { ...(like.user as object), login, type: kind === 'user' ? 'User' : 'Bot' }
    const { pull_request, ...issue } = issues.get(fork) ?? { pull_request: {} }
    const payload = {
      action: change,
      ...(change === 'edited' ? { changes: { body: { from: 'hello' } } } : {}),
      issue: place === 'issue' ? issue : { ...issue, pull_request },
      comment: {
        ...like,
        id: comment.commentId,
        body: `/swarm checkpoint ${name}`,
        user: kind === 'ghost' ? null : user,
        performed_via_github_app: kind === 'our App' ? { id: github.app.id } : null,
      },
      ...shared,
    }
    const may = kind === 'user' && (role === 'write' || role === 'maintain' || role === 'admin')
    const heard = may && change === 'created' && place === 'pull request'
    const expected = !heard ? silence : fork === 'none' || fork === 'allowed' ? acts : answered
    return { cell, login, comment, name, payload, expected }
  })
  for (const role of roles) {
    // Of one name there is one permission at a time.
    const some = given.filter(one => one.cell.role === role)
    for (const { login } of some) github.roles.set(login, role)
    const statuses = await Promise.all(some.map(({ payload }) => github.deliverBroken('issue_comment', payload)))
    expect(new Set(statuses)).toEqual(new Set([202]))
    await stage.decided()
  }
  expect(wrongOf(given)).toEqual([])
  expect(given.filter(one => one.expected === acts)).toHaveLength(6)
  expect(given.filter(one => one.expected === answered)).toHaveLength(6)
}, 60_000)

test('in Jira: author, edited', async () => {
  const { jira } = stage
  const authors = ['assignee', 'listed', 'other', 'app', 'ours'] as const
  const moments = ['created', 'edited before it was read', 'edited'] as const
  const accounts = { assignee: ASSIGNEE, listed: LISTED, other: OTHER, app: ASSIGNEE, ours: jira.me.accountId }
  const cells = authors.flatMap((author, n) => moments.map(moment => ({ author, moment, ticket: `DROP-${n + 5}` })))
  for (const { ticket, author } of cells)
    if (jira.issue(ticket)?.assignee !== ASSIGNEE)
      await jira.assign(ticket, author === 'ours' ? accounts.ours : ASSIGNEE)
  await stage.decided()
  const given: Given[] = []
  for (const [n, cell] of cells.entries()) {
    const { author, moment, ticket } = cell
    const name = `jira-${n}`
    const said = `/swarm checkpoint ${name}`
    let id: string
    if (author === 'ours') {
      // What the bot itself wrote, with a command in it that nobody put there.
      const asked = await jira.write(ticket, '/swarm status', { by: accounts.ours })
      await until('an answer', () => memory.jiraAnswer(`reply:${asked}`)?.id)
      id = memory.jiraAnswer(`reply:${asked}`)?.id ?? ''
      const comment = jira.issue(ticket)?.comments.find(one => one.id === id)
      if (comment === undefined) throw new Error('no answer')
      comment.body = {
        type: 'doc',
        version: 1,
        content: [{ type: 'paragraph', content: [{ type: 'text', text: said }] }],
      }
      if (moment === 'created') comment.changedAt = comment.at
      const told = jira.commentPayloadOf(ticket, id)
      await jira.deliver(moment === 'edited' ? { ...told, webhookEvent: 'comment_updated' } : told)
    } else if (moment === 'edited') {
      id = await jira.write(ticket, 'hello', { by: accounts[author], app: author === 'app' })
      await jira.rewrite(ticket, id, said)
    } else {
      const edited = moment !== 'created'
      id = await jira.write(ticket, said, { by: accounts[author], app: author === 'app', edited })
    }
    const may = (author === 'assignee' || author === 'listed') && moment === 'created'
    given.push({ cell, comment: { ticket, commentId: id }, name, expected: may ? acts : silence })
    await stage.decided()
  }
  expect(wrongOf(given)).toEqual([])
  expect(given.filter(one => one.expected === acts)).toHaveLength(2)
}, 60_000)
