/** `swarm` in a real machine, over the runner's link: status, note, checkpoint and restore from inside. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/config/config.ts'
import { openLog } from '../../src/log.ts'
import { openRunnerContext, type RunnerContext } from '../../src/runner/context.ts'
import { openLinks } from '../../src/runner/link/links.ts'
import type { LinkHandler, Links } from '../../src/runner/link/types.ts'
import { openRequests } from '../../src/runner/requests/requests.ts'
import { until } from '../support/wait.ts'
import { ensureBase, inside, listed, succeed, swarm, swarmEnvironment } from './cli.ts'

const TICKET = 'DROP-1703'
const MINUTES = 60_000
let context: RunnerContext
let links: Links
let requests: ReturnType<typeof openRequests>
let vmId: string

const notHere: LinkHandler = (_machine, _request, response) => void response.writeHead(503).end()
const linked = () => until('the link', () => links.of(vmId)?.connected(), { within: 10 * MINUTES })

beforeAll(async () => {
  await ensureBase()
  context = openRunnerContext(await readConfig({}, swarmEnvironment))
  const log = openLog('debug')
  requests = openRequests({ context, log, onChange: () => links.nudge(), signal: AbortSignal.any([]) })
  links = openLinks(context, { git: notHere, model: notHere, requests: requests.handle }, { log })
  await succeed(swarm('create', TICKET))
  vmId = (await listed(TICKET)).vmId
})
afterAll(async () => {
  await links.close()
  context.close()
  await succeed(swarm('delete', TICKET, '--force'))
})

test('a create puts swarm into the machine, root owns it, and nothing listens but on its loopback', async () => {
  expect(await inside(TICKET, 'stat -c %U:%a /usr/local/lib/agent-swarm/swarm /usr/local/lib/agent-swarm')).toBe(
    'root:755\nroot:755',
  )
  await linked()
  expect(await inside(TICKET, "ss -Hltn | awk '{print $4}' | grep ':1770' | sort")).toBe(
    ['127.0.0.1:17701', '127.0.0.1:17702', '127.0.0.1:17703'].join('\n'),
  )
  expect(await inside(TICKET, 'swarm status')).toContain(`Ticket: ${TICKET}\nMachine: ${vmId} on kvm`)
})

test('a checkpoint and a restore from inside; the note survives, and the link is back with its ports', async () => {
  await linked()
  await inside(TICKET, 'echo good >state.txt')
  expect(await inside(TICKET, 'swarm checkpoint good')).toBe(`Made checkpoint good of ${TICKET}`)
  await inside(TICKET, 'echo bad >state.txt; swarm note "tried bad; it is bad"')
  expect(await inside(TICKET, 'swarm restore good --yes')).toContain(`Restoring ${TICKET} to good`)
  await until('the restore', () => context.registry.lastRestore(TICKET), { within: 10 * MINUTES })
  await requests.idle()
  await linked()
  expect(await inside(TICKET, 'cat state.txt /var/lib/agent-swarm/note-before-restore.txt')).toBe(
    'good\ntried bad; it is bad',
  )
  const status = await until('an answer', () => inside(TICKET, 'swarm status').catch(() => null))
  expect(status).toContain('before this restore: tried bad; it is bad')
  expect(status).toMatch(/good .* machine\n {2}pre-restore-\S+ .* machine/)
})
