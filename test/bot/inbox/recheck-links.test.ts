/** Links that an earlier version made by a looser rule. */
import { expect, onTestFinished, test } from 'vitest'
import { openLinkCheck } from '../../../src/bot/inbox/recheck-links.ts'
import { openLog } from '../../../src/log.ts'
import { until } from '../../support/wait.ts'
import { openDesk, tickets } from '../desk.ts'
import { environmentOf, openStage } from '../stage.ts'

const signal = new AbortController().signal

const open = async () => {
  const desk = await openDesk({ issues: tickets(9) })
  onTestFinished(() => desk.close())
  let nudged = 0
  const start = () =>
    openLinkCheck({
      ...desk.context,
      log: openLog('silent'),
      nudgePublisher: () => {
        nudged += 1
      },
    })
  /** A link with its status comment, as an earlier version made it. */
  const link = async (ticket: string, branch: string, title: string, repo = desk.github.repo) => {
    await desk.github.push(branch)
    const number = await desk.github.open(branch, title)
    await desk.decided()
    await desk.store.pullRequests.link({ repo, number, ticket, branch, state: 'open', closedAt: null })
    await desk.store.comments.set({ side: 'github', kind: 'status', repo, number, about: ticket }, '77', 'before')
    return number
  }
  const linked = async (ticket: string) => (await desk.store.pullRequests.ofTicket(ticket)).map(({ number }) => number)
  return { desk, start, link, linked, nudged: () => nudged }
}

test('they go at the first start, each status comment says so once, and that there was a pull request stays known', async () => {
  const { desk, start, link, linked, nudged } = await open()
  const byBranch = await link('DROP-1', 'drop-1-x', 'x')
  const byTitle = await link('DROP-2', 'patch', 'DROP-2: x')
  const byDescription = await link('DROP-3', 'patch-2', 'the ticket stands in the description')
  const version = await link('DROP-4', 'core-drop-4.1', 'x')
  const revert = await link('DROP-5', 'revert-4-drop-5', 'Revert DROP-5')
  const elsewhere = await link('DROP-6', 'drop-6-x', 'x', 'acme/elsewhere')
  // Jira shows this one.
  const about = `acme/shop#${byDescription}`
  await desk.store.comments.set({ side: 'jira', kind: 'link', ticket: 'DROP-3', about }, null, 'before')
  for (const n of [1, 2, 3, 4, 5, 6]) await desk.machine(`DROP-${n}`)
  const check = start()
  await check(signal)
  expect(await Promise.all([1, 2, 3, 4, 5].map(n => linked(`DROP-${n}`)))).toEqual([[byBranch], [byTitle], [], [], []])
  expect((await desk.store.pullRequests.ofTicket('DROP-6')).map(({ repo }) => repo)).toEqual(['acme/shop'])
  const unlinked = async () => (await desk.messages()).filter(key => key.startsWith('unlinked'))
  expect(await unlinked()).toEqual([
    `unlinked:acme/elsewhere:${elsewhere}:DROP-6`,
    `unlinked:acme/shop:${byDescription}:DROP-3`,
    `unlinked:acme/shop:${version}:DROP-4`,
    `unlinked:acme/shop:${revert}:DROP-5`,
  ])
  expect((await desk.messages()).filter(key => key.startsWith('jira-unlink'))).toEqual([
    `jira-unlink:acme/shop:${byDescription}:DROP-3`,
  ])
  expect(nudged()).toBe(4)
  // Once a start, and never again for what is gone.
  const before = desk.github.requests.length
  await check(signal)
  await start()(signal)
  expect(desk.github.requests.length).toBe(before)
  expect(await unlinked()).toHaveLength(4)
  // Done stops the machine, and does not delete it.
  await desk.jira.move('DROP-3', 'Done')
  await desk.decided()
  expect(await desk.states('DROP-3')).toEqual(['stop pending'])
})

test('while GitHub cannot be reached, what needs it waits, and the rest is not held up for ever', async () => {
  const { desk, start, link, linked } = await open()
  const number = await link('DROP-1', 'patch', 'x')
  await link('DROP-2', 'drop-2-x', 'x', 'acme/unlisted')
  await desk.store.pullRequests.unlink({ repo: desk.github.repo, number: number + 1 })
  const check = start()
  expect(await desk.store.pullRequests.projects()).toEqual([
    { repo: 'acme/shop', project: 'DROP' },
    { repo: 'acme/unlisted', project: 'DROP' },
  ])
  desk.github.faults.push({ match: new RegExp(`/pulls/${number}$`), answer: { status: 502 } })
  await check(signal)
  expect(await linked('DROP-1')).toEqual([number])
  // A repository that serves nothing loses its links at once.
  expect(await linked('DROP-2')).toEqual([])
  await check(signal)
  expect(await linked('DROP-1')).toEqual([])
})

test('a pull request that is closed to us keeps its link', async () => {
  const { desk, start, link, linked } = await open()
  const number = await link('DROP-1', 'patch', 'x')
  desk.github.faults.push({ match: new RegExp(`/pulls/${number}$`), answer: { status: 403 } })
  await start()(signal)
  expect(await linked('DROP-1')).toEqual([number])
})

test('the status comment on a pull request that goes to another ticket says so, and Jira shows it there no longer', async () => {
  const stage = await openStage({ people: { dev: 'push' }, issues: tickets(2) })
  onTestFinished(() => stage.close())
  const { github } = stage
  await stage.heartbeat([environmentOf('DROP-1')])
  await github.push('patch')
  const number = await github.open('patch', 'DROP-1: x')
  const says = async (text: string) => (await github.comments(number)).some(({ body }) => body.includes(text))
  await until('the status comment', () => says('DROP-1: running'))
  await until('the link in Jira', () => stage.jira.links('DROP-1').length === 1)
  await github.api('acme', 'PATCH', `/repos/${github.repo}/pulls/${number}`, { title: 'x' })
  await github.deliver('pull_request', {
    ...{ action: 'edited', number, changes: { title: { from: 'DROP-1: x' } }, pull_request: await github.pull(number) },
    ...(await github.common('dev')),
  })
  await until('the comment about the end of the link', () => says('DROP-1: not linked to this pull request'))
  expect(await says('DROP-1: running')).toBe(false)
  await until('the end of the link in Jira', () => stage.jira.links('DROP-1').length === 0)
  expect((await stage.store.tickets.get('DROP-1')).hadPullRequest).toBe(true)
})
