/** Who may command: every kind of author and place is decided, and exactly the permitted ones act. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { CommentRef } from '../../src/schema/action.ts'
import type { Role } from '../support/github.ts'
import { type Desk, openDesk, tickets } from './desk.ts'

const kinds = ['user', 'bot', 'our App', 'ghost'] as const
const roles = ['none', 'read', 'triage', 'write', 'maintain', 'admin', null] as const satisfies Role[]
const forks = ['none', 'not allowed', 'allowed', 'allowed, then pushed'] as const
const changes = ['created', 'edited'] as const
const places = ['pull request', 'issue'] as const

const [ASSIGNEE, LISTED, OTHER] = ['557058:assignee', '557058:listed', '557058:other']
const HEAD = 'a'.repeat(40)

let desk: Desk
beforeAll(async () => {
  desk = await openDesk({ issues: tickets(12), jiraCommanders: [LISTED] })
})
afterAll(() => desk.close())

/** What a comment with the one command `checkpoint <name>` led to. `messages`: something is written about it. */
type Effect = { effect: string; messages: boolean; audit: string }
const acts: Effect = { effect: 'acts 1', messages: true, audit: 'allowed' }
const answered: Effect = { effect: 'answered', messages: true, audit: 'refused' }
/** A colleague who may not command sees that it was read. */
const shown: Effect = { effect: 'silence', messages: true, audit: 'refused' }
const silence: Effect = { effect: 'silence', messages: false, audit: 'refused' }

const openEffects = async () => {
  const names = (await desk.store.queue.list()).map(({ action }) => ('name' in action ? action.name : null))
  const audit = await desk.store.requests.audit(null, 10_000)
  const messages = (await desk.store.outbox.due(10_000)).map(({ body }) => JSON.stringify(body)).join('\n')
  return async ({ comment, name }: Cell): Promise<Effect> => {
    const count = names.filter(known => known === name).length
    const answers = (await desk.store.requests.ofComment(comment)).filter(({ answer }) => answer !== null)
    const verdicts = audit.filter(({ what }) => what === `/swarm checkpoint ${name}`).map(({ verdict }) => verdict)
    return {
      effect: count > 0 ? `acts ${count}` : answers.length > 0 ? 'answered' : 'silence',
      messages: new RegExp(`\\b${comment.commentId}\\b`).test(messages),
      audit: verdicts.join(),
    }
  }
}
type Cell = { cell: object; comment: CommentRef; name: string; expected: Effect }
const wrongCells = async (cells: readonly Cell[]) => {
  const effectOf = await openEffects()
  const wrong: object[] = []
  for (const cell of cells) {
    const effect = await effectOf(cell)
    if (JSON.stringify(effect) !== JSON.stringify(cell.expected)) wrong.push({ ...cell, effect })
  }
  return wrong
}

/** Opens a pull request for each kind of fork. Returns their numbers. */
const openForks = async (): Promise<Map<string, number>> => {
  const { github } = desk
  const numbers = new Map<string, number>()
  for (const [n, fork] of forks.entries()) {
    await github.push(`drop-${n + 1}-x`)
    const number = await github.open(`drop-${n + 1}-x`, 'x')
    numbers.set(fork, number)
    if (fork === 'none') continue
    github.forks.set(number, HEAD)
    if (fork === 'not allowed') continue
    await github.comment(number, `/swarm allow ${HEAD}`)
    await desk.decided()
    if (fork !== 'allowed') github.forks.set(number, 'b'.repeat(40))
  }
  return numbers
}

test('on GitHub: author, permission, fork, edited, pull request or issue', async () => {
  const { github } = desk
  const numbers = await openForks()
  const cells = kinds.flatMap(kind =>
    roles.flatMap(role =>
      forks.flatMap(fork => changes.flatMap(change => places.map(place => ({ kind, role, fork, change, place })))),
    ),
  )
  expect(cells).toHaveLength(448)
  const number = (fork: string) => numbers.get(fork) ?? 0
  const common = await github.common('dev')
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
        author_association: 'NONE',
        performed_via_github_app: kind === 'our App' ? { id: github.app.id } : null,
      },
      ...common,
    }
    const may = kind === 'user' && (role === 'write' || role === 'maintain' || role === 'admin')
    const isRead = may && change === 'created' && place === 'pull request'
    const isColleague = kind === 'user' && role === 'triage' && change === 'created' && place === 'pull request'
    const expected = isColleague ? shown : !isRead ? silence : fork === 'none' || fork === 'allowed' ? acts : answered
    return { cell, login, comment, name, payload, expected }
  })
  for (const { login, cell } of given) if (cell.kind === 'user') github.roles.set(login, cell.role)
  for (const role of roles) {
    // One name has one permission at a time.
    for (const login of ['agent-swarm[bot]', 'ghost']) github.roles.set(login, role)
    for (const { cell, payload } of given)
      if (cell.role === role) expect(await github.deliverBroken('issue_comment', payload)).toBe(202)
    expect(await desk.decided()).toEqual([])
  }
  expect(await wrongCells(given)).toEqual([])
  expect(given.filter(({ expected }) => expected === acts)).toHaveLength(6)
  expect(given.filter(({ expected }) => expected === answered)).toHaveLength(6)
})

test('in Jira: author, edited', async () => {
  const { jira, store } = desk
  const authors = ['assignee', 'listed', 'other', 'app', 'the bot'] as const
  const moments = ['created', 'edited before it was read', 'edited'] as const
  const accounts = { assignee: ASSIGNEE, listed: LISTED, other: OTHER, app: ASSIGNEE, 'the bot': jira.me.accountId }
  const cells = authors.flatMap((author, n) => moments.map(moment => ({ author, moment, ticket: `DROP-${n + 5}` })))
  for (const { ticket, author } of cells)
    await jira.assign(ticket, author === 'the bot' ? accounts['the bot'] : ASSIGNEE)
  await desk.decided()
  const given: Cell[] = []
  for (const [n, cell] of cells.entries()) {
    const { author, moment, ticket } = cell
    const name = `jira-${n}`
    const command = `/swarm checkpoint ${name}`
    const isEdited = moment === 'edited before it was read'
    const written = { by: accounts[author], app: author === 'app', edited: isEdited, send: false }
    const id = await jira.write(ticket, moment === 'edited' ? 'hello' : command, written)
    // A comment that the bot wrote, with a command in it, whoever put it there.
    if (author === 'the bot') await store.comments.set({ side: 'jira', kind: 'reply', ticket, about: `${n}` }, id, 'x')
    if (moment === 'edited') await jira.rewrite(ticket, id, command)
    else await jira.deliver(jira.commentPayloadOf(ticket, id))
    expect(await desk.decided()).toEqual([])
    const may = (author === 'assignee' || author === 'listed') && moment === 'created'
    given.push({ cell, comment: { ticket, commentId: id }, name, expected: may ? acts : silence })
  }
  expect(await wrongCells(given)).toEqual([])
  expect(given.filter(({ expected }) => expected === acts)).toHaveLength(2)
})
