/** Two machines side by side, by the CLI. */
import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { until } from '../support/wait.ts'
import { ensureMachines, entry, FIRST, home, inside, list, listed, SECOND, swarm, swarmEnvironment } from './cli.ts'

/** New in each run: the machines may be kept from one to the next. */
const CHECKPOINT = `one-${process.pid}`

beforeAll(() => ensureMachines(FIRST, SECOND))

test('each has its own address, and its own service on the same port', async () => {
  const rows = await Promise.all([FIRST, SECOND].map(listed))
  expect(rows.map(({ status }) => status)).toEqual(['running', 'running'])
  expect(new Set(rows.map(({ ip }) => ip)).size).toBe(2)
  for (const { ticket, ip, ssh, diskBytes } of rows) {
    expect(ssh?.host).toBe(ip)
    expect(diskBytes).toBeGreaterThan(1024 * 1024)
    await inside(
      ticket,
      `mkdir -p www && echo ${ticket} > www/who && cd www && (setsid nohup python3 -m http.server 8000 >/dev/null 2>&1 &)`,
    )
  }
  for (const { ticket, ip } of rows) {
    const answer = await until(
      `the service of ${ticket}`,
      () =>
        fetch(`http://${ip}:8000/who`, { signal: AbortSignal.timeout(5_000) }).then(
          response => response.text(),
          () => null,
        ),
      { within: 120_000, every: 200 },
    )
    expect(answer.trim()).toBe(ticket)
  }
})

test('each has a host key of its own, and the key of the other is refused', async () => {
  const [first, second] = await Promise.all([listed(FIRST), listed(SECOND)])
  const pin = (vmId: string) => join(home, 'ssh', `${vmId}.known_hosts`)
  const [own, other] = [readFileSync(pin(first.vmId), 'utf8'), readFileSync(pin(second.vmId), 'utf8')]
  const [ownKey = '', otherKey = ''] = [own, other].map(line => line.split(' ')[2])
  expect(ownKey).not.toBe(otherKey)
  writeFileSync(pin(first.vmId), own.replace(ownKey, otherKey))
  const refused = await swarm('ssh', FIRST, '--', 'true')
  writeFileSync(pin(first.vmId), own)
  expect(refused.code).toBe(255)
  expect(refused.stderr).toMatch(/Host key verification failed|IDENTIFICATION HAS CHANGED/)
  expect(await inside(FIRST, 'hostname')).toBe(first.vmId)
})

test('streams and exit status pass through', async () => {
  const child = spawn(process.execPath, [entry, 'ssh', FIRST, '--', 'cat; echo loud >&2; exit 9'], {
    env: swarmEnvironment,
  })
  let [out, err] = ['', '']
  child.stdout.on('data', chunk => (out += chunk))
  child.stderr.on('data', chunk => (err += chunk))
  child.stdin.end('through')
  expect(await new Promise(resolve => child.on('close', resolve))).toBe(9)
  expect([out, err.trim()]).toEqual(['through', 'loud'])
})

test('a restore brings disk and memory back', async () => {
  await inside(
    FIRST,
    'echo before > state; (setsid nohup sh -c "n=0; while :; do n=\\$((n+1)); echo \\$n > counter; sleep 1; done" >/dev/null 2>&1 &)',
  )
  expect(await swarm('checkpoint', FIRST, CHECKPOINT)).toMatchObject({ code: 0 })
  await inside(FIRST, 'echo after > state; echo x > later; pkill -f "whil[e] :"; sync')
  expect(await swarm('restore', FIRST, CHECKPOINT)).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(new RegExp(`Restored ${FIRST} to ${CHECKPOINT}; .*pre-restore-`)),
  })
  expect(await inside(FIRST, 'cat state; test -e later || echo gone')).toBe('before\ngone')
  // The loop was killed after the checkpoint, and counts again: its memory came back with the disk.
  const counter = await inside(FIRST, 'cat counter')
  await until('the loop to count', async () => Number(await inside(FIRST, 'cat counter')) > Number(counter), {
    within: 60_000,
    every: 500,
  })
  const { checkpoints } = await listed(FIRST)
  expect(checkpoints.slice(checkpoints.indexOf(CHECKPOINT))).toEqual([
    CHECKPOINT,
    expect.stringMatching(/^pre-restore-/),
  ])
})

test('the other machine never noticed', async () => {
  expect(await inside(SECOND, 'test -e state || echo nothing')).toBe('nothing')
  expect((await list()).map(({ ticket }) => ticket)).toEqual([FIRST, SECOND])
})
