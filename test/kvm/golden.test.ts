/**
 * The profile `full` on real libvirt: npm run test:long. Its packages are installed in a chroot, at this processor's speed; then
 * init-base takes the disk for a cloud image, in a guest that reaches no source.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { imageSteps } from '../../base-image/scripts.ts'
import { isLong } from '../support/samples.ts'
import { until } from '../support/wait.ts'
import { home, inside, list, listed, program, succeed, swarm, swarmWith } from './cli.ts'

/** The release of init-base --from debian-packages, or the other one that `full` is for. */
const SUITE = process.env.AGENT_SWARM_TEST_SUITE ?? 'bookworm'
const IMAGE = `golden-${SUITE}`
const TICKETS = ['GOLD-1', 'GOLD-2', 'GOLD-3']
const state = dirname(home)
const disk = join(state, 'golden', `${SUITE}.img`)

/** The disk, which is kept with the state, and the steps that this system had no packages for. */
const ensureDisk = async (): Promise<string[]> => {
  const left = `${disk}.without`
  if (!existsSync(left)) {
    mkdirSync(dirname(disk), { recursive: true, mode: 0o700 })
    const maker = resolve(import.meta.dirname, '../base-image/golden-disk.ts')
    // The namespaces have no network outside.
    const outside = [`--net=${join(state, 'outside-net')}`, process.execPath, maker, SUITE, disk]
    writeFileSync(left, await succeed(program('nsenter', outside)))
  }
  return readFileSync(left, 'utf8').trim().split(',').filter(Boolean)
}
const images = async (): Promise<Image[]> => JSON.parse(await succeed(swarm('init-base', '--list', '--json')))
type Image = { name: string; proven: { piece: string; how: string }[]; unproven: { piece: string }[] }

/** Builds the image, unless the state has it. What a killed build left has no proof. */
const ensureImage = async (): Promise<void> => {
  if ((await images()).some(({ name, proven }) => name === IMAGE && proven.length > 0)) return
  const from = ['--from', disk, '--profile', 'full', ...(without.length === 0 ? [] : ['--skip', without.join(',')])]
  const built = await swarm('init-base', IMAGE, ...from)
  console.log(`${built.stderr}\n${built.stdout}`)
  if (built.code !== 0) throw new Error(built.stderr)
}
const deleteMachines = async () => {
  for (const { ticket } of await list()) if (TICKETS.includes(ticket)) await succeed(swarm('delete', ticket, '--force'))
}

let without: string[] = []
beforeAll(async () => {
  if (!isLong) return
  mkdirSync(home, { recursive: true, mode: 0o700 })
  without = await ensureDisk()
  await deleteMachines()
  await ensureImage()
}, 90 * 60_000)
afterAll(async () => {
  if (isLong) await deleteMachines()
})

test.skipIf(!isLong)(
  'init-base set the image up without any source, since all was there, and proved each piece in a machine',
  async () => {
    const image = (await images()).find(({ name }) => name === IMAGE)
    const names = imageSteps().map(({ name }) => name)
    expect(image?.proven.map(({ piece }) => piece)).toEqual(names.filter(name => !without.includes(name)))
    expect(image?.unproven.map(({ piece }) => piece)).toEqual(without)
  },
)

/** Answers with what this machine's PostgreSQL and Redis hold, over TCP. */
const WEB = `import { execFileSync } from 'node:child_process'
import { createServer } from 'node:http'
const ask = (program, ...words) => execFileSync(program, words).toString().trim()
createServer((_, response) => {
  const postgres = ask('psql', '-XAtc', 'select name from ticket', 'postgresql://web:web@127.0.0.1:5432/postgres')
  const redis = ask('redis-cli', '-h', '127.0.0.1', '-p', '6379', 'get', 'ticket')
  response.end(JSON.stringify({ postgres, redis }))
}).listen(3000)
`
const startServices = (ticket: string) => `set -eu
sudo -u postgres psql -qX -p 5432 <<'SQL'
create role web login password 'web';
create table ticket (name text);
insert into ticket values ('${ticket}');
grant select on ticket to web;
SQL
redis-cli -p 6379 set ticket '${ticket}'
cat >web.mjs <<'WEB'
${WEB}WEB
sudo systemd-run --quiet --unit web --uid agent node "$PWD/web.mjs"`

test.skipIf(!isLong)(
  'three machines run PostgreSQL, Redis and a web service on the same ports at once, each with its own data',
  { timeout: 40 * 60_000 },
  async () => {
    const settings = { AGENT_SWARM_BASE_IMAGE: IMAGE, AGENT_SWARM_DISK_GIB: '10' }
    await Promise.all(TICKETS.map(ticket => succeed(swarmWith(settings, 'create', ticket))))
    const rows = await Promise.all(TICKETS.map(listed))
    expect(new Set(rows.map(({ ip }) => ip)).size).toBe(TICKETS.length)
    // Active after boot, without anybody's doing.
    await Promise.all(
      TICKETS.map(async ticket => {
        expect(await inside(ticket, 'systemctl is-system-running --wait || systemctl --failed')).toBe('running')
        expect(
          await inside(
            ticket,
            'systemctl is-active postgresql "postgresql@$(ls /etc/postgresql)-main" redis-server ssh',
          ),
        ).toBe('active\nactive\nactive\nactive')
        await inside(ticket, startServices(ticket))
      }),
    )
    const answers = await Promise.all(
      rows.map(({ ticket, ip }) =>
        until(
          `the web service of ${ticket}`,
          () =>
            fetch(`http://${ip}:3000/`, { signal: AbortSignal.timeout(30_000) }).then(
              response => response.json(),
              () => null,
            ),
          { within: 300_000, every: 500 },
        ),
      ),
    )
    expect(answers).toEqual(TICKETS.map(ticket => ({ postgres: ticket, redis: ticket })))
  },
)

/** A row each 20 ms, over one connection. */
const WRITER = `set -eu
sudo -u postgres psql -qX <<'SQL'
create table row (n bigserial primary key, text text);
create extension amcheck;
SQL
sudo systemd-run --quiet --unit writer --uid postgres sh -c '
  while sleep 0.02; do echo "insert into row (text) values (repeat(md5(random()::text), 20));"; done | psql -qX'`
const ROWS = `sudo -u postgres psql -XAt -F ' ' <<'SQL'
select bt_index_check('row_pkey', true);
select 'rows', count(*), max(n), sum(length(text)), pg_postmaster_start_time() from row;
SQL`
/** Rows of one server process: none is missing, and each is whole. */
const rowsOf = async (ticket: string) => {
  const [, count = '', last = '', bytes = '', ...started] =
    (await inside(ticket, ROWS))
      .split('\n')
      .find(line => line.startsWith('rows'))
      ?.split(' ') ?? []
  expect({ ticket, last, bytes }).toEqual({ ticket, last: count, bytes: String(Number(count) * 640) })
  return { count: Number(count), server: started.join(' ') }
}
const IDENTITY = `head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n'; echo; hostname; cat /etc/machine-id
cat /sys/class/net/e*/address; hostname -I; cut -d ' ' -f 2 /etc/ssh/ssh_host_ed25519_key.pub`

test.skipIf(!isLong)(
  'three attempts of a running machine, five times: PostgreSQL and its writer go on in each, from one moment',
  { timeout: 60 * 60_000 },
  async () => {
    const [ticket = '', ...others] = TICKETS
    // 15 forks, and none of the others' machines beside them.
    for (const other of others) await succeed(swarm('delete', other, '--force'))
    await inside(ticket, WRITER)
    await until('the writer', async () => (await rowsOf(ticket)).count > 10, { within: 300_000, every: 1_000 })
    const identities = [(await inside(ticket, IDENTITY)).split('\n')]
    for (let round = 1; round <= 5; round += 1) {
      const before = await rowsOf(ticket)
      await succeed(swarm('fork', ticket, '--count', '3'))
      const after = await rowsOf(ticket)
      const attempts = (await list()).map(row => row.ticket).filter(key => key.startsWith(`${ticket}~`))
      expect(attempts).toHaveLength(3)
      for (const attempt of attempts) {
        const rows = await rowsOf(attempt)
        // The same process as in the source goes on.
        expect(rows.server).toBe(before.server)
        expect(rows.count).toBeGreaterThanOrEqual(before.count)
        await until(`the writer of ${attempt}`, async () => (await rowsOf(attempt)).count > rows.count, {
          within: 300_000,
          every: 1_000,
        })
        identities.push((await inside(attempt, IDENTITY)).split('\n'))
      }
      for (const attempt of attempts) await succeed(swarm('delete', attempt, '--force'))
      expect(after.server).toBe(before.server)
      expect(after.count).toBeGreaterThan(before.count)
    }
    for (const what of [0, 1, 2, 3, 4, 5])
      expect([what, new Set(identities.map(values => values[what])).size]).toEqual([what, 16])
  },
)

test.skipIf(!isLong)('the emulator of Pub/Sub is off until it is started, and answers then', async () => {
  const [ticket = ''] = TICKETS
  if (without.includes('pubsub')) return
  expect(await inside(ticket, 'systemctl is-enabled swarm-pubsub; systemctl is-active swarm-pubsub; true')).toBe(
    'disabled\ninactive',
  )
  await inside(ticket, 'sudo systemctl start swarm-pubsub')
  const topic = 'http://127.0.0.1:8085/v1/projects/shop/topics/orders'
  expect(
    JSON.parse(await inside(ticket, `curl -sSf -X PUT -H 'Content-Type: application/json' -d '{}' ${topic}`)),
  ).toEqual({ name: 'projects/shop/topics/orders' })
})
