/** From a move in Jira to what the runner needs for a machine with a project: a whole bot. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { until } from '../support/wait.ts'
import { environmentOf, openStage } from './stage.ts'

test('a create carries project and task, its runner gets a token, and the ticket is told what is missing', async () => {
  const stage = await openStage({
    people: { dev: 'push' },
    issues: { 'DROP-1': 'Pay by card', 'DROP-2': 'Pay by mail' },
    file: 'agent: { use: codex }\n',
    permissions: { contents: 'write' },
  })
  onTestFinished(() => stage.close())
  const { jira, runner, work, heartbeat, published } = stage
  const askToken = async (to: 'read' | 'write') => {
    const response = await runner('git-token', { runnerId: 'runner-1', ticket: 'DROP-1', repo: 'acme/shop', to })
    return { status: response.status, body: (await response.json()) as { token?: string; host?: string } }
  }
  await jira.move('DROP-1', 'In Progress')
  expect((await askToken('write')).status).toBe(403)

  let given: Awaited<ReturnType<typeof askToken>> | null = null
  const lease = await work(async ({ action }) => {
    // While it creates the machine, before any heartbeat tells of it.
    given = await askToken('write')
    return { result: 'done', summary: 'done', environment: environmentOf(action.ticket), seconds: 1 }
  })
  expect(lease.action).toMatchObject({
    kind: 'create',
    project: { repo: 'acme/shop', branch: null, summary: 'Pay by card' },
    task: { summary: 'Pay by card', description: '', acceptance: '' },
  })
  expect(given).toMatchObject({ status: 200, body: { token: expect.stringMatching(/^ghs_/), host: stage.github.url } })

  // Somebody else reported this one.
  Object.assign(jira.issue('DROP-2')?.fields ?? {}, { reporter: { accountId: 'mallory' } })
  await jira.move('DROP-2', 'In Progress')
  await work(({ action }) => ({
    ...{ result: 'done', summary: 'done', seconds: 1 },
    environment: environmentOf(action.ticket),
  }))
  await heartbeat([environmentOf('DROP-1'), environmentOf('DROP-2')])
  await published()
  const [note] = await until('the note', () => (jira.comments('DROP-2').length > 0 ? jira.comments('DROP-2') : null))
  expect(note).toContain('No agent was started: DROP-2 was reported by somebody whose tickets start none')
  expect(jira.comments('DROP-1').join()).not.toContain('No agent')

  // The files of the bot hold no token.
  const { token = '' } = (given as unknown as Awaited<ReturnType<typeof askToken>>).body
  for (const name of readdirSync(stage.home)) {
    if (!statSync(join(stage.home, name)).isFile()) continue
    expect(readFileSync(join(stage.home, name)).includes(token), name).toBe(false)
  }
})
