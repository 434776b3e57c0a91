/** `init-base` as a process: the question on a terminal, and a download that is interrupted. */
import { createHash } from 'node:crypto'
import { readdirSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import { openCli } from '../support/cli.ts'
import { standInVirsh } from '../support/virsh.ts'
import { until } from '../support/wait.ts'

let cli: ReturnType<typeof openCli>
let environment: Record<string, string>
beforeEach(() => {
  cli = openCli()
  const bin = join(cli.home, 'bin')
  standInVirsh(bin, { volumes: ['other.qcow2'] })
  environment = {
    PATH: `${bin}:${process.env.PATH}`,
    AGENT_SWARM_PROVIDER: 'kvm',
    AGENT_SWARM_KVM_URI: 'qemu:///session',
  }
})
afterEach(() => cli.close())

const plan = ['init-base', 'new', '--from', '/an-image.qcow2', '--dry-run']
const DOWN = '\u001b[B'

test.for([
  ['Enter takes full', '\r', 'with the profile full'],
  ['the other one is minimal', `${DOWN}\r`, 'with the profile minimal'],
] as const)('on a terminal it asks for the profile: %s', async ([, text, expected]) => {
  const type = { prompt: 'What shall the machines have?', text }
  const { screen, code } = await cli.processes.terminal(plan, { environment, type })
  expect(stripVTControlCharacters(screen)).toContain(expected)
  expect(code).toBe(0)
})

test('it does not ask when the profile is given, and without a terminal it takes full', async () => {
  const given = await cli.processes.terminal([...plan, '--profile', 'minimal'], { environment })
  expect(given.screen).toContain('with the profile minimal')
  expect(given.screen).not.toContain('What shall the machines have?')
  expect((await cli.processes.swarm(plan, { environment })).stdout).toContain('with the profile full')
})

test('Ctrl-C ends a download, which is kept for the same command', async () => {
  const image = Buffer.alloc(200_000, 'x')
  const sha256 = createHash('sha256').update(image).digest('hex')
  const server = createServer((_, response) => {
    response.writeHead(200, { 'content-length': image.length })
    response.write(image.subarray(0, 50_000))
  })
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/noble.img`
  const child = cli.processes.begin(['init-base', 'new', '--from', url, '--sha256', sha256], environment)
  const part = join(cli.home, 'state', 'downloads', `${sha256}.part`)
  await until('half of the image', () => (statSync(part, { throwIfNoEntry: false })?.size ?? 0) === 50_000)
  child.kill('SIGINT')
  const { code, stderr } = await child.ended
  expect(code).not.toBe(0)
  expect(stderr).toContain('cancelled; what was downloaded is kept, and the same command continues there')
  expect(statSync(part).size).toBe(50_000)
  expect(readdirSync(join(cli.home, 'state', 'kvm'))).toEqual([])
})
