/** A gateway in a process of its own, for tests that kill it. Arguments: home, url of the git server. Prints its address. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { openLog } from '../../../src/log.ts'
import { openGitGateway } from '../../../src/runner/git-gateway/gateway.ts'

const [home = '', server = '', token = ''] = process.argv.slice(2)
const gateway = openGitGateway({
  ...{ home, environment: process.env, clock: Date.now, log: openLog('silent') },
  tokens: {
    tokenFor: async ({ repo }) => ({
      token,
      username: 'x-access-token',
      expiresAt: null,
      remoteUrl: `${server}/${repo}`,
    }),
  },
  record: { recordPush: () => {}, pushedAll: () => false },
  mayFetch: () => true,
  remoteOf: repo => `${server}/${repo}`,
  rulesOf: () => ({ projects: ['DROP'], attempts: [], currentKey: ticket => ticket }),
  isAgentRun: () => false,
  repositories: () => [],
  isProjectOf: () => true,
})
const machine = { ticket: 'DROP-1', vmId: 'as-drop-1-00000001' }
const listener = createServer((request, response) => void gateway.handle(machine, request, response))
listener.listen(0, '127.0.0.1', () => {
  process.stdout.write(`http://127.0.0.1:${(listener.address() as AddressInfo).port}\n`)
})
