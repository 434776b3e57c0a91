/** kill -9 in the middle of a push, and what processes and files hold meanwhile. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, onTestFinished, test } from 'vitest'
import { DAY_MS } from '../../../src/clock.ts'
import { until } from '../../support/wait.ts'
import { openStage, runGit, TOKEN } from './stage.ts'

const readProc = (pid: string, name: string): string => {
  try {
    return readFileSync(join('/proc', pid, name), 'latin1')
  } catch {
    return ''
  }
}
const processes = () =>
  readdirSync('/proc')
    .filter(pid => /^\d+$/.test(pid))
    .map(pid => ({ command: readProc(pid, 'cmdline').replaceAll('\0', ' '), environment: readProc(pid, 'environ') }))

const startGateway = async (home: string, url: string) => {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'serve.ts'), home, url, 'stand-in'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const [address] = (await once(createInterface(child.stdout), 'line')) as [string]
  return { address, kill: () => child.kill('SIGKILL') }
}

test.runIf(process.platform === 'linux')(
  'while a push is forwarded, no argument has the token, and only the git that forwards sees it',
  async () => {
    const stage = await openStage()
    const one = await stage.machine('DROP-1')
    await one.clone()
    await one.commit('x')
    const hold = stage.server.hold('acme/shop')
    const pushing = one.git('push', '-q', 'origin', 'HEAD:DROP-1-x')
    await until('the push at the remote', hold.isHeld)
    const all = processes()
    hold.release()
    expect(await pushing).toMatchObject({ code: 0 })
    expect(all.filter(({ command }) => command.includes(TOKEN))).toEqual([])
    const holders = all.filter(({ environment }) => environment.includes(TOKEN)).map(({ command }) => command)
    expect(holders.some(command => /git-remote-http|remote-http/.test(command))).toBe(true)
    // What reads the guest's bytes has no token.
    expect(holders.filter(command => /http-backend|receive-pack|index-pack|pre-receive/.test(command))).toEqual([])
  },
)

test('killed while the remote takes a push: the mirror is whole, has it at the next update, and it is recorded then', async () => {
  const stage = await openStage()
  stage.server.addToken('stand-in', { 'acme/shop': 'write' })
  const child = await startGateway(stage.home, stage.server.url)
  const one = await stage.machine('DROP-1')
  await runGit(one.place, ['clone', '-q', `${child.address}/acme/shop`, 'shop'])
  const commit = await one.commit('x')
  const hold = stage.server.hold('acme/shop')
  const pushing = one.git('push', 'origin', 'HEAD:DROP-1-x')
  await until('the push at the remote', hold.isHeld)
  child.kill()
  expect((await pushing).code).not.toBe(0)
  hold.release()
  await until('the push', () => stage.server.git('acme/shop', 'for-each-ref').includes('DROP-1-x'))
  // The push of the killed process ended without us: the mirror does not have it yet.
  expect(await stage.mirrorGit('for-each-ref', 'refs/heads/DROP-1-x')).toBe('')
  await one.git('remote', 'set-url', 'origin', `${one.address}/acme/shop`)
  expect(await one.git('fetch', '-q')).toMatchObject({ code: 0 })
  expect(await stage.mirrorGit('rev-parse', 'DROP-1-x')).toBe(commit)
  expect(stage.pushes).toMatchObject([{ ticket: 'DROP-1', branch: 'DROP-1-x', commit }])
  expect(await runGit(stage.home, ['--git-dir', stage.mirror(), 'fsck', '--full', '--strict'])).toMatchObject({
    code: 0,
  })
  // It is the machine's own: it may be rewritten.
  await one.git('commit', '-q', '--amend', '-m', 'better')
  expect(await one.git('push', '-q', '--force', 'origin', 'HEAD:DROP-1-x')).toMatchObject({ code: 0 })
})

test('killed before the remote has a push: nothing is recorded, and the push is made again', async () => {
  const stage = await openStage()
  stage.server.addToken('stand-in', { 'acme/shop': 'write' })
  const child = await startGateway(stage.home, stage.server.url)
  const one = await stage.machine('DROP-1')
  await runGit(one.place, ['clone', '-q', `${child.address}/acme/shop`, 'shop'])
  await one.commit('x')
  stage.server.protect('acme/shop', 'refs/heads/DROP-1-x')
  const hold = stage.server.hold('acme/shop')
  const pushing = one.git('push', 'origin', 'HEAD:DROP-1-x')
  await until('the push at the remote', hold.isHeld)
  child.kill()
  await pushing
  hold.release()
  // The git of the killed process asks on: it is refused while the branch is protected.
  await until('the answer of the remote', hold.isDecided)
  // What a git killed with it leaves: a lock of the ref, and objects that nobody needs.
  const leftovers = ['refs/heads/DROP-1-x.lock', 'packed-refs.lock', 'objects/pack/tmp_pack_abc'].map(name =>
    join(stage.mirror(), name),
  )
  await runGit(stage.home, ['init', '-q', '--bare', join(stage.mirror(), 'objects/incoming-abc')])
  for (const file of leftovers) writeFileSync(file, '')
  for (const file of [...leftovers, join(stage.mirror(), 'objects/incoming-abc')]) utimesSync(file, 1_000, 1_000)
  // The clock was ahead.
  const future = new Date(Date.now() + 400 * DAY_MS)
  for (const name of ['HEAD.lock', 'agent-swarm-updated']) {
    writeFileSync(join(stage.mirror(), name), '')
    utimesSync(join(stage.mirror(), name), future, future)
  }
  rmSync(join(stage.server.path('acme/shop'), 'protected'))
  await one.git('remote', 'set-url', 'origin', `${one.address}/acme/shop`)
  expect(await one.git('push', '-q', 'origin', 'HEAD:DROP-1-x')).toMatchObject({ code: 0 })
  expect(stage.pushes).toHaveLength(1)
  const left = () =>
    readdirSync(stage.mirror(), { recursive: true, encoding: 'utf8' }).filter(name =>
      /\.lock$|tmp_|incoming/.test(name),
    )
  // A git that ends by a signal, as of a broken pipe, leaves the folder of new objects, too.
  const objects = join(stage.mirror(), 'objects')
  for (const name of readdirSync(objects)) if (/incoming/.test(name)) utimesSync(join(objects, name), 1_000, 1_000)
  await stage.gateway().sweep()
  expect(left()).toEqual([])
})
