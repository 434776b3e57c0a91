/** A stop or a delete carries the commits of the ticket's merged pull requests, whoever asks for it. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { type Desk, openDesk, tickets } from '../desk.ts'

let desk: Desk
let ticket = ''
let count = 0
beforeAll(async () => {
  desk = await openDesk({ people: { dev: 'push' }, issues: tickets(20) })
  await desk.caughtUp()
})
afterAll(() => desk.close())
beforeEach(async () => {
  count += 1
  ticket = `DROP-${count}`
  await desk.machine(ticket)
})

/** The simulator lists the commit that the branch began at as well. */
const all = (ids: readonly string[]) => expect.arrayContaining([...ids])
const lastAction = async () => (await desk.actionsOf(ticket)).findLast(({ kind }) => kind !== 'checkpoint')
const pushTwice = async (branch: string) => [await desk.github.push(branch), await desk.github.push(branch)].reverse()
const mergeOf = async (branch: string) => {
  const commits = await pushTwice(branch)
  const number = await desk.github.open(branch, 'work')
  await desk.github.merge(number)
  await desk.decided()
  return { commits, number }
}

test('the delete after a merge names the head and the commits', async () => {
  const { commits } = await mergeOf(`${ticket}-work`)
  expect(await lastAction()).toMatchObject({ kind: 'delete', mergedCommits: all(commits) })
})

test('a second pull request hands on the commits of the first', async () => {
  const first = await pushTwice(`${ticket}-one`)
  const second = await pushTwice(`${ticket}-two`)
  const [one, two] = [await desk.github.open(`${ticket}-one`, '1'), await desk.github.open(`${ticket}-two`, '2')]
  await desk.github.merge(one)
  await desk.decided()
  expect(await desk.states(ticket)).not.toContain('delete pending')
  await desk.github.merge(two)
  await desk.decided()
  expect(await lastAction()).toMatchObject({ kind: 'delete', mergedCommits: all([...first, ...second]) })
})

test('commands hand them on too; --force needs none', async () => {
  const { commits, number } = await mergeOf(`${ticket}-work`)
  await desk.github.comment(number, '/swarm delete')
  await desk.decided()
  expect(await lastAction()).toMatchObject({ kind: 'delete', replyTo: {}, mergedCommits: all(commits) })
  await desk.github.comment(number, '/swarm delete --force')
  await desk.decided()
  expect(await lastAction()).toEqual(expect.not.objectContaining({ mergedCommits: expect.anything() }))
  await desk.machine(ticket)
  await desk.github.comment(number, '/swarm stop')
  await desk.decided()
  expect(await lastAction()).toMatchObject({ kind: 'stop', mergedCommits: all(commits) })
})

test('a pull request that is not merged names no commits', async () => {
  await pushTwice(`${ticket}-work`)
  const number = await desk.github.open(`${ticket}-work`, 'work')
  await desk.decided()
  await desk.github.close(number)
  await desk.decided()
  expect(await lastAction()).toEqual(expect.not.objectContaining({ mergedCommits: expect.anything() }))
  expect(await lastAction()).toMatchObject({ kind: 'stop' })
})
