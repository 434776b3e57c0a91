/** What a machine says of its use, over a real sshd on loopback and the kernel's own lists of connections. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { openLog } from '../../../src/log.ts'
import { holdLink } from '../../../src/runner/link/link.ts'
import type { Activity } from '../../../src/runner/link/types.ts'
import { sshArguments } from '../../../src/runner/ssh/options.ts'
import { actions, openTestContext, type TestContext } from '../../support/context.ts'
import { noSshd, useSshd } from '../../support/sshd.ts'
import { until } from '../../support/wait.ts'

let it: TestContext
let guests: Awaited<ReturnType<typeof useSshd>>

/** The first answer of a new link. */
const ask = async (ports: readonly number[]): Promise<Activity> => {
  const vmId = it.vmIdOf('DROP-1')
  const answers: Activity[] = []
  const nothing = () => {}
  const link = await holdLink(
    it.context,
    { vmId, provider: 'synthetic' },
    { git: nothing, model: nothing, requests: nothing },
    {
      log: openLog('silent'),
      activity: { ports: () => ports, report: async (_vmId, activity) => void answers.push(activity) },
    },
  )
  try {
    return await until('an answer', () => answers[0])
  } finally {
    await link?.close()
  }
}

const listen = async () => {
  const server = createServer(() => {}).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return { server, port: (server.address() as AddressInfo).port }
}

describe.skipIf(noSshd !== null)('a machine', () => {
  beforeAll(async () => {
    it = await openTestContext({ guest: 'shell' })
    guests = await useSshd(it.context, it.home)
    expect(await it.do(actions.create('DROP-1'))).toMatchObject({ result: 'done' })
  })
  afterAll(async () => {
    await guests.close()
    it.close()
  })

  test('does not count the link, and says its load', async () => {
    const { sessions, connections, load } = await until('the end of other logins', async () => {
      const said = await ask([])
      return said.sessions === 0 ? said : null
    })
    expect([sessions, connections]).toEqual([0, 0])
    expect(load).toBeGreaterThanOrEqual(0)
  })

  test('counts logins and forwardings', async () => {
    const { ssh } = await guests.sshdOf(it.vmIdOf('DROP-1'))
    // First: of two values, ssh takes the first.
    const argv = ['-N', ...sshArguments(it.home, it.vmIdOf('DROP-1'), ssh), '--', ssh.host]
    const login: ChildProcess = spawn('ssh', argv)
    onTestFinished(() => void login.kill())
    await until('the login', async () => (await ask([])).sessions === 1)
    login.kill()
    await once(login, 'exit')
    await until('its end', async () => (await ask([])).sessions === 0)
  })

  test('counts connections to the ports that were asked for, and not that something listens there', async () => {
    const [one, other] = [await listen(), await listen()]
    expect((await ask([one.port, other.port])).connections).toBe(0)
    const socket = connect(one.port, '127.0.0.1')
    await once(socket, 'connect')
    onTestFinished(() => void socket.destroy())
    expect((await ask([other.port])).connections).toBe(0)
    expect((await ask([other.port, one.port])).connections).toBeGreaterThan(0)
  })
})
