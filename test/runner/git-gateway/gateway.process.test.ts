/** Real git on both sides: machines that clone and push through the gateway, and a git server with tokens. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { fail } from '../../../src/errors.ts'
import { REPOSITORY_LIMITS } from '../../../src/runner/git-gateway/git.ts'
import { poolKey } from '../../../src/runner/git-gateway/policy.ts'
import { openStage, runGit, TOKEN } from './stage.ts'

const branch = async (stage: Awaited<ReturnType<typeof openStage>>, name: string) => {
  const machine = await stage.machine('DROP-1')
  await machine.clone()
  await machine.git('checkout', '-q', '-b', name)
  return machine
}

test('a machine clones, and pushes the branch of its ticket; mirror and remote have it, and it is recorded', async () => {
  const stage = await openStage()
  const one = await stage.machine('DROP-1')
  expect(await one.clone()).toMatchObject({ code: 0 })
  expect((await one.git('symbolic-ref', '--short', 'HEAD')).stdout).toBe('main')
  await one.git('checkout', '-q', '-b', 'DROP-1-login')
  const commit = await one.commit('login')
  expect(await one.git('push', '-q', 'origin', 'DROP-1-login')).toMatchObject({ code: 0 })
  expect(stage.server.git('acme/shop', 'rev-parse', 'DROP-1-login')).toBe(commit)
  expect(await stage.mirrorGit('rev-parse', 'DROP-1-login')).toBe(commit)
  expect(stage.pushes).toMatchObject([
    { ticket: 'DROP-1', repo: 'acme/shop', branch: 'DROP-1-login', commit, byAgent: false },
  ])
  expect(stage.lines).toContainEqual(
    expect.objectContaining({ msg: 'push forwarded', ticket: 'DROP-1', ref: 'refs/heads/DROP-1-login' }),
  )
  expect(statSync(stage.mirror()).mode & 0o077).toBe(0)
  const again = await one.commit('more')
  await one.git('-c', 'http.extraHeader=X-Agent-Swarm-Run: the-run', 'push', '-q', 'origin', 'DROP-1-login')
  expect(stage.pushes.at(-1)).toMatchObject({ commit: again, byAgent: true })
})

test('whose branch it is depends on what the repository serves, as whoever gives the token says', async () => {
  const stage = await openStage({
    rulesOf: (_ticket, _repo, told = ['DROP']) => ({ projects: told, attempts: [], currentKey: ticket => ticket }),
  })
  const { tokenFor } = stage.options.tokens
  await stage.restart({
    tokens: {
      tokenFor: async need => {
        const given = await tokenFor(need)
        return given === null ? null : { ...given, projects: ['WEB', 'DROP'] }
      },
    },
  })
  const one = await branch(stage, 'DROP-1-login')
  await one.commit('login')
  const refused = await one.git('push', '-q', 'origin', 'HEAD:WEB-3-needs-DROP-1')
  expect(refused.stderr).toContain('does not belong to DROP-1')
  expect(await one.git('push', '-q', 'origin', 'DROP-1-login')).toMatchObject({ code: 0 })
})

test('a machine rewrites and drops what it pushed itself', async () => {
  const stage = await openStage()
  const one = await branch(stage, 'DROP-1-login')
  await one.commit('login')
  await one.git('push', '-q', 'origin', 'DROP-1-login')
  await one.git('commit', '-q', '--amend', '-m', 'better')
  expect((await one.git('push', '-q', 'origin', 'DROP-1-login')).stderr).toContain('non-fast-forward')
  expect(await one.git('push', '-q', '--force-with-lease', 'origin', 'DROP-1-login')).toMatchObject({ code: 0 })
  expect(stage.server.git('acme/shop', 'log', '-1', '--format=%s', 'DROP-1-login')).toBe('better')
})

test('what is not its own is refused, with words for the person, and changes nothing', async () => {
  const stage = await openStage()
  const one = await branch(stage, 'DROP-1-login')
  await one.commit('login')
  await one.git('push', '-q', 'origin', 'DROP-1-login')
  await one.git('tag', 'v1')
  const before = stage.server.git('acme/shop', 'for-each-ref')
  for (const [refspec, words] of [
    ['HEAD:main', 'does not push to the default branch'],
    ['HEAD:DROP-2-login', 'does not belong to DROP-1. Use one that names it first, for example DROP-1-fix'],
    ['HEAD:WEB-5-DROP-1', 'does not belong to DROP-1'],
    ['HEAD:dependabot/DROP-1', 'does not belong to DROP-1'],
    ['HEAD:feature', 'does not belong to DROP-1'],
    [':DROP-1-login', 'deletes no branch'],
    ['v1', 'pushes no tags'],
    ['HEAD:refs/notes/commits', 'pushes branches only'],
    ['HEAD:refs/agent-swarm/head', 'pushes branches only'],
  ] as const) {
    const ran = await one.git('push', '--force', 'origin', refspec)
    expect(ran.code, refspec).toBe(1)
    expect(ran.stderr, refspec).toContain(words)
    expect(ran.stderr, refspec).toMatch(/remote: agent-swarm: refs\//)
  }
  expect(stage.server.git('acme/shop', 'for-each-ref')).toBe(before)
  expect(
    (await stage.mirrorGit('for-each-ref'))
      .split('\n')
      .filter(line => !line.includes('agent-swarm'))
      .join('\n'),
  ).toBe(before)
  expect(stage.pushes).toHaveLength(1)
  expect(stage.lines.filter(({ msg }) => msg === 'push refused')).toHaveLength(9)
})

test('of several refs all are pushed or none, and each is answered truly', async () => {
  const stage = await openStage()
  const one = await branch(stage, 'DROP-1-login')
  const commit = await one.commit('login')
  const refused = await one.git('push', 'origin', 'HEAD:DROP-1-a', 'HEAD:DROP-2-b')
  expect(refused.stderr).toContain('refs/heads/DROP-1-a: not pushed, because another ref of this push is refused')
  expect(refused.stderr.match(/\[remote rejected\]/g)).toHaveLength(2)
  expect(await one.git('push', '-q', 'origin', 'HEAD:DROP-1-a', 'HEAD:drop-1/b')).toMatchObject({ code: 0 })
  expect(stage.server.git('acme/shop', 'for-each-ref', '--format=%(objectname) %(refname)')).toContain(
    `${commit} refs/heads/drop-1/b`,
  )
  expect(stage.pushes.map(push => push.branch)).toEqual(['DROP-1-a', 'drop-1/b'])
})

test("another's commits on the branch are not dropped, also when they came meanwhile; words say what to do", async () => {
  const stage = await openStage()
  const one = await branch(stage, 'DROP-1-login')
  await one.commit('login')
  await one.git('push', '-q', 'origin', 'DROP-1-login')
  const dana = await stage.colleague()
  await dana.git('checkout', '-q', 'DROP-1-login')
  await dana.git('commit', '-q', '--allow-empty', '-m', 'review')
  await dana.git('push', '-q', 'origin', 'DROP-1-login')
  const theirs = stage.server.git('acme/shop', 'rev-parse', 'DROP-1-login')
  await one.git('commit', '-q', '--amend', '-m', 'mine')
  // The lease of the machine is stale, and without a lease the hook sees the commit.
  expect((await one.git('push', '--force-with-lease', 'origin', 'DROP-1-login')).stderr).toContain('stale info')
  const forced = await one.git('push', '--force', 'origin', 'DROP-1-login')
  expect(forced.stderr).toContain(`drop commit ${theirs.slice(0, 10)}, which this machine did not push`)
  expect(stage.server.git('acme/shop', 'rev-parse', 'DROP-1-login')).toBe(theirs)
  // On top of it, it goes.
  await one.git('pull', '-q', '--rebase', 'origin', 'DROP-1-login')
  expect(await one.git('push', '-q', 'origin', 'DROP-1-login')).toMatchObject({ code: 0 })
})

test('what arrives at the remote during a push is not overwritten', async () => {
  const stage = await openStage()
  const one = await branch(stage, 'DROP-1-login')
  await one.commit('login')
  await one.git('push', '-q', 'origin', 'DROP-1-login')
  const dana = await stage.colleague()
  await dana.git('checkout', '-q', 'DROP-1-login')
  await dana.git('commit', '-q', '--allow-empty', '-m', 'review')
  // git runs this hook after it has read the refs, and before it sends.
  const hook = join(one.shop, '.git/hooks/pre-push')
  mkdirSync(dirname(hook), { recursive: true })
  const pushOfDana = `git -C '${dana.shop}' push -q origin DROP-1-login`
  writeFileSync(hook, `#!/bin/sh\nexec env -i PATH="$PATH" HOME=/nonexistent ${pushOfDana}\n`, { mode: 0o755 })
  await one.git('commit', '-q', '--amend', '-m', 'mine')
  const { code, stderr } = await one.git('push', '--force', 'origin', 'DROP-1-login')
  expect(code).toBe(1)
  expect(stderr).toContain('remote: agent-swarm: refs/heads/DROP-1-login: [rejected] (stale info)')
  expect(stage.server.git('acme/shop', 'log', '-1', '--format=%s', 'DROP-1-login')).toBe('review')
  expect(await stage.mirrorGit('log', '-1', '--format=%s', 'DROP-1-login')).toBe('login')
  // The next fetch has it, however short that was ago.
  await one.git('fetch', '-q')
  expect((await one.git('log', '-1', '--format=%s', 'origin/DROP-1-login')).stdout).toBe('review')
})

test('a machine that waits during a push does not make the commits of a colleague its own', async () => {
  const stage = await openStage({ clock: () => Date.now() + 60_000 })
  const one = await branch(stage, 'DROP-1-login')
  const base = await one.commit('login')
  await one.git('push', '-q', 'origin', 'DROP-1-login')
  const dana = await stage.colleague()
  await dana.git('checkout', '-q', 'DROP-1-login')
  await dana.git('commit', '-q', '--allow-empty', '-m', 'review')
  await one.git('fetch', '-q', dana.shop, 'DROP-1-login')
  // git runs this hook after its first request.
  const hook = join(one.shop, '.git/hooks/pre-push')
  mkdirSync(dirname(hook), { recursive: true })
  const pushOfDana = `git -C '${dana.shop}' push -q origin DROP-1-login`
  writeFileSync(hook, `#!/bin/sh\nexec env -i PATH="$PATH" HOME=/nonexistent ${pushOfDana}\n`, { mode: 0o755 })
  expect(await one.git('push', '-q', 'origin', 'FETCH_HEAD:refs/heads/DROP-1-other')).toMatchObject({ code: 0 })
  writeFileSync(hook, '#!/bin/sh\n', { mode: 0o755 })
  const forced = await one.git('push', '--force', 'origin', `${base}:refs/heads/DROP-1-login`)
  expect(forced.stderr).toContain('which this machine did not push')
  expect(stage.server.git('acme/shop', 'log', '-1', '--format=%s', 'DROP-1-login')).toBe('review')
})

test('a registry that fails does not turn a taken push into a refused one: it is recorded at the next update', async () => {
  let isBroken = true
  const recorded: string[] = []
  const stage = await openStage({
    record: {
      recordPush: (_ticket, { branch }) => {
        if (isBroken) throw new Error('the disk is full')
        recorded.push(branch)
      },
      pushedAll: () => false,
    },
  })
  const one = await branch(stage, 'DROP-1-login')
  await one.commit('login')
  expect(await one.git('push', '-q', 'origin', 'DROP-1-login')).toMatchObject({ code: 0 })
  expect(recorded).toEqual([])
  isBroken = false
  await stage.restart()
  await one.git('fetch', '-q')
  expect(recorded).toEqual(['DROP-1-login'])
})

test('a rebase onto main drops merged commits of main, which stay in main', async () => {
  const stage = await openStage()
  const one = await branch(stage, 'DROP-1-login')
  await one.commit('login')
  const dana = await stage.colleague()
  await dana.git('commit', '-q', '--allow-empty', '-m', 'two')
  await dana.git('push', '-q', 'origin', 'HEAD:main')
  await one.git('fetch', '-q')
  await one.git('merge', '-q', '-m', 'merge', 'origin/main')
  await one.git('push', '-q', 'origin', 'DROP-1-login')
  await one.git('reset', '-q', '--hard', 'HEAD^1')
  expect(await one.git('push', '-q', '--force', 'origin', 'DROP-1-login')).toMatchObject({ code: 0 })
})

test("the remote's refusal reaches the person in its own words, and the mirror does not change", async () => {
  const stage = await openStage()
  const one = await branch(stage, 'DROP-1-login')
  await one.commit('login')
  stage.server.protect('acme/shop', 'refs/heads/DROP-1-login')
  const ran = await one.git('push', 'origin', 'DROP-1-login')
  expect(ran.code).toBe(1)
  expect(ran.stderr).toContain(
    'remote: agent-swarm: error: GH006: Protected branch update failed for refs/heads/DROP-1-login.',
  )
  expect(await stage.mirrorGit('for-each-ref', 'refs/heads')).not.toContain('DROP-1')
  expect(stage.pushes).toEqual([])
  expect(readdirSync(join(stage.mirror(), 'objects')).filter(name => name.includes('incoming'))).toEqual([])
})

test('only repositories of the project are served, and rights are asked for at each request', async () => {
  const stage = await openStage()
  const one = await stage.machine('DROP-1')
  await one.clone()
  const foreign = await runGit(one.place, ['clone', `${one.address}/acme/secret`])
  expect(foreign.stderr).toContain('remote: agent-swarm: acme/secret does not serve the project of DROP-1')
  const other = await stage.machine('WEB-1')
  expect((await other.clone()).stderr).toContain('does not serve the project of WEB-1')
  // The bot says no: the ticket is another runner's, or was deleted. A mirror on the disk is no way around it.
  stage.refuseTokens('DROP-1')
  stage.gateway().forget(ticket => ticket === 'DROP-1')
  expect((await one.git('fetch')).stderr).toContain('DROP-1 is not pinned to this runner')
  const two = await stage.machine('DROP-2')
  expect(await two.clone()).toMatchObject({ code: 0 })
})

test('a repository that the operator closed to pushes is cloned, and says so to a push', async () => {
  const stage = await openStage({ limitsOf: () => ({ ...REPOSITORY_LIMITS, push: false }) })
  const one = await stage.machine('DROP-1')
  expect(await one.clone()).toMatchObject({ code: 0 })
  expect((await one.git('push', 'origin', 'HEAD:DROP-1-login')).stderr).toContain(
    'remote: agent-swarm: machines may not push to acme/shop. Ask the operator',
  )
  expect(stage.pushes).toEqual([])
})

test('a ready machine without a ticket fetches the repository of its pool, and pushes nothing', async () => {
  const asked: string[] = []
  const stage = await openStage({ mayFetch: (key, repo) => key === 'pool:acme/shop' && repo === 'acme/shop' })
  const { tokenFor } = stage.options.tokens
  await stage.restart({
    tokens: {
      tokenFor: need => {
        asked.push(`${need.need} ${need.ticket} ${need.repo}`)
        return tokenFor(need)
      },
    },
  })
  const ready = await stage.machine(poolKey('Acme/Shop'))
  expect(await ready.clone()).toMatchObject({ code: 0 })
  await ready.git('checkout', '-q', '-b', 'DROP-1-login')
  await ready.commit('login')
  const before = stage.server.git('acme/shop', 'for-each-ref')
  const push = await ready.git('push', 'origin', 'DROP-1-login')
  expect(push.code).not.toBe(0)
  expect(push.stderr).toContain('a machine that has no ticket yet pushes nothing')
  expect(stage.server.git('acme/shop', 'for-each-ref')).toBe(before)
  const other = await runGit(ready.place, ['clone', '-q', `${ready.address}/acme/api`])
  expect(other.stderr).toContain('a ready machine of acme/shop fetches nothing else')
  expect(new Set(asked)).toEqual(new Set(['read pool:acme/shop acme/shop']))
  expect(await stage.gateway().headOf({ ticket: poolKey('acme/shop'), repo: 'acme/shop' })).toBe(
    stage.server.git('acme/shop', 'rev-parse', 'main'),
  )
})

test('a revoked token ends fetches and pushes at once, with words; a new one is asked for', async () => {
  const stage = await openStage()
  const one = await branch(stage, 'DROP-1-login')
  await one.commit('login')
  stage.server.revoke(TOKEN)
  const push = await one.git('push', 'origin', 'DROP-1-login')
  expect(push.stderr).toMatch(/remote: agent-swarm: .*(Authentication failed|could not read)/)
  expect((await one.git('fetch')).code).toBe(128)
  stage.server.addToken(TOKEN, { 'acme/shop': 'read' })
  const denied = await one.git('push', 'origin', 'DROP-1-login')
  expect(denied.stderr).toMatch(/remote: agent-swarm: .*403/)
  stage.server.addToken(TOKEN, { 'acme/shop': 'write' })
  expect(await one.git('push', '-q', 'origin', 'DROP-1-login')).toMatchObject({ code: 0 })
})

test('while the remote is away, the mirror is served as it was, and pushes are refused', async () => {
  const stage = await openStage()
  const one = await branch(stage, 'DROP-1-login')
  await one.commit('login')
  await stage.restart()
  stage.server.setAway(true)
  expect((await one.git('fetch')).code).toBe(0)
  expect(stage.lines).toContainEqual(
    expect.objectContaining({ msg: 'the remote is away: the mirror is served as it was' }),
  )
  expect((await one.git('push', 'origin', 'DROP-1-login')).stderr).toMatch(/remote: agent-swarm: .*503/)
  stage.server.setAway(false)
  expect(await one.git('push', '-q', 'origin', 'DROP-1-login')).toMatchObject({ code: 0 })
})

test('while nobody can say what a ticket may read, the mirror of another one is not served to it', async () => {
  let isBotAway = false
  const stage = await openStage({ mayFetch: () => true, isProjectOf: () => false })
  const { tokenFor } = stage.options.tokens
  const tokens: typeof stage.options.tokens = {
    tokenFor: need => {
      if (isBotAway) throw fail('network', 'the bot is away')
      return tokenFor(need)
    },
  }
  await stage.restart({ tokens })
  const web = await stage.machine('WEB-1')
  await web.clone()
  isBotAway = true
  const drop = await stage.machine('DROP-1')
  expect(await drop.clone()).toMatchObject({ code: 128, stderr: expect.stringContaining('the bot is away') })
  // A body without the question for refs first is no way around it.
  const body = `0014command=ls-refs\n0000`
  const headers = { 'content-type': 'application/x-git-upload-pack-request', 'git-protocol': 'version=2' }
  const answer = await fetch(`${drop.address}/acme/shop/git-upload-pack`, { method: 'POST', headers, body })
  expect(answer.status).toBe(503)
  expect((await web.git('fetch')).code).toBe(0)
})

test('a machine that is refused without end does not fill the log', async () => {
  const stage = await openStage()
  const one = await stage.machine('DROP-1')
  for (let n = 0; n < 150; n += 1) await fetch(`${one.address}/acme/secret-${n}/info/refs?service=git-upload-pack`)
  expect(stage.lines.filter(({ msg }) => msg === 'request of git refused')).toHaveLength(100)
  // What another one causes is written.
  const two = await stage.machine('DROP-2')
  await fetch(`${two.address}/acme/secret/info/refs?service=git-upload-pack`)
  expect(stage.lines.at(-1)).toMatchObject({ msg: 'request of git refused', ticket: 'DROP-2' })
})

test('shallow and partial clones work, and pushes from them', async () => {
  const stage = await openStage()
  const dana = await stage.colleague()
  for (const n of [1, 2, 3]) {
    writeFileSync(join(dana.shop, `file-${n}`), `${n}`)
    await dana.git('add', '-A')
    await dana.git('commit', '-q', '-m', `${n}`)
  }
  await dana.git('push', '-q', 'origin', 'HEAD:main')
  for (const how of ['--depth=1', '--filter=blob:none', '--filter=tree:0']) {
    const one = await stage.machine('DROP-1')
    expect(await one.clone(how), how).toMatchObject({ code: 0 })
    await one.git('checkout', '-q', '-b', `DROP-1-${how.replaceAll(/[^a-z]/g, '')}`)
    const commit = await one.commit('mine', how)
    expect(await one.git('push', '-q', 'origin', 'HEAD'), how).toMatchObject({ code: 0 })
    expect(stage.server.git('acme/shop', 'log', '--all', '--format=%H')).toContain(commit)
  }
  const old = await stage.machine('DROP-1')
  expect(
    await runGit(old.place, ['-c', 'protocol.version=0', 'clone', '-q', `${old.address}/acme/shop.git`, 'shop']),
  ).toMatchObject({ code: 0 })
})

test('two machines at once: both are served, the remote is asked once, and each pushes its own', async () => {
  const stage = await openStage()
  const machines = await Promise.all(['DROP-1', 'DROP-2'].map(ticket => stage.machine(ticket)))
  const before = stage.server.requests.length
  await Promise.all(machines.map(one => one.clone()))
  const fetches = stage.server.requests
    .slice(before)
    .filter(({ method, url }) => method === 'POST' && url.endsWith('upload-pack'))
  // Refs and pack of the one fetch, and the default branch of a new mirror.
  expect(fetches.length).toBeLessThanOrEqual(4)
  const pushed = await Promise.all(
    machines.map(async (one, n) => {
      await one.commit(`file-${n}`)
      return one.git('push', '-q', 'origin', `HEAD:DROP-${n + 1}-x`)
    }),
  )
  expect(pushed).toMatchObject([{ code: 0 }, { code: 0 }])
  expect(stage.server.git('acme/shop', 'for-each-ref', '--format=%(refname:short)')).toBe('DROP-1-x\nDROP-2-x\nmain')
})

test('the default branch of the mirror follows that of the remote', async () => {
  const stage = await openStage()
  await (await stage.machine('DROP-1')).clone()
  const dana = await stage.colleague()
  await dana.git('commit', '-q', '--allow-empty', '-m', 'two')
  await dana.git('push', '-q', 'origin', 'HEAD:trunk')
  stage.server.git('acme/shop', 'symbolic-ref', 'HEAD', 'refs/heads/trunk')
  await stage.restart()
  const two = await stage.machine('DROP-2')
  await two.clone()
  expect((await two.git('symbolic-ref', '--short', 'HEAD')).stdout).toBe('trunk')
})

test('a file is read as the remote has it, and as the mirror has it while the remote is away', async () => {
  const stage = await openStage()
  const file = { ticket: 'DROP-1', repo: 'Acme/Shop', path: 'readme', most: 100 }
  const read = (more: Partial<typeof file> = {}) => stage.gateway().readFile({ ...file, ...more })
  stage.server.setAway(true)
  await expect(read()).rejects.toThrow('503')
  stage.server.setAway(false)
  expect([await read(), await read({ path: 'other' })]).toEqual(['one', null])
  await expect(read({ most: 3 })).rejects.toThrow('reading readme: it is larger than 3 bytes')
  const dana = await stage.colleague()
  writeFileSync(join(dana.shop, 'readme'), 'two\n')
  await dana.git('commit', '-q', '-am', 'two')
  await dana.git('push', '-q', 'origin', 'main')
  // A mirror that was brought up to date a moment ago is taken by the same gateway.
  await stage.restart()
  expect(await read()).toBe('two')
  stage.server.setAway(true)
  await stage.restart()
  expect(await read()).toBe('two')
})

test('an empty repository is cloned, and gets a first branch', async () => {
  const stage = await openStage()
  const one = await stage.machine('DROP-1')
  expect(await runGit(one.place, ['clone', '-q', `${one.address}/acme/api`, 'shop'])).toMatchObject({ code: 0 })
  await one.git('checkout', '-q', '-b', 'DROP-1-x')
  await one.commit('first')
  expect(await one.git('push', '-q', 'origin', 'HEAD')).toMatchObject({ code: 0 })
  expect(stage.server.git('acme/api', 'for-each-ref', '--format=%(refname:short)')).toBe('DROP-1-x')
})

test('no file below the home holds the token, and no answer to the machine', async () => {
  const stage = await openStage()
  const one = await branch(stage, 'DROP-1-login')
  await one.commit('login')
  const ran = await runGit(one.shop, ['push', 'origin', 'DROP-1-login'], {
    GIT_TRACE: '1',
    GIT_TRACE_CURL: '1',
    GIT_TRACE_PACKET: '1',
  })
  expect(ran.code).toBe(0)
  expect(ran.stderr).not.toContain(TOKEN)
  expect(JSON.stringify(stage.lines)).not.toContain(TOKEN)
  for (const folder of [stage.home, one.place])
    for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true }))
      if (entry.isFile())
        expect(readFileSync(join(entry.parentPath, entry.name)).includes(TOKEN), entry.name).toBe(false)
  expect(stage.server.requests.some(({ token }) => token === TOKEN)).toBe(true)
})
