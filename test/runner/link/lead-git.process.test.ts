/** Git in a machine goes through the link that it has now, and a push says when there is none. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { leadGitThroughLink } from '../../../src/runner/link/access.ts'
import { actions, openTestContext } from '../../support/context.ts'
import { gitEnvironment, startGitServer } from '../../support/git-server.ts'
import { runGit } from '../git-gateway/stage.ts'

test('another process had the link under another address: git is led to the new one', async () => {
  const it = await openTestContext({ guest: 'shell' })
  onTestFinished(() => it.close())
  await it.do(actions.create('DROP-1'))
  const vmId = it.vmIdOf('DROP-1')
  const lead = leadGitThroughLink(it.context)
  const to = (port: number) => lead(vmId, () => `http://127.0.0.1:${port}/secret`, new AbortController().signal)
  const url = () =>
    it.inside(
      'DROP-1',
      'git config --file usr/local/lib/agent-swarm/gitconfig --get-regexp "^url.*insteadof" 2>/dev/null',
    )
  await to(1)
  expect(await url()).toBe('')
  const project = { repo: 'acme/shop', branch: null, summary: null, path: '~/shop', ports: [], save: [] }
  it.context.registry.setProject('DROP-1', { ...project, setup: null, start: null, problem: null, prepared: true })
  for (const port of [2, 3]) {
    await to(port)
    expect((await url())?.trim().split('\n')).toEqual(
      ['https://github.com/', 'git@github.com:', 'ssh://git@github.com/'].map(
        form => `url.http://127.0.0.1:${port}/secret/.insteadof ${form}`,
      ),
    )
  }
})

test('a push through the program in the machine: it works, and says when the runner is away', async () => {
  const server = await startGitServer()
  onTestFinished(() => server.stop())
  server.addRepository('acme/shop', { isPrivate: false })
  server.addToken('token', { 'acme/shop': 'write' })
  const work = join(server.path('acme/shop'), '..', 'work')
  mkdirSync(work)
  const config = join(work, '..', 'gitconfig')
  const base = `${server.url}/`
  writeFileSync(
    config,
    [
      `[url "${base}"]\n\tinsteadOf = https://github.com/`,
      `[url "agent-swarm::${base}"]\n\tpushInsteadOf = https://github.com/`,
      `[http "${base}"]\n\textraHeader = Authorization: Basic ${Buffer.from('x:token').toString('base64')}\n`,
    ].join('\n'),
  )
  const env = {
    GIT_CONFIG_GLOBAL: config,
    PATH: `${resolve(import.meta.dirname, '../../../guest')}:${process.env.PATH}`,
  }
  const git = (...argv: string[]) => execFileSync('git', argv, { cwd: work, env: { ...gitEnvironment(work), ...env } })
  git('init', '-q', '-b', 'DROP-1-x')
  git('commit', '-q', '--allow-empty', '-m', 'one')
  git('remote', 'add', 'origin', 'https://github.com/acme/shop')
  expect(await runGit(work, ['push', '-q', 'origin', 'HEAD'], env)).toMatchObject({ code: 0 })
  expect(server.git('acme/shop', 'for-each-ref', '--format=%(refname)')).toBe('refs/heads/DROP-1-x')
  expect(await runGit(work, ['fetch', '-q', 'origin'], env)).toMatchObject({ code: 0 })
  // Nobody listens at port 9.
  writeFileSync(config, '[url "agent-swarm::http://127.0.0.1:9/"]\n\tpushInsteadOf = https://github.com/\n')
  const refused = await runGit(work, ['push', 'origin', 'HEAD'], env)
  expect(refused.code).not.toBe(0)
  expect(refused.stderr).toMatch(/^agent-swarm: the runner is away, .*agent-swarm up\n/)
})
