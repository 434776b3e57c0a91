/** (l) Clones and pushes of a repository of 100 MB through the git gateway, against the server itself. Loopback, real git. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { openLog } from '../src/log.ts'
import { openGitGateway } from '../src/runner/git-gateway/gateway.ts'
import { gitEnvironment, startGitServer } from '../test/support/git-server.ts'
import type { Row } from './main.ts'
import { finish, median, withHome } from './measure.ts'

const TOKEN = 'bench-token-of-the-git-server'
const ROUNDS = 3
const FILES = 400
const FILE_BYTES = 256 * 1024
const [CLONE_TARGET, PUSH_TARGET] = [1.0, 1.3]

export const gitGateway = (): Promise<Row[]> =>
  withHome(async home => {
    const server = await startGitServer()
    server.addRepository('acme/shop')
    server.addToken(TOKEN, { 'acme/shop': 'write' })
    const direct = `${server.url.replace('//', `//x:${TOKEN}@`)}/acme/shop`
    const openGateway = async (name: string) => {
      const gateway = openGitGateway({
        ...{ home: join(home, name), environment: process.env, clock: Date.now, log: openLog('warn') },
        tokens: {
          tokenFor: async ({ repo }) => ({
            ...{ token: TOKEN, username: 'x', expiresAt: null, remoteUrl: `${server.url}/${repo}` },
          }),
        },
        record: { recordPush: () => {}, pushedAll: () => false },
        ...{
          mayFetch: () => true,
          remoteOf: () => '',
          isAgentRun: () => false,
          repositories: () => [],
          isProjectOf: () => true,
        },
        rulesOf: () => ({ projects: ['DROP'], attempts: [], currentKey: ticket => ticket }),
      })
      const listener = createServer(
        (request, response) => void gateway.handle({ ticket: 'DROP-1', vmId: 'as-drop-1-00000001' }, request, response),
      )
      await new Promise<void>(done => listener.listen(0, '127.0.0.1', done))
      const { port } = listener.address() as AddressInfo
      const close = async () => {
        listener.close()
        listener.closeAllConnections()
        await gateway.close()
      }
      return { url: `http://127.0.0.1:${port}/acme/shop`, close }
    }
    const git = async (folder: string, ...words: string[]): Promise<number> => {
      const ran = await finish('git', ['-C', folder, ...words], gitEnvironment(home))
      if (ran.code !== 0) throw new Error(`git ${words.join(' ')}: ${ran.stderr}`)
      return ran.milliseconds
    }
    let count = 0
    const clone = async (url: string) => {
      count += 1
      const folder = join(home, `clone-${count}`)
      mkdirSync(folder)
      return { milliseconds: await git(folder, 'clone', '-q', url, 'shop'), shop: join(folder, 'shop') }
    }
    /** Half of each file is text, half is not: 100 MB in all. */
    const fill = async (shop: string) => {
      for (let n = 0; n < FILES; n += 1)
        writeFileSync(
          join(shop, `file-${n}`),
          Buffer.concat([
            randomBytes(FILE_BYTES / 2),
            Buffer.from(`${randomBytes(32).toString('hex')}\n`.repeat(FILE_BYTES / 130)),
          ]),
        )
      await git(shop, 'add', '-A')
      await git(shop, 'commit', '-q', '-m', 'x')
    }
    const first = await clone(direct)
    await fill(first.shop)
    await git(first.shop, 'push', '-q', 'origin', 'HEAD:main')

    const times = { direct: [] as number[], first: [] as number[], second: [] as number[] }
    for (let n = 0; n < ROUNDS; n += 1) {
      const gateway = await openGateway(`home-${n}`)
      times.first.push((await clone(gateway.url)).milliseconds)
      // Which of the two comes first has its page cache colder.
      const [one, other] = n % 2 === 0 ? ([direct, gateway.url] as const) : ([gateway.url, direct] as const)
      for (const url of [one, other]) times[url === direct ? 'direct' : 'second'].push((await clone(url)).milliseconds)
      await gateway.close()
    }
    const gateway = await openGateway('home-0')
    const shops = { direct: (await clone(direct)).shop, through: (await clone(gateway.url)).shop }
    const pushes = { direct: [] as number[], through: [] as number[] }
    for (let n = 0; n < ROUNDS; n += 1)
      for (const name of n % 2 === 0 ? (['direct', 'through'] as const) : (['through', 'direct'] as const)) {
        const shop = shops[name]
        await fill(shop)
        // What the other one pushed is no part of this push.
        await git(shop, 'fetch', '-q')
        pushes[name].push(await git(shop, 'push', '-q', 'origin', `HEAD:DROP-1-${name}-${n}`))
      }
    await gateway.close()
    await server.stop()
    const row = (what: string, through: readonly number[], against: readonly number[], target: number | null): Row => {
      const ratio = Math.round((100 * median(through)) / median(against)) / 100
      const seconds = (values: readonly number[]) => (median(values) / 1000).toFixed(2)
      return {
        ...{ row: 'l', what, measured: `${ratio} (${seconds(through)} s, ${seconds(against)} s direct)` },
        ...{ target: target === null ? '' : `<= ${target}`, ok: target === null ? null : ratio <= target },
      }
    }
    return [
      row('clone of 100 MB through the gateway, first machine, against direct', times.first, times.direct, null),
      row('the same, second machine', times.second, times.direct, CLONE_TARGET),
      row('push of 100 MB through the gateway, against direct', pushes.through, pushes.direct, PUSH_TARGET),
    ]
  })
