/** The link over a real sshd on loopback, run as the user of the test. */
import { execFileSync, spawnSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { openLog } from '../../../src/log.ts'
import { type Gate, openGate } from '../../../src/runner/gate.ts'
import { type HeldLink, holdLink, upFile } from '../../../src/runner/link/link.ts'
import { openLinks, withLink } from '../../../src/runner/link/links.ts'
import type { LinkHandler, LinkServices } from '../../../src/runner/link/types.ts'
import { actions, openTestContext, type TestContext } from '../../support/context.ts'
import { noSshd, processesWith, useSshd } from '../../support/sshd.ts'
import { until } from '../../support/wait.ts'

let it: TestContext
let guests: Awaited<ReturnType<typeof useSshd>>
let vmId: string
let held: HeldLink[]
let lines: string[]
let linkScript: string

/** Says which service, machine and path it was. */
const says =
  (service: string): LinkHandler =>
  (machine, request, response) =>
    void response.end(`${service} ${machine.ticket} ${request.url}\n`)
const services: LinkServices = { git: says('git'), model: says('model'), requests: says('requests') }
const log = openLog('debug')

const hold = async (options: Partial<Parameters<typeof holdLink>[3]> = {}): Promise<HeldLink> => {
  const link = await holdLink(it.context, { vmId, provider: 'synthetic' }, services, { log, ...options })
  if (link === null) throw new Error('the link is held by another')
  held.push(link)
  return link
}
const open = async (options: Partial<Parameters<typeof holdLink>[3]> = {}): Promise<HeldLink> => {
  const link = await hold(options)
  await link.up
  return link
}
/** A request from the machine's side. Its answer, or null when there is none. */
const ask = async (service: keyof LinkServices, path = '/'): Promise<string | null> => {
  try {
    return await (await fetch(`http://127.0.0.1:${it.context.guest.ports[service]}${path}`)).text()
  } catch {
    return null
  }
}
/** The client's ssh of the link. */
const ourSsh = () => processesWith(`-R 127.0.0.1:${it.context.guest.ports.git}:`)
const guestFile = (name: string) => join(it.context.guest.state, 'agent', name)

describe.skipIf(noSshd !== null)('the link', () => {
  beforeAll(async () => {
    it = await openTestContext({ guest: 'shell' })
    guests = await useSshd(it.context, it.home)
    expect(await it.do(actions.create('DROP-1'))).toMatchObject({ result: 'done' })
    vmId = it.vmIdOf('DROP-1')
    mkdirSync(join(it.context.guest.state, 'agent'), { recursive: true })
    linkScript = readFileSync(join(it.context.guest.library, 'link.sh'), 'utf8')
  })
  beforeEach(() => {
    lines = []
    held = []
    vi.spyOn(process.stderr, 'write').mockImplementation(line => lines.push(String(line)) > 0)
  })
  afterEach(async () => {
    await Promise.all(held.map(link => link.close()))
    writeFileSync(join(it.context.guest.library, 'link.sh'), linkScript)
    vi.restoreAllMocks()
  })
  afterAll(async () => {
    await guests.close()
    it.close()
  })

  test('a create has put our files into the machine, and changes nothing else there', async () => {
    const { library, commands } = it.context.guest
    expect(execFileSync('ls', [library], { encoding: 'utf8' }).split('\n')).toEqual(
      expect.arrayContaining(['hash', 'link.sh', 'mcp.mjs', 'swarm']),
    )
    expect(execFileSync(join(commands, 'swarm'), ['help'], { encoding: 'utf8' })).toContain('swarm restore NAME --yes')
    writeFileSync(join(library, 'their-own'), 'kept')
    writeFileSync(join(library, 'hash'), 'an older one')
    writeFileSync(join(library, 'swarm'), 'an older one')
    await open()
    expect(readFileSync(join(library, 'swarm'), 'utf8')).toContain('swarm checkpoint [NAME]')
    expect(readFileSync(join(library, 'their-own'), 'utf8')).toBe('kept')
  })

  test('each port of the machine ends at its service, and the link knows whose request it is', async () => {
    await open()
    expect(await ask('git', '/acme/shop.git/info/refs?service=git-upload-pack')).toBe(
      'git DROP-1 /acme/shop.git/info/refs?service=git-upload-pack\n',
    )
    expect(await ask('model', '/v1/messages')).toBe('model DROP-1 /v1/messages\n')
    expect(await ask('requests', '/v1/status')).toBe('requests DROP-1 /v1/status\n')
    await held[0]?.close()
    expect(await ask('requests')).toBe(null)
    expect(existsSync(upFile(it.home, vmId))).toBe(false)
  })

  test('the ticket is the one that the machine has now', async () => {
    await open()
    it.context.registry.renameTicket('DROP-1', 'SHOP-7')
    expect(await ask('git')).toBe('git SHOP-7 /\n')
    it.context.registry.renameTicket('SHOP-7', 'DROP-1')
  })

  test('behind loopback ports, only the secret of this machine is answered, also by the next process', async () => {
    const link = await open({ loopback: true })
    const prefix = new URL(link.address('git')).pathname
    expect(prefix).toMatch(/^\/[0-9a-f]{64}$/)
    expect(await ask('git', '/acme/shop')).toBe('not found\n')
    expect(await ask('git', `/${'0'.repeat(64)}/acme/shop`)).toBe('not found\n')
    expect(await ask('git', `${prefix.slice(0, -1)}/acme/shop`)).toBe('not found\n')
    expect(await ask('git', `${prefix}/acme/shop`)).toBe('git DROP-1 /acme/shop\n')
    expect(readFileSync(join(it.context.guest.state, 'link-prefix'), 'utf8')).toBe(`${prefix}\n`)
    await link.close()
    const next = await open({ loopback: true })
    expect(next.address('git')).toBe(link.address('git'))
    expect(await ask('git', `${prefix}/acme/shop`)).toBe('git DROP-1 /acme/shop\n')
  })

  test('a machine without a ticket keeps no secret: a claim gives it another one', async () => {
    const pooled = { vmId: 'as-pool-0000000a', provider: 'synthetic' }
    const addresses = []
    for (let n = 0; n < 2; n += 1) {
      const link = await holdLink(it.context, pooled, services, { log, loopback: true })
      addresses.push(link?.address('git'))
      await link?.close()
    }
    expect(new Set(addresses)).toHaveProperty('size', 2)
    expect(existsSync(join(it.home, 'ssh', 'as-pool-0000000a.link_secret'))).toBe(false)
  })

  test('it follows a file from an offset, as it grows, in chunks, and across a connection that breaks', async () => {
    const link = await open()
    const text = 'öß\n\u001b[31m\0'.repeat(20_000)
    writeFileSync(guestFile('1.jsonl'), `before${text}`)
    const chunks: Buffer[] = []
    const shorter: number[] = []
    const stop = link.follow('1.jsonl', 6, {
      onChunk: (bytes, offset) => {
        expect(offset).toBe(6 + Buffer.concat(chunks).length)
        expect(bytes.length).toBeLessThanOrEqual(32 * 1024)
        chunks.push(bytes)
      },
      onShorter: size => void shorter.push(size),
    })
    const read = () => Buffer.concat(chunks).toString('utf8')
    await until('the first part', () => read() === text)
    for (const id of ourSsh()) process.kill(id, 'SIGKILL')
    appendFileSync(guestFile('1.jsonl'), 'more')
    await until('the second part', () => read() === `${text}more`)
    writeFileSync(guestFile('1.jsonl'), 'a restore')
    await until('that it is shorter', () => shorter.length > 0)
    expect(shorter).toEqual(['a restore'.length])
    stop()
    expect(() => link.follow('../secret', 0, { onChunk: () => {} })).toThrow('not a file of an agent')
    expect(() => link.follow('a; touch x', 0, { onChunk: () => {} })).toThrow('not a file of an agent')
  })

  test('when its ssh is killed it is opened again', async () => {
    const link = await open()
    const [first] = ourSsh()
    process.kill(first ?? 0, 'SIGKILL')
    await until('another connection', async () => link.connected() && ourSsh()[0] !== first)
    expect(await until('an answer', () => ask('git'))).toBe('git DROP-1 /\n')
  })

  test('what keeps the link from being noted as open breaks it off, and it is tried again', async () => {
    let tries = 0
    const link = await open({
      beforeUp: async () => {
        tries += 1
        // As with a full disk, the note cannot be written.
        if (tries === 1) mkdirSync(upFile(it.home, vmId))
        else rmSync(upFile(it.home, vmId), { recursive: true })
      },
    })
    expect([tries, link.connected(), await ask('git')]).toEqual([2, true, 'git DROP-1 /\n'])
    expect(lines.find(line => line.includes('the link to a machine is not open'))).toContain('"level":40')
  })

  test('a link whose files cannot be removed ends all the same, and another one can be held', async () => {
    const link = await open()
    const folder = dirname(upFile(it.home, vmId))
    // Not a name of a file: removing it fails.
    writeFileSync(join(folder, 'sockets'), 'a\0b')
    await link.close()
    rmSync(folder, { recursive: true })
    expect(lines.join('')).toContain('what a link left could not be removed')
    await open()
  })

  test('a link that waits at the gate can be closed', async () => {
    const gate = openGate(1)
    const busy = Promise.withResolvers<void>()
    const work = gate(() => busy.promise)
    const link = await hold({ gate })
    await link.close()
    busy.resolve()
    await work
    expect(ourSsh()).toEqual([])
  })

  test('a machine that does not answer gives its place at the gate to others, and opens when it answers', async () => {
    const go = join(it.home, 'go')
    writeFileSync(
      join(it.context.guest.library, 'link.sh'),
      linkScript.replace(/\n/, `\nuntil [ -e '${go}' ]; do sleep 0.1; done\n`),
    )
    const gate = openGate(1)
    const link = await hold({ gate, placeMs: 1 })
    expect(await gate(async () => link.connected())).toBe(false)
    writeFileSync(go, '')
    await link.up
  })

  test('an sshd that does not know that its connection is gone gives up the ports', async () => {
    const link = await open()
    const stuck = ourSsh()
    // What a restore leaves: the machine's end holds the ports, and nobody is at the other end.
    for (const id of stuck) process.kill(id, 'SIGSTOP')
    const closing = link.close()
    await until('the lock', async () => (await hold().catch(() => null)) !== null || null)
    await held.at(-1)?.up
    expect(await ask('git')).toBe('git DROP-1 /\n')
    await closing
  })

  test('of two that want it one has it, and a command uses that of the other', async () => {
    const target = { context: it.context, signal: new AbortController().signal, row: environment() }
    await open()
    expect(await holdLink(it.context, { vmId, provider: 'synthetic' }, services, { log })).toBe(null)
    const other: LinkServices = { ...services, git: says('another process') }
    expect(await withLink(target, other, { log }, () => ask('git'))).toBe('git DROP-1 /\n')
    await held[0]?.close()
    expect(await withLink(target, other, { log }, () => ask('git'))).toBe('another process DROP-1 /\n')
    expect(await ask('git')).toBe(null)
  })

  test('a command that is cancelled while it waits for its link ends, and no timer keeps its process alive', async () => {
    const timers = () => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
    const before = timers()
    const cancel = new AbortController()
    const target = { context: it.context, signal: cancel.signal, row: environment() }
    const busy = openGate(0)
    const gate: Gate = (work, signal) => {
      setImmediate(() => cancel.abort())
      return busy(work, signal)
    }
    await expect(withLink(target, services, { log, gate }, async () => {})).rejects.toThrow('abort')
    // The same when it was cancelled before.
    await expect(withLink(target, services, { log, gate }, async () => {})).rejects.toThrow('abort')
    await until('no timer', () => timers() <= before, { within: 20_000 })
  })

  test('after kill -9 of its process nothing is left of it, and another process has the link', async () => {
    const { spawn } = await import('node:child_process')
    const sshd = await guests.sshdOf(vmId)
    const child = spawn(
      process.execPath,
      [
        join(import.meta.dirname, '../../support/hold-link.ts'),
        it.home,
        vmId,
        JSON.stringify(sshd.ssh),
        JSON.stringify(it.context.guest),
      ],
      { stdio: ['ignore', 'inherit', 'inherit'] },
    )
    onTestFinished(() => void child.kill('SIGKILL'))
    await until('its link', () => existsSync(upFile(it.home, vmId)))
    expect(await ask('git')).toBe('the other process\n')
    expect(await holdLink(it.context, { vmId, provider: 'synthetic' }, services, { log })).toBe(null)
    child.kill('SIGKILL')
    await until('the end of its ssh', () => ourSsh().length === 0)
    await open()
    expect(await ask('git')).toBe('git DROP-1 /\n')
  })

  test('the runner links each running machine, and closes the link for as long as an operation needs it closed', async () => {
    const links = openLinks(it.context, services, { log })
    await until('the link', () => links.of(vmId)?.connected())
    const lockOf = (machine: string) => join(it.context.home, 'links', `${machine}.lock`)
    writeFileSync(lockOf('as-gone-1-00000000'), '')
    links.nudge()
    await until('no lock of a machine that is gone', () => !existsSync(lockOf('as-gone-1-00000000')))
    expect(existsSync(lockOf(vmId))).toBe(true)
    const { registry } = it.context
    const at = new Date().toISOString()
    const by = { via: 'cli', who: 'tester' } as const
    const id = registry.startOperation({ actionId: null, correlation: null, ticket: 'DROP-1', kind: 'restore', by, at })
    links.nudge()
    await until('that it is closed', () => links.of(vmId) === null)
    await until('the end of its ssh', () => ourSsh().length === 0)
    registry.endOperation(id, at, 'done', null)
    links.nudge()
    await until('the link again', () => links.of(vmId)?.connected())
    registry.setStatus('DROP-1', 'stopped')
    links.nudge()
    await until('no link to a stopped machine', () => links.of(vmId) === null)
    registry.setStatus('DROP-1', 'running')
    await links.close()
    expect(ourSsh()).toEqual([])
  })

  test('a link that cannot end yet holds up no other machine', async () => {
    expect(await it.do(actions.create('DROP-2'))).toMatchObject({ result: 'done' })
    const { registry, provider } = it.context
    const hung = Promise.withResolvers<void>()
    let isAsked = false
    it.context.provider = async name => {
      const real = await provider(name)
      const sshInfo: typeof real.sshInfo = async id => {
        isAsked ||= id === vmId
        if (id === vmId) await hung.promise
        return real.sshInfo(id)
      }
      return { ...real, sshInfo }
    }
    registry.setStatus('DROP-2', 'stopped')
    const links = openLinks(it.context, services, { log })
    await until('the question for its address', () => isAsked)
    registry.setStatus('DROP-1', 'stopped')
    registry.setStatus('DROP-2', 'running')
    links.nudge()
    await until('the link of the other', () => links.of(it.vmIdOf('DROP-2'))?.connected())
    // It is wanted again while it ends.
    registry.setStatus('DROP-1', 'running')
    registry.setStatus('DROP-2', 'stopped')
    links.nudge()
    await until('the end of the other', () => links.of(it.vmIdOf('DROP-2')) === null)
    hung.resolve()
    await until('the link', () => links.of(vmId)?.connected())
    await links.close()
    it.context.provider = provider
    await it.do(actions.delete('DROP-2', true))
  })

  const HELLO = 'echo "hello 1 $(cat "$(dirname "$0")/hash")"'
  test.for<[string, string, RegExp]>([
    ['an endless line', `${HELLO}; tr '\\0' a </dev/zero`, /nobody asked for|an answer of more than/],
    ['an endless line before its first word', `tr '\\0' a </dev/zero`, /an answer of more than/],
    ['a gigabyte', `${HELLO}; read -r l; echo ok; head -c 1000000000 /dev/zero`, /nobody asked for|answer of more/],
    ['answers that nobody asked for', `${HELLO}; read -r l; echo ok; yes beat`, /nobody asked for|another question/],
    [
      'terminal sequences',
      `${HELLO}; read -r l; printf 'data 5 \\033]0;owned\\007\\n'`,
      /nobody asked for|another question/,
    ],
    ['binary', `${HELLO}; head -c 100000 /dev/urandom; echo`, /nobody asked for|an answer of more|another question/],
    [
      'an end with words',
      `printf '\\033]0;owned\\007remote port forwarding failed' >&2; exit 255`,
      /ports? of the link/,
    ],
  ])('a machine that sends %s is cut off', async ([, script, reason]) => {
    writeFileSync(join(it.context.guest.library, 'link.sh'), `#!/bin/sh\n${script}\n`)
    const before = process.memoryUsage().rss
    await hold()
    const told = await until('why it is not open', () =>
      lines.find(line => line.includes('the link to a machine is not open')),
    )
    expect(JSON.parse(told)).toMatchObject({ vmId, reason: expect.stringMatching(reason) })
    expect(told.includes('\u0007') || told.includes('\u001b')).toBe(false)
    expect(process.memoryUsage().rss - before).toBeLessThan(200e6)
  })

  test('a request that fails tells the machine nothing', async () => {
    const failing: LinkServices = {
      ...services,
      git: async () => {
        throw new Error('a secret of the host')
      },
    }
    const link = await holdLink(it.context, { vmId, provider: 'synthetic' }, failing, { log })
    if (link !== null) held.push(link)
    await link?.up
    expect(await ask('git')).toBe('the runner failed to answer; its log says why\n')
  })

  test('a machine without a service, a runner that is away: swarm says what is missing', async () => {
    const run = spawnSync(join(it.context.guest.commands, 'swarm'), ['status'], {
      encoding: 'utf8',
      env: { ...process.env, AGENT_SWARM_REQUESTS_PORT: String(it.context.guest.ports.requests) },
    })
    expect(run).toMatchObject({ status: 1, stdout: '', stderr: expect.stringContaining('agent-swarm up') })
  })
})

const environment = () => {
  const row = it.context.registry.environment('DROP-1')
  if (row === null) throw new Error('DROP-1 has no machine')
  return row
}
