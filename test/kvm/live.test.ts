/**
 * Live checkpoints of a guest that works: a process has a nonce and a counter in its memory, and compares the counter with the one
 * that it wrote to the disk, past every cache, in each round; another writes to a database. Memory and disk of one moment agree.
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { layersIn } from '../../providers/kvm/layers.ts'
import { isLong } from '../support/samples.ts'
import { until } from '../support/wait.ts'
import { ensureBase, inside, listed, succeed, swarm, virsh, volumes } from './cli.ts'

process.env.AGENT_SWARM_KVM_LIVE_CHECKPOINTS = 'on'
const TICKET = 'LIVE-1'

/** Writes `nonce counter` of each round to a file in memory, and to another one when memory and disk differ. */
const COUNTER = `
import mmap, os, secrets, time
nonce, count, page = secrets.token_hex(8), 0, mmap.mmap(-1, 4096)
fd = os.open('/var/tmp/counter', os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_DSYNC, 0o600)
os.pwritev(fd, [page], 0)
while True:
    os.preadv(fd, [page], 0)
    written = int.from_bytes(page[:8], 'little')
    if written != count:
        open('/dev/shm/wrong', 'a').write(f'{nonce}: disk {written} memory {count}\\n')
        count = written
    count += 1
    page[:8] = count.to_bytes(8, 'little')
    os.pwritev(fd, [page], 0)
    open('/dev/shm/new', 'w').write(f'{nonce} {count}')
    os.rename('/dev/shm/new', '/dev/shm/now')
    time.sleep(0.01)
`
const WRITER = `
import sqlite3, time
rows = sqlite3.connect('/var/tmp/rows.db', isolation_level=None)
rows.execute('pragma journal_mode = wal')
rows.execute('pragma synchronous = full')
rows.execute('create table if not exists row (n integer primary key, text text)')
while True:
    rows.execute("insert into row (text) values (hex(randomblob(100)))")
    time.sleep(0.02)
`
const CHECK = `
import sqlite3
rows = sqlite3.connect('/var/tmp/rows.db')
print(rows.execute('pragma integrity_check').fetchone()[0], rows.execute('select count(*) from row').fetchone()[0])
`
const python = (text: string) => `python3 -c "$(echo ${Buffer.from(text).toString('base64')} | base64 -d)"`
const inBackground = (text: string) => `setsid ${python(text)} </dev/null >/dev/null 2>&1 &`

const now = async () => {
  const [nonce = '', count = ''] = (await inside(TICKET, 'cat /dev/shm/now')).split(' ')
  return { nonce, count: Number(count) }
}
const rows = async () => {
  const [integrity, count] = (await inside(TICKET, python(CHECK))).split(' ')
  return { integrity, count: Number(count) }
}
const checkpoint = async (name: string): Promise<{ summary: string; pauseMs?: number }> =>
  JSON.parse(await succeed(swarm('checkpoint', TICKET, name, '--json')))

beforeAll(async () => {
  if (!isLong) return
  await ensureBase()
  await succeed(swarm('create', TICKET))
  await inside(TICKET, `${inBackground(COUNTER)} ${inBackground(WRITER)} true`)
  // Python takes a while to begin in an emulated guest.
  await until(
    'the writers',
    async () => (await rows().catch(() => ({ count: 0 }))).count > 0 && (await now()).count > 0,
    {
      within: 300_000,
    },
  )
})
afterAll(async () => {
  if (isLong) await swarm('delete', TICKET, '--force')
})

test.skipIf(!isLong)('a checkpoint is of one moment, tells its pause, and a restore goes on from it', async () => {
  // Otherwise the guest stands still, and all that follows is true as well.
  expect((await swarm('doctor', '--json')).stdout).toContain('checkpoints of running machines are live')
  const before = await now()
  const made = [await checkpoint('one'), await checkpoint('two')]
  for (const { summary, pauseMs } of made) {
    expect(pauseMs).toBeGreaterThan(0)
    expect(summary).toMatch(/^Made checkpoint \w+ of LIVE-1; it stood still for \d/)
  }
  console.log(`the guest stood still for ${made.map(({ pauseMs }) => pauseMs).join(' and ')} ms`)
  await until('the writers to go on', async () => (await now()).count > before.count + 50, { within: 120_000 })
  const later = { ...(await now()), rows: await rows() }
  await succeed(swarm('restore', TICKET, 'one'))
  const restored = { ...(await now()), rows: await rows() }
  expect(restored.nonce).toBe(before.nonce)
  expect(restored.count).toBeGreaterThan(before.count)
  expect(restored.rows.integrity).toBe('ok')
  await until('the counter to go on', async () => (await now()).count > later.count, { within: 300_000 })
  expect(await inside(TICKET, 'cat /dev/shm/wrong 2>/dev/null || true')).toBe('')
  const { vmId } = await listed(TICKET)
  expect(await virsh('domblklist', vmId)).toBe(await virsh('domblklist', vmId, '--inactive'))
})

test.skipIf(!isLong)('with its disk alone, it boots, and its database is whole', async () => {
  await succeed(swarm('restore', TICKET, 'two', '--cold'))
  await succeed(swarm('start', TICKET))
  expect((await rows()).integrity).toBe('ok')
  expect(await inside(TICKET, 'ls /dev/shm/now 2>/dev/null || true')).toBe('')
})

test.skipIf(!isLong)('a checkpoint that was deleted leaves no memory behind', async () => {
  for (const name of ['one', 'two']) await succeed(swarm('checkpoint', TICKET, '--delete', name))
  const { vmId, checkpoints } = await listed(TICKET)
  await virsh('pool-refresh', 'agent-swarm')
  const { memories, checkpoints: marked } = layersIn(await volumes(), vmId)
  expect(marked.map(({ name }) => name)).toEqual(checkpoints)
  expect(memories).toEqual(marked.map(({ layer }) => layer))
})
