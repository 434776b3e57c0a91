/** Creates with a project: a real git remote, and a guest that is a shell on this host. */
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { fail } from '../../../src/errors.ts'
import { targetOf } from '../../../src/runner/operation.ts'
import { preparePooled } from '../../../src/runner/pool/project.ts'
import type { ProjectAccess } from '../../../src/runner/project/access.ts'
import { prepareProject } from '../../../src/runner/project/project.ts'
import type { Action } from '../../../src/schema/action.ts'
import type { Workspace } from '../../../src/schema/workspace.ts'
import { actions, openTestContext, type TestContext } from '../../support/context.ts'
import { some } from '../../support/samples.ts'
import { fileIn, openRemote, useStandInGuests } from '../../support/stand-in-guest.ts'

let it: TestContext
let remote: ReturnType<typeof openRemote>
let access: ProjectAccess
beforeEach(async () => {
  it = await openTestContext({ guest: 'shell' })
  useStandInGuests(it)
  remote = openRemote(it.home)
  access = {
    ...{ remote: 'https://github.com/', through: remote.through, stays: true, note: null, readDefaultFile: null },
    projects: null,
  }
  it.context.projectAccess = (_machine, work) => work(access)
})
afterEach(() => it.close())

const createWith = (project: Partial<NonNullable<Extract<Action, { kind: 'create' }>['project']>> = {}): Action => ({
  ...actions.create('DROP-1'),
  kind: 'create',
  project: { repo: 'acme/shop', branch: null, summary: 'Fix the login', ...project },
})
const summaryOf = async (action: Action): Promise<string> => {
  const outcome = await it.do(action)
  if (outcome.result !== 'done') throw new Error(JSON.stringify(outcome))
  return outcome.summary
}
const project = () => it.context.registry.project('DROP-1')
const inside = async (script: string) => (await it.inside('DROP-1', script))?.trim()
const operator = (workspace: Workspace) => {
  it.context.config = { ...it.context.config, workspace: { 'Acme/Shop': workspace } }
}
const put = (name: string, text: string, mode = 0o600) => {
  const path = join(it.home, 'files/acme/shop', name)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
  chmodSync(path, mode)
}

describe('the branch', () => {
  test('a new one is made of the ticket and its summary, from the default branch', async () => {
    remote.push('main', { a: '1' })
    expect(await summaryOf(createWith())).toContain('. acme/shop is in ~/shop on the branch DROP-1-fix-the-login')
    expect(
      await inside('cd shop && git symbolic-ref --short HEAD && cat a && echo && git config remote.origin.url'),
    ).toBe('DROP-1-fix-the-login\n1\nhttps://github.com/acme/shop.git')
  })

  test('the one on the remote that names the ticket, and not one of an attempt or another ticket', async () => {
    remote.push('main', { a: '1' })
    remote.push('drop-1-mine', { a: '2' }, 1_700_000_100)
    remote.push('DROP-1-old', { a: '3' }, 1_600_000_000)
    remote.push('DROP-12-x', { a: '4' }, 1_700_000_200)
    remote.push('DROP-1-x-attempt-2', { a: '5' }, 1_700_000_300)
    expect(await summaryOf(createWith())).toContain('2 branches name the ticket, and drop-1-mine has the newest commit')
    expect(fileIn(it, 'DROP-1', 'shop/a')).toBe('2')
    expect(await inside('cd shop && git rev-parse --abbrev-ref "@{upstream}"')).toBe('origin/drop-1-mine')
  })

  test('one whose first key is of another project that the repository serves is not the ticket’s', async () => {
    remote.push('main', { a: '1' })
    remote.push('WEB-3-needs-DROP-1', { a: '2' }, 1_700_000_100)
    access = { ...access, projects: async () => ['WEB', 'DROP'] }
    expect(await summaryOf(createWith())).toContain('on the branch DROP-1-fix-the-login')
  })

  test('that of the pull request, whatever its name', async () => {
    remote.push('main', { a: '1' })
    remote.push('login', { a: '2' })
    await summaryOf(createWith({ branch: 'login' }))
    expect(project()?.branch).toBe('login')
    expect(fileIn(it, 'DROP-1', 'shop/a')).toBe('2')
  })

  test('an empty repository has it as its first', async () => {
    await summaryOf(createWith())
    expect(await inside('cd shop && git symbolic-ref HEAD')).toBe('refs/heads/DROP-1-fix-the-login')
  })

  test('a commit and a push need no options and no name', async () => {
    remote.push('main', { a: '1' })
    await summaryOf(createWith())
    await inside('cd shop && echo 2 > a && git commit -qam change && git push -q')
    expect(remote.branches()).toContain('refs/heads/DROP-1-fix-the-login')
    expect(await inside('cd shop && git log -1 --format="%an <%ae>"')).toBe(
      'DROP-1 (agent-swarm) <drop-1@agent-swarm.invalid>',
    )
  })
})

const file = (workspace: string) => ({ '.github/agent-swarm.yml': `workspace:\n${workspace}` })

describe('setup and start', () => {
  test('run in the project, with the environment, and their end is recorded', async () => {
    remote.push(
      'main',
      file(
        '  setup: pwd; echo "$GREETING" > made\n  start: exit 3\n  env: {GREETING: "it\'s $HOME"}\n  ports: [3000]\n',
      ),
    )
    const summary = await summaryOf(createWith())
    expect(summary).toMatch(
      /Setup \(\.github\/agent-swarm\.yml\) ended after \d+ s\. Start \(\.github\/agent-swarm\.yml\) failed with exit status 3 after \d+ s: agent-swarm logs DROP-1 --start$/,
    )
    expect(fileIn(it, 'DROP-1', 'shop/made')).toBe("it's $HOME\n")
    expect(fileIn(it, 'DROP-1', 'var/lib/agent-swarm/setup.log')).toMatch(/\/shop\n$/)
    expect(project()).toMatchObject({
      ports: [3000],
      setup: { state: 'done', exit: 0 },
      start: { state: 'failed', exit: 3 },
      problem: null,
    })
  })

  test('a failed setup leaves the machine usable, and start is tried', async () => {
    remote.push('main', file('  setup: |\n    false | true\n    echo never\n  start: sleep 1000\n'))
    const outcome = await it.do(createWith())
    expect(outcome).toMatchObject({
      result: 'done',
      environment: {
        status: 'running',
        project: { setup: { state: 'failed', exit: 1 }, start: { state: 'running', exit: null } },
      },
    })
    expect(fileIn(it, 'DROP-1', 'var/lib/agent-swarm/setup.log')).toBe('')
    await inside('systemctl stop agent-swarm-project.service')
  })

  test('setup runs once: a second create changes nothing', async () => {
    remote.push('main', file('  setup: echo x >> times\n'))
    await it.do(createWith())
    expect(await it.do(createWith())).toMatchObject({ result: 'skipped' })
    expect(fileIn(it, 'DROP-1', 'shop/times')).toBe('x\n')
  })

  test("the operator's members win, one by one", async () => {
    remote.push('main', file('  setup: echo theirs > who\n  ports: [1]\n  path: ~/elsewhere\n'))
    operator({ setup: 'echo ours > who' })
    expect(await summaryOf(createWith())).toContain('Setup (config.yaml) ended')
    expect(fileIn(it, 'DROP-1', 'elsewhere/who')).toBe('ours\n')
    expect(project()).toMatchObject({ ports: [1], path: '~/elsewhere' })
  })

  test('what is there is taken, and named', async () => {
    remote.push('main', {
      '.devcontainer/devcontainer.json':
        '{ // ours\n "postCreateCommand": {"a": "echo 1 > one", "b": ["sh", "-c", "echo 2 > \'t w o\'"]}, }',
    })
    expect(await summaryOf(createWith())).toContain('Setup (.devcontainer/devcontainer.json) ended')
    expect([fileIn(it, 'DROP-1', 'shop/one'), fileIn(it, 'DROP-1', 'shop/t w o')]).toEqual(['1\n', '2\n'])
  })

  test("the file of a branch does not count: the default branch's does", async () => {
    remote.push('main', file('  setup: echo main > who\n'))
    remote.push('DROP-1-x', file('  setup: echo branch > who\n'))
    await it.do(createWith())
    expect(fileIn(it, 'DROP-1', 'shop/who')).toBe('main\n')
  })

  test('a mistake in the file is reported, and the machine has its project', async () => {
    remote.push('main', file('  prots: [1]\n'))
    expect(await summaryOf(createWith())).toContain('.github/agent-swarm.yml:2: ')
    expect(project()?.problem).toContain('prots')
  })

  test('programs that setup left in the background do not hold it up', async () => {
    remote.push('main', file('  setup: sleep 1000 & echo $! > pid\n'))
    await it.do(createWith())
    expect(project()?.setup).toMatchObject({ state: 'done', exit: 0 })
    process.kill(Number(fileIn(it, 'DROP-1', 'shop/pid')))
  })

  test('a log is bounded, and its end is kept', async () => {
    remote.push('main', file('  setup: head -c 12000000 /dev/zero | tr "\\\\0" x; echo; echo the end\n'))
    await it.do(createWith())
    const size = (name: string) => fileIn(it, 'DROP-1', `var/lib/agent-swarm/${name}`)?.length ?? 0
    expect(size('setup.log') + size('setup.log.1')).toBeLessThanOrEqual(10_000_000)
    const outcome = await it.do({ ...actions.status('DROP-1'), kind: 'status', about: 'logs' })
    expect(outcome).toMatchObject({ result: 'done', log: expect.stringMatching(/== setup ==\n[\s\S]*\nthe end$/) })
  })

  test('what setup prints moves no cursor', async () => {
    remote.push('main', file('  setup: printf "\\033[2Jred\\r\\nnext\\a\\n"\n'))
    await it.do(createWith())
    const outcome = await it.do({ ...actions.status('DROP-1'), kind: 'status', about: 'logs' })
    expect(outcome).toMatchObject({ log: '== setup ==\n[2Jred\nnext' })
  })
})

describe('failures', () => {
  test('a repository that does not exist: the machine is there, the reason is reported, and a create tries again', async () => {
    expect(await summaryOf(createWith({ repo: 'acme/other', branch: 'login' }))).toMatch(
      /The project is not complete: cloning acme\/other: .*To try again: agent-swarm create DROP-1/s,
    )
    expect(project()).toMatchObject({ branch: 'login', prepared: false })
    expect(it.context.registry.environment('DROP-1')?.status).toBe('running')
    openRemote(it.home, 'acme/other').push('main', { a: '1' })
    expect(await summaryOf(createWith({ repo: 'acme/other' }))).toContain('already has a machine')
    expect(project()).toMatchObject({ repo: 'acme/other', problem: null, prepared: true })
  })

  test('a name that was wrong gives way to one that a person names, and to nothing else', async () => {
    remote.push('main', { a: '1' })
    await summaryOf(createWith({ repo: 'acme/nope', named: true }))
    expect(await summaryOf(createWith())).toContain('cloning acme/nope')
    expect(await summaryOf(createWith({ named: true }))).toContain('acme/shop is in ~/shop')
    expect(await summaryOf(createWith({ repo: 'acme/other', named: true }))).toContain('acme/shop, and stays so')
    expect(await it.do(createWith({ repo: 'acme/other' }))).toMatchObject({ result: 'skipped' })
  })

  test('a create that names no repository goes on with the one that the machine has', async () => {
    await summaryOf(createWith({ repo: 'acme/later' }))
    openRemote(it.home, 'acme/later').push('main', { a: '1' })
    expect(await summaryOf(actions.create('DROP-1'))).toContain('acme/later is in ~/later')
    expect(await it.do(actions.create('DROP-1'))).toMatchObject({ result: 'skipped' })
  })

  test('why a clone failed is one line, without the address of the link', async () => {
    access = { ...access, through: 'http://127.0.0.1:9/0123456789abcdef/' }
    const summary = await summaryOf(createWith())
    expect(summary).toContain('https://github.com/acme/shop')
    expect(summary).not.toMatch(/0123456789abcdef|\n/)
    expect(project()?.problem).not.toMatch(/0123456789abcdef|\n/)
  })

  test.for(some(['clone', 'setup', 'start of the project'], 3))(
    'a process that died at %s: the next create goes on',
    async phase => {
      remote.push('main', file('  setup: echo x >> times\n  start: exit 0\n'))
      let died = false
      const action = createWith()
      await it.do(action, {
        onPhase: reached => {
          if (reached !== phase || died) return
          died = true
          throw new Error('the process died here')
        },
      })
      expect(project()?.problem).not.toBeNull()
      await it.do(action)
      expect(project()).toMatchObject({ problem: null, setup: { state: 'done' }, start: { state: 'done' } })
      expect(fileIn(it, 'DROP-1', 'shop/times')).toBe('x\n')
    },
  )

  test.for(['before', 'after'])('a create that died %s the project was moved goes on with that one', async when => {
    remote.push('main', file('  path: /work/shop\n'))
    const { provider } = it.context
    let isDead = false
    it.context.provider = async name => {
      const real = await provider(name)
      const runInGuest: typeof real.runInGuest = async (vmId, script, options) => {
        const dies = !isDead && script.includes('# Moves a new clone')
        isDead ||= dies
        const ran = dies && when === 'before' ? null : await real.runInGuest?.(vmId, script, options)
        if (dies || ran == null) throw fail('guest-unreachable', 'the process died here')
        return ran
      }
      return { ...real, runInGuest }
    }
    await it.do(createWith())
    // Work in it is looked for there.
    expect([isDead, project()?.path]).toEqual([true, '/work/shop'])
    const made = when === 'after' ? 'work/shop' : 'shop'
    await inside(`touch ${made}/mine`)
    await it.do(createWith())
    expect(project()).toMatchObject({ path: '/work/shop', problem: null })
    expect([fileIn(it, 'DROP-1', 'work/shop/mine'), await inside('ls')]).toEqual([
      '',
      expect.not.stringMatching(/^shop$/m),
    ])
  })

  test("another repository of a person where the project began is none of the project's", async () => {
    remote.push('main', file('  path: /work/shop\n  setup: exit 1\n'))
    put('open', 'x', 0o644)
    await it.do(createWith())
    expect(project()?.problem).not.toBeNull()
    await inside('git init -q shop && rm -rf work/shop')
    await it.do(createWith())
    expect(await inside('ls shop/.git/HEAD && git -C work/shop config remote.origin.url')).toBe(
      'shop/.git/HEAD\nhttps://github.com/acme/shop.git',
    )
  })

  test('a cancelled setup is stopped, and the machine stays', async () => {
    remote.push('main', file('  setup: touch began; sleep 1000\n'))
    const cancel = new AbortController()
    const outcome = await it.do(createWith(), {
      signal: cancel.signal,
      onPhase: phase => {
        if (phase === 'setup') setImmediate(() => cancel.abort())
      },
    })
    expect(outcome).toMatchObject({
      result: 'failed',
      failure: { kind: 'cancelled', message: expect.stringContaining('the machine exists') },
      environment: { status: 'running' },
    })
    expect(await inside('PATH=../../../guest-bin:$PATH systemctl show agent-swarm-setup.service')).toBe('inactive')
  })

  test('a setup that cannot be waited for is stopped and has failed, and the next create goes on', async () => {
    remote.push('main', file('  setup: echo x >> times; [ -e go ] || sleep 1000\n'))
    const { provider } = it.context
    let isLying = true
    it.context.provider = async name => {
      const real = await provider(name)
      const runInGuest: typeof real.runInGuest = async (vmId, script, options) => {
        if (!isLying || !script.includes(`wait_64='${Buffer.from('setup').toString('base64')}'`))
          return (await real.runInGuest?.(vmId, script, options)) ?? { stdout: '', stderr: '', exitCode: 1 }
        await real.runInGuest?.(vmId, script.replace(/^seconds_64=.*$/m, "seconds_64='MA=='"), options)
        return { stdout: 'what is this\n', stderr: '', exitCode: 0 }
      }
      return { ...real, runInGuest }
    }
    expect(await summaryOf(createWith())).toContain("The project is not complete: the machine's answer was incomplete")
    expect(project()).toMatchObject({
      setup: { state: 'failed', exit: null },
      problem: expect.stringContaining('answer'),
    })
    expect(await inside('PATH=../../../guest-bin:$PATH systemctl show agent-swarm-setup.service')).toBe('inactive')
    isLying = false
    await inside('touch shop/go')
    await it.do(createWith())
    expect(project()).toMatchObject({ setup: { state: 'done', exit: 0 }, problem: null })
  })

  test('another repository in the folder is left alone', async () => {
    remote.push('main', { a: '1' })
    await it.do(actions.create('DROP-1'))
    await inside('git init -q shop')
    expect(await summaryOf(createWith())).toContain('another repository is in ~/shop')
  })
})

describe("the operator's files", () => {
  test('are copied for the user alone, and git does not see them', async () => {
    remote.push('main', { a: '1' })
    put('.env', 'TOKEN=secret\n')
    put('config/local.json', '{}')
    await it.do(createWith())
    const env = join(it.home, 'synthetic', it.vmIdOf('DROP-1'), 'disk/shop/.env')
    expect(fileIn(it, 'DROP-1', 'shop/.env')).toBe('TOKEN=secret\n')
    expect(statSync(env).mode & 0o777).toBe(0o600)
    expect(await inside('cd shop && git status --porcelain')).toBe('')
    expect(JSON.stringify([project(), it.context.registry.operations('DROP-1', 10)])).not.toContain('secret')
  })

  test('one that others may read, a link and an odd name are left out and told', async () => {
    remote.push('main', { a: '1' })
    put('open', 'x', 0o644)
    put('a b', 'x')
    symlinkSync('/etc/passwd', join(it.home, 'files/acme/shop/link'))
    const summary = await summaryOf(createWith())
    expect(summary).toContain('can be read by other users')
    expect(summary).toContain('link is a symbolic link')
    expect(summary).toContain('a b')
    expect(summary).not.toContain(it.home)
    expect(['open', 'link', 'a b'].map(name => fileIn(it, 'DROP-1', `shop/${name}`))).toEqual([null, null, null])
  })

  test('a link of the repository does not lead one out of the project', async () => {
    const outside = join(it.home, 'outside')
    mkdirSync(outside)
    remote.push('main', { a: '1' })
    const work = join(it.home, 'remotes/work/acme/shop')
    symlinkSync(outside, join(work, 'config'))
    symlinkSync(join(outside, 'env'), join(work, '.env'))
    remote.push('main', { a: '2' })
    put('.env', 'secret')
    put('config/local.json', 'secret')
    const summary = await summaryOf(createWith())
    expect(summary).toContain('.env is a file of the repository')
    expect(summary).toContain('config/local.json is behind a symbolic link')
    expect([existsSync(join(outside, 'env')), existsSync(join(outside, 'local.json'))]).toEqual([false, false])
  })

  test('a start gives back those that are missing, and leaves the others as they are', async () => {
    remote.push('main', { a: '1' })
    put('.env', 'one')
    put('.other', 'two')
    await it.do(createWith())
    await inside('cd shop && rm .env && echo changed > .other && git switch -qc elsewhere')
    await it.do(actions.stop('DROP-1'))
    await it.do(actions.start('DROP-1'))
    expect([fileIn(it, 'DROP-1', 'shop/.env'), fileIn(it, 'DROP-1', 'shop/.other')]).toEqual(['one', 'changed\n'])
    expect(project()?.branch).toBe('elsewhere')
  })
})

test("on synthetic, the project is cloned, and nothing of it is run on the owner's system", async () => {
  const { provider } = it.context
  it.context.provider = async name => ({ ...(await provider(name)), ownSystem: true })
  remote.push('main', file('  setup: touch ran\n  start: touch ran\n'))
  put('.env', 'x')
  const reason = 'setup and start (.github/agent-swarm.yml) are not run: machines of synthetic are folders'
  expect(await summaryOf(createWith())).toContain(reason)
  expect(project()).toMatchObject({ setup: null, start: null, problem: expect.stringContaining(reason) })
  expect([fileIn(it, 'DROP-1', 'shop/.env'), fileIn(it, 'DROP-1', 'shop/ran')]).toEqual(['x', null])
  expect(await inside('ls etc/systemd 2>/dev/null')).toBe('')
})

test('the folder that a repository names does not lead out of a machine that is a folder', async () => {
  const { provider } = it.context
  it.context.provider = async name => ({ ...(await provider(name)), ownSystem: true })
  const outside = join(it.home, 'outside')
  mkdirSync(outside)
  remote.push('main', file('  path: ~/shop/way/autostart\n'))
  symlinkSync(outside, join(it.home, 'remotes/work/acme/shop/way'))
  remote.push('main', { 'evil.desktop': 'x' })
  expect(await summaryOf(createWith())).toContain('behind a symbolic link')
  expect(readdirSync(outside)).toEqual([])
  expect(project()?.path).toBe('~/shop')
  expect(fileIn(it, 'DROP-1', 'shop/evil.desktop')).toBe('x')
})

test('a ticket that gets a new key keeps its project', async () => {
  remote.push('main', file('  setup: "true"\n'))
  await it.do(createWith())
  await it.do(actions.move('DROP-1', 'WEB-5'))
  expect(it.context.registry.project('WEB-5')).toMatchObject({ repo: 'acme/shop', setup: { exit: 0 } })
})

test('hostile branches of the remote are data', async () => {
  remote.push('main', { a: '1' })
  for (const name of ['DROP-1-$(touch$IFS"ran")', 'DROP-1-;touch$IFS"ran";', 'DROP-1-\u202e'])
    remote.git('push', '-q', 'origin', `HEAD:refs/heads/${name}`)
  await it.do(createWith())
  expect(project()).toMatchObject({ branch: expect.stringMatching(/^DROP-1-/), problem: null })
  expect([fileIn(it, 'DROP-1', 'ran'), fileIn(it, 'DROP-1', 'shop/ran')]).toEqual([null, null])
})

test('without a link that stays, git is left with the plain remote', async () => {
  remote.push('main', { a: '1' })
  access = { ...access, stays: false, note: 'git push needs agent-swarm up' }
  expect(await summaryOf(createWith())).toContain('. git push needs agent-swarm up')
  expect(await inside('cd shop && git ls-remote --get-url')).toBe('https://github.com/acme/shop.git')
})

test('a machine without a project is as it was, and the reason is reported', async () => {
  expect(
    await summaryOf({
      ...createWith(),
      kind: 'create',
      project: undefined,
      noProject: 'No project was cloned: two serve it.',
    } as Action),
  ).toMatch(/\. No project was cloned: two serve it$/)
  expect(project()).toBeNull()
})

test('a shell of the user begins in the project, with its environment', async () => {
  remote.push('main', file('  env: {NAME: value}\n'))
  await it.do(createWith())
  expect(await inside('. etc/profile.d/agent-swarm-project.sh; basename "$PWD"; echo $NAME')).toBe('shop\nvalue')
})

test('a restore of an earlier state is followed', async () => {
  remote.push('main', { a: '1' })
  await it.do(createWith())
  await it.do(actions.checkpoint('DROP-1', 'before'))
  await inside('cd shop && git switch -qc later')
  await it.do(actions.restore('DROP-1', 'before'))
  expect(project()?.branch).toBe('DROP-1-fix-the-login')
})

/** Sets a machine up as one of a pool. */
const pooled = async (onPhase: (phase: string) => void = () => {}) => {
  await it.do(actions.create('DROP-1'))
  const caller = { actionId: null, correlation: null, signal: new AbortController().signal, onPhase }
  const target = await targetOf({ context: it.context, caller, id: 1, by: { via: 'cli', who: 'ada' } }, 'DROP-1')
  return { target, path: await preparePooled(target, 'acme/shop', access) }
}

describe('the services of a machine that is made ready', () => {
  /** Start goes on when they are waited for. */
  const go = (phase: string) => {
    if (phase === 'ports of the project')
      writeFileSync(join(it.home, 'synthetic', it.vmIdOf('DROP-1'), 'disk/shop/go'), '')
  }
  /** Ends with its machine, too. */
  const untilGo = 'while [ -e a ] && [ ! -e go ]; do sleep 0.1; done\n[ -e go ]\n'
  const freePort = async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    server.close()
    await once(server, 'close')
    return port
  }
  beforeEach(() => remote.push('main', { a: '1' }))

  test.for([
    ['in the foreground', ''],
    ['in the background of a start that has ended', ' &'],
  ])('listen before it is kept: %s', async ([, end]) => {
    const port = await freePort()
    const server = `require('net').createServer().listen(${port}, '127.0.0.1')`
    operator({ start: `(${untilGo}exec '${process.execPath}' -e "${server}")${end}`, ports: [port] })
    await pooled(go)
    const socket = connect(port, '127.0.0.1')
    await once(socket, 'connect')
    socket.destroy()
    await inside('systemctl stop agent-swarm-project.service')
  })

  test.for([
    ['with ports', [1]],
    ['without ports', []],
  ] as const)('that fail late, %s, are the reason that it is not kept', async ([, ports]) => {
    operator({ start: `${untilGo}exit 3`, ports: [...ports] })
    await expect(pooled(go)).rejects.toMatchObject({
      failure: { kind: 'refused', message: 'keeping machines of acme/shop ready: start failed with exit status 3' },
    })
  })
})

describe('a machine that was kept ready', () => {
  /** What the ticket finds there. */
  const claimed = async (meanwhile: () => void) => {
    const { target, path } = await pooled()
    meanwhile()
    const told = await prepareProject(
      { ...target, pooled: { path } },
      { repo: 'acme/shop', branch: null, summary: 'x' },
    )
    expect(project()).toMatchObject({ setup: { state: 'done' }, problem: null })
    return told.join('. ')
  }
  const setup = 'echo "$(cat a) $KIND" >>~/ran'
  const start = 'echo "$(cat a)" >>~/started'
  beforeEach(() => {
    remote.push('main', { a: '1' })
    operator({ setup, start, env: { KIND: 'small' } })
  })

  test('is not set up again for the commit and the plan that it was made for', async () => {
    await claimed(() => {})
    expect(fileIn(it, 'DROP-1', 'ran')).toBe('1 small\n')
    expect(fileIn(it, 'DROP-1', 'started')).toBe('1\n')
  })

  test.for<[string, () => void, string, string]>([
    ['the branch has another commit', () => remote.push('DROP-1-x', { a: '2' }), '1 small\n2 small\n', '1\n2\n'],
    ['the default branch went on', () => remote.push('main', { a: '3' }), '1 small\n3 small\n', '1\n3\n'],
    [
      'the commits of the default branch were replaced',
      () => {
        remote.git('checkout', '-q', '--orphan', 'anew')
        remote.push('anew', { a: '4' })
        remote.git('push', '-qf', 'origin', 'anew:main')
      },
      ...(['1 small\n4 small\n', '1\n4\n'] as const),
    ],
    [
      ...(['the operator changed the plan', () => operator({ setup, start, env: { KIND: 'large' } })] as const),
      ...(['1 small\n1 large\n', '1\n1\n'] as const),
    ],
  ])('is set up and started again, once, when %s', async ([, meanwhile, ran, started]) => {
    await claimed(meanwhile)
    expect(fileIn(it, 'DROP-1', 'ran')).toBe(ran)
    expect(fileIn(it, 'DROP-1', 'started')).toBe(started)
    await it.do(createWith())
    expect(fileIn(it, 'DROP-1', 'ran')).toBe(ran)
  })
})
