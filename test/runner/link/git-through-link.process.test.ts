/** Git in a machine with a project follows its link, whose address may be another one each time. */
import { expect, onTestFinished, test } from 'vitest'
import { openLog } from '../../../src/log.ts'
import { leadGitThroughLink } from '../../../src/runner/link/access.ts'
import { openLinks } from '../../../src/runner/link/links.ts'
import type { LinkHandler } from '../../../src/runner/link/types.ts'
import { actions, openTestContext } from '../../support/context.ts'
import { openRemote, useStandInGuests } from '../../support/stand-in-guest.ts'
import { until } from '../../support/wait.ts'

test('a command leaves git with the plain remote; a runner leads it through its link, and the next one through its own', async () => {
  const it = await openTestContext({ guest: 'shell' })
  onTestFinished(() => it.close())
  useStandInGuests(it)
  const remote = openRemote(it.home)
  remote.push('main', { a: '1' })
  const access = { remote: 'https://github.com/', note: null, readDefaultFile: null, projects: null }
  it.context.projectAccess = (_machine, work) => work({ ...access, through: remote.through, stays: false })
  await it.do({
    ...actions.create('DROP-1'),
    kind: 'create',
    project: { repo: 'acme/shop', branch: null, summary: null },
  })
  const originOfMachine = async () => (await it.inside('DROP-1', 'git -C shop ls-remote --get-url origin'))?.trim()
  expect(await originOfMachine()).toBe('https://github.com/acme/shop.git')

  const refuse: LinkHandler = (_machine, _request, response) => void response.writeHead(503).end()
  const addresses: string[] = []
  for (const _ of [1, 2]) {
    const options = { log: openLog('error'), beforeUp: leadGitThroughLink(it.context) }
    const links = openLinks(it.context, { git: refuse, model: refuse, requests: refuse }, options)
    const link = await until('the link', () => {
      const found = links.of(it.vmIdOf('DROP-1'))
      return found?.connected() === true ? found : null
    })
    addresses.push(link.address('git'))
    expect(await originOfMachine()).toBe(`${addresses.at(-1)}/acme/shop.git`)
    await links.close()
  }
  expect(new Set(addresses).size).toBe(2)
})
