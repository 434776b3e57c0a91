/** GitHub closes the pull request of a branch that is renamed, and the person opens another one: the machine goes on. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Desk, openDesk, tickets } from '../desk.ts'

let desk: Desk
beforeAll(async () => {
  desk = await openDesk({ issues: tickets(2) })
})
afterAll(() => desk.close())

const pullRequest = async (branch: string) => {
  await desk.github.push(branch)
  const number = await desk.github.open(branch, 'work')
  await desk.decided()
  return number
}
const states = async (ticket: string) =>
  (await desk.states(ticket)).filter(state => /^(start|stop) /.test(state) && !state.endsWith('cancelled'))

test('also when the new one is opened before the machine was stopped', async () => {
  await desk.machine('DROP-1')
  await desk.github.close(await pullRequest('DROP-1-old'))
  await desk.decided()
  expect(await states('DROP-1')).toEqual(['stop pending'])
  await pullRequest('DROP-1-new')
  expect((await states('DROP-1')).at(-1) ?? 'nothing').toMatch(/^(start pending|nothing)$/)
})

test('when the machine is stopped by then', async () => {
  await desk.machine('DROP-2')
  await desk.github.close(await pullRequest('DROP-2-old'))
  await desk.decided()
  await desk.machine('DROP-2', { status: 'stopped' })
  await pullRequest('DROP-2-new')
  expect((await states('DROP-2')).at(-1)).toBe('start pending')
})
