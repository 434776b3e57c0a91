/** Tickets' lives on real machines, by the CLI as a whole process. */
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BASE, ensureBase, entry, everything, home, program, swarm, swarmEnvironment, virsh } from './cli.ts'

let before: Awaited<ReturnType<typeof everything>>
/** A domain and a volume that bear names like ours, and that we did not make. */
const FOREIGN = 'as-life-9-0badcafe'
const foreignXml = `<domain type="qemu"><name>${FOREIGN}</name><memory unit="MiB">64</memory><os><type>hvm</type></os></domain>`

beforeAll(async () => {
  await ensureBase()
  const file = join(home, 'foreign.xml')
  writeFileSync(file, foreignXml)
  await virsh('define', file)
  await virsh('vol-create-as', 'agent-swarm', `${FOREIGN}.qcow2`, '1M', '--format', 'qcow2')
  before = await everything()
})
afterAll(async () => {
  for (const { ticket } of JSON.parse((await swarm('list', '--json')).stdout)) await swarm('delete', ticket, '--force')
  await virsh('undefine', FOREIGN)
  await virsh('vol-delete', '--pool', 'agent-swarm', `${FOREIGN}.qcow2`)
})

const inside = async (ticket: string, command: string) => {
  const ran = await swarm('ssh', ticket, '--', command)
  if (ran.code !== 0) throw new Error(`${ticket}: ${command}: ${ran.code} ${ran.stderr}`)
  return ran.stdout.trim()
}
type Listed = {
  ticket: string
  vmId: string
  ip: string
  status: string
  diskBytes: number
  ssh: { host: string }
  checkpoints: string[]
}
const list = async (): Promise<Listed[]> => JSON.parse((await swarm('list', '--json')).stdout)

test('the base image has a manifest that tells what it is', async () => {
  const file = join(home, 'manifest.json')
  await virsh('vol-download', '--pool', 'agent-swarm', `${BASE}.manifest.json`, file)
  const manifest = JSON.parse(readFileSync(file, 'utf8'))
  expect(manifest).toMatchObject({
    name: BASE,
    provider: 'kvm',
    source: 'debian-packages (bookworm)',
    sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
  })
  expect(manifest.contents.join('\n')).toMatch(/^cloud-init .*\n[\s\S]*^git /m)
  // What the manifest vouches for is what lies in the pool.
  const image = join(home, 'image.qcow2')
  await virsh('vol-download', '--pool', 'agent-swarm', `${BASE}.qcow2`, image)
  expect((await program('sha256sum', [image])).stdout.split(' ')[0]).toBe(manifest.sha256)
  await program('rm', [image])
})

test('a name that is taken by an image is refused, and the image stays', async () => {
  const ran = await swarm('init-base', '--from', 'debian-packages')
  expect(ran).toMatchObject({ code: 1, stderr: expect.stringContaining(`there is a base image ${BASE} already`) })
})

test('a source that is none leaves no image, no machine and no volume', async () => {
  const now = await everything()
  const nothing = join(home, 'nothing.img')
  writeFileSync(nothing, 'no disk')
  for (const from of ['/nowhere/at-all.qcow2', nothing]) {
    const ran = await swarm('init-base', 'broken', '--from', from)
    expect(ran).toMatchObject({ code: 2 })
  }
  expect(await everything()).toEqual(now)
  expect(readdirSync(join(home, 'kvm')).filter(name => name.startsWith('build-'))).toEqual([])
})

test('without its base image, a create says how to make one, and leaves nothing', async () => {
  const ran = await program(process.execPath, [entry, 'create', 'LIFE-8'], {
    ...swarmEnvironment,
    AGENT_SWARM_BASE_IMAGE: 'no-such-image',
  } as Record<string, string>)
  expect(ran).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('agent-swarm init-base no-such-image --from debian-packages'),
  })
  expect(await everything()).toEqual(before)
})

test('UEFI is there where this libvirt can bring its checkpoints back, and is refused with the reason where not', async () => {
  const [, version = ''] = (await virsh('version', '--daemon')).match(/Running against daemon: ([\d.]+)/) ?? []
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const environment = { ...swarmEnvironment, AGENT_SWARM_KVM_FIRMWARE: 'uefi' } as Record<string, string>
  const listed = await program(process.execPath, [entry, 'providers', '--json'], environment)
  const kvm = JSON.parse(listed.stdout).find((one: { name: string }) => one.name === 'kvm')
  if (major > 10 || (major === 10 && minor >= 10)) expect(kvm).toMatchObject({ available: true })
  else {
    const reason = `a machine with UEFI can have checkpoints from libvirt 10.10 on, and this is ${version}`
    expect(kvm).toMatchObject({ available: false, reason: `${reason}.` })
    expect(await program(process.execPath, [entry, 'create', 'LIFE-7'], environment)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(new RegExp(`${reason}[\\s\\S]*AGENT_SWARM_KVM_FIRMWARE=bios`)),
    })
    expect(await everything()).toEqual(before)
  }
})

describe('three machines at once', () => {
  const tickets = ['LIFE-1', 'LIFE-2', 'LIFE-3']

  test('each comes up with its own address, and its own service on the same port', async () => {
    const made = await Promise.all(tickets.map(ticket => swarm('create', ticket)))
    expect(made.map(one => one.code)).toEqual([0, 0, 0])
    const rows = await list()
    expect(rows.map(row => [row.ticket, row.status])).toEqual(tickets.map(ticket => [ticket, 'running']))
    expect(new Set(rows.map(row => row.ip)).size).toBe(3)
    for (const { ticket, ip, ssh, diskBytes } of rows) {
      expect(ssh.host).toBe(ip)
      expect(diskBytes).toBeGreaterThan(1024 * 1024)
      await inside(
        ticket,
        `mkdir -p www && echo ${ticket} > www/who && cd www && (setsid nohup python3 -m http.server 8000 >/dev/null 2>&1 &)`,
      )
    }
    for (const { ticket, ip } of rows) {
      let said: string | null = null
      for (let tries = 0; said === null && tries < 100; tries += 1) {
        said = await fetch(`http://${ip}:8000/who`, { signal: AbortSignal.timeout(5_000) }).then(
          one => one.text(),
          () => null,
        )
        if (said === null) await delay(200)
      }
      expect(said?.trim()).toBe(ticket)
    }
  })

  test('each has keys of its own, and a host key that is not the pinned one is refused', async () => {
    const [first, second] = await list()
    if (first === undefined || second === undefined) throw new Error('no machines')
    const pin = (vmId: string) => join(home, 'ssh', `${vmId}.known_hosts`)
    const keys = [first, second].map(({ vmId }) => readFileSync(pin(vmId), 'utf8').split(' ')[2])
    expect(keys[0]).not.toBe(keys[1])
    const own = readFileSync(pin(first.vmId), 'utf8')
    writeFileSync(pin(first.vmId), own.replace(keys[0] ?? '', keys[1] ?? ''))
    const refused = await swarm('ssh', first.ticket, '--', 'true')
    expect(refused.code).toBe(255)
    expect(refused.stderr).toMatch(/Host key verification failed|IDENTIFICATION HAS CHANGED/)
    writeFileSync(pin(first.vmId), own)
    expect(await inside(first.ticket, 'hostname')).toBe(first.vmId)
  })

  test('streams and exit status pass through', async () => {
    const child = spawn(process.execPath, [entry, 'ssh', 'LIFE-1', '--', 'cat; echo loud >&2; exit 9'], {
      env: swarmEnvironment,
    })
    let [out, err] = ['', '']
    child.stdout.on('data', chunk => (out += chunk))
    child.stderr.on('data', chunk => (err += chunk))
    child.stdin.end('through')
    expect(await new Promise(done => child.on('close', done))).toBe(9)
    expect([out, err.trim()]).toEqual(['through', 'loud'])
  })

  test('create, write, checkpoint, write, restore, read: disk and memory are as they were', async () => {
    await inside(
      'LIFE-1',
      'echo before > state; (setsid nohup sh -c "n=0; while :; do n=\\$((n+1)); echo \\$n > counter; sleep 1; done" >/dev/null 2>&1 &)',
    )
    expect(await swarm('checkpoint', 'LIFE-1', 'one')).toMatchObject({ code: 0 })
    await inside('LIFE-1', 'echo after > state; echo x > later; pkill -f "whil[e] :"; sync')
    const restored = await swarm('restore', 'LIFE-1', 'one')
    expect(restored).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/back at one; what it replaced is kept as pre-restore-/),
    })
    expect(await inside('LIFE-1', 'cat state; test -e later || echo gone')).toBe('before\ngone')
    // The loop that was killed after the checkpoint lives again: its memory came back with the disk.
    const [a, b] = [await inside('LIFE-1', 'cat counter'), await inside('LIFE-1', 'sleep 3; cat counter')]
    expect(Number(b)).toBeGreaterThan(Number(a))
    expect((await list())[0]?.checkpoints).toEqual(['one', expect.stringMatching(/^pre-restore-/)])
  })

  test('work that git cannot read keeps the machine; --force does not', async () => {
    await inside('LIFE-2', 'git init -q shop && echo x > shop/file && echo broken > shop/.git/HEAD')
    const kept = await swarm('delete', 'LIFE-2')
    expect(kept).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/LIFE-2 is kept and stopped: it is not known whether work would be lost/),
    })
    expect((await list()).find(row => row.ticket === 'LIFE-2')).toMatchObject({ status: 'stopped', ip: null })
    expect(await swarm('delete', 'LIFE-2')).toMatchObject({ code: 1 })
    expect(await swarm('delete', 'LIFE-2', '--force')).toMatchObject({ code: 0 })
  })

  test('a create that is killed (-9) leaves nothing after the next command', async () => {
    const child = spawn(process.execPath, [entry, 'create', 'LIFE-4'], {
      env: swarmEnvironment,
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    for await (const chunk of child.stderr) if (String(chunk).includes('address')) child.kill('SIGKILL')
    expect((await list()).find(row => row.ticket === 'LIFE-4')).toMatchObject({ status: 'creating' })
    await swarm('stop', 'LIFE-4')
    expect((await list()).find(row => row.ticket === 'LIFE-4')).toBeUndefined()
    expect(await virsh('list', '--all', '--name')).not.toContain('as-life-4')
  })

  test('a number of machines costs a constant number of virsh calls', async () => {
    const trace = join(home, 'bin')
    const log = join(home, 'virsh.log')
    await program('mkdir', ['-p', trace])
    writeFileSync(join(trace, 'virsh'), `#!/bin/sh\necho call >> ${log}\nexec /usr/bin/virsh "$@"\n`, { mode: 0o755 })
    writeFileSync(log, '')
    const ran = await program(process.execPath, [entry, 'list', '--json'], {
      ...swarmEnvironment,
      PATH: `${trace}:${process.env.PATH}`,
    } as Record<string, string>)
    expect(JSON.parse(ran.stdout)).toHaveLength(2)
    const two = readFileSync(log, 'utf8').trim().split('\n').length
    await swarm('delete', 'LIFE-3', '--force')
    writeFileSync(log, '')
    await program(process.execPath, [entry, 'list', '--json'], {
      ...swarmEnvironment,
      PATH: `${trace}:${process.env.PATH}`,
    } as Record<string, string>)
    expect(readFileSync(log, 'utf8').trim().split('\n')).toHaveLength(two)
  })

  test('afterwards everything is as before, and what is not ours was never touched', async () => {
    for (const ticket of tickets) await swarm('delete', ticket, '--force')
    expect(await everything()).toEqual(before)
    expect(await virsh('domstate', FOREIGN)).toBe('shut off')
    expect(before.volumes).toContain(`${FOREIGN}.qcow2`)
  })
})
