/** What commands print with `--json`, judged by the schemas in docs/json. */
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeBackup } from '../../src/backups.ts'
import { commands } from '../../src/cli/command-table.ts'
import { dryRunShow } from '../../src/cli/dry-run.ts'
import { outputs } from '../../src/cli/json.ts'
import type { ProjectRow } from '../../src/registry/registry.ts'
import { replyMessage } from '../../src/store/messages.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { openCli } from '../support/cli.ts'
import { knownMachine } from '../support/context.ts'
import { outputValidator } from '../support/json-outputs.ts'

type Name = keyof typeof outputs
const names = Object.keys(outputs) as Name[]
const validators = new Map(names.map(name => [name, outputValidator(name)]))

const cli = openCli()
const bin = join(cli.home, 'bin')
const kvm = { PATH: `${bin}:${process.env.PATH}`, AGENT_SWARM_PROVIDER: 'kvm' }
const program = (name: string, script: string) => {
  mkdirSync(bin, { recursive: true })
  writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`)
  chmodSync(join(bin, name), 0o755)
}
beforeAll(() => {
  // A libvirt with one machine, whatever it is asked, and an ssh that has opened its ports.
  const id = 'as-drop-8-00000001'
  program(
    'virsh',
    `cat <<'.'
<vm xmlns="urn:agent-swarm:1" name="${id}" ticket="DROP-8" mac="52:54:00:aa:bb:cc"/>

Domain: '${id}'
  state.state=1
  cpu.time=1500000000
  balloon.maximum=1048576
  balloon.rss=524288
  vcpu.current=2
 eth0       52:54:00:aa:bb:cc    ipv4         192.0.2.8/24
 before-refactor   2026-11-23 07:39:42 +0000   running
.`,
  )
  program('ssh', 'echo open; exec sleep 30')
})
afterAll(() => cli.close())

const judged = new Set<Name>()
/** Judges a value that a command printed; `error` judges a failure of any command. */
const judge = (name: Name, value: unknown) => {
  expect(validators.get(name)?.(value)).toBe('valid')
  judged.add(name)
  return value
}
const nameOf = (words: readonly string[]) =>
  words
    .slice(0, words[1] === 'runner' ? 3 : ['bot', 'rescued', 'service'].includes(words[0] ?? '') ? 2 : 1)
    .join(' ') as Name
/** Runs a command with `--json`, and returns the one value that it printed. */
const printed = async (words: readonly string[], { code = 0, as = nameOf(words), environment = {} } = {}) => {
  const ran = await cli.swarm([...words, '--json'], environment)
  expect(ran, words.join(' ')).toMatchObject({ code })
  return judge(as, JSON.parse(ran.stdout))
}

test('a command has a schema exactly when it has --json', () => {
  const printing = Object.entries(commands).flatMap(([name, { options }]) => ('json' in options ? [name] : []))
  expect([...printing, 'error'].sort()).toEqual([...names].sort())
})

const SHOP: ProjectRow = {
  ...{
    repo: 'acme/shop',
    branch: 'DROP-1-x',
    summary: null,
    path: '~/shop',
    ports: [3000, 8080],
    save: [],
    start: null,
  },
  ...{ problem: 'a\u001b[2J problem', prepared: true },
  setup: {
    ...{ state: 'failed', source: '.github/agent-swarm.yml', exit: 3, seconds: 12 },
    startedAt: '2026-11-23T09:45:00.000Z',
  },
}

test('attempts: forked, listed behind their ticket, and one is promoted', async () => {
  await printed(['create', 'DROP-9'])
  expect(await printed(['fork', 'DROP-9', '--count', '2', '--dry-run'])).toMatchObject({ result: 'planned' })
  expect(await printed(['fork', 'DROP-9', '--count', '2'])).toMatchObject({
    result: 'done',
    attempts: [
      { ticket: 'DROP-9~1', status: 'running', branch: null, ssh: null },
      { ticket: 'DROP-9~2', vmId: expect.stringMatching(/^as-drop-9-2-/) },
    ],
  })
  expect(await printed(['list'])).toMatchObject([
    { ticket: 'DROP-9', attempt: null },
    { ticket: 'DROP-9~1', attempt: { of: 'DROP-9', from: null } },
    { ticket: 'DROP-9~2' },
  ])
  expect(await printed(['status', 'drop-9~2'])).toMatchObject({
    environment: { attempt: { of: 'DROP-9', from: null } },
  })
  expect(await printed(['status', 'DROP-9'])).toMatchObject({
    attempts: [
      { ticket: 'DROP-9~1', status: 'running' },
      { ticket: 'DROP-9~2', status: 'running' },
    ],
  })
  expect((await cli.swarm(['status', 'DROP-9'])).stdout).toContain('Attempts: DROP-9~1 (running), DROP-9~2 (running).')
  expect((await cli.swarm(['status', 'DROP-9~1'])).stdout).toContain('forked from DROP-9; agent-swarm promote keeps it')
  expect((await cli.swarm(['list', '-q'])).stdout).toMatch(/^DROP-9 .*\nDROP-9~1 .*\nDROP-9~2 /m)
  expect((await cli.swarm(['promote', 'DROP-9~2', '--dry-run'])).stdout).toContain('Dry run: `promote DROP-9~2` would:')
  for (const words of [
    ['fork', 'DROP-9', '--count', '10'],
    ['promote', 'DROP-9'],
    ['promote', 'DROP-9~0'],
    ['stop', 'DROP-9%7E1'],
  ])
    expect(await cli.swarm(words)).toMatchObject({ code: 2 })
  expect(await printed(['promote', 'DROP-9~2'])).toMatchObject({
    result: 'done',
    deleted: [{ ticket: 'DROP-9' }, { ticket: 'DROP-9~1', vmId: expect.stringMatching(/^as-drop-9-1-/) }],
  })
  expect(await printed(['list'])).toMatchObject([{ ticket: 'DROP-9' }])
  await printed(['delete', 'DROP-9'])
})

test('changes of a machine: done, skipped, planned and failed', async () => {
  expect(await printed(['list'])).toEqual([])
  expect(await printed(['create', 'DROP-1', '--dry-run'])).toMatchObject({ result: 'planned' })
  expect(await printed(['create', 'DROP-1'])).toMatchObject({ result: 'done' })
  expect(await printed(['create', 'DROP-1'])).toMatchObject({ result: 'skipped' })
  expect(await printed(['checkpoint', 'DROP-1', 'one'])).toMatchObject({ result: 'done' })
  expect(await printed(['checkpoint', 'DROP-1', 'one'], { code: 1 })).toMatchObject({ result: 'failed' })
  expect(await printed(['restore', 'DROP-1'])).toMatchObject({ result: 'done' })
  await cli.inside('DROP-1', 'git init -q work && cd work && echo new > file && git config user.email a@example.org')
  expect(await printed(['stop', 'DROP-1'])).toMatchObject({ environment: { unsavedWork: { known: true } } })
  expect(await printed(['start', 'DROP-1', '--dry-run'])).toMatchObject({ result: 'planned' })
  expect(await printed(['reconcile', '--dry-run'])).toEqual([])
  expect(await printed(['prune'])).toMatchObject({ result: 'planned', removed: [] })
  cli.know(registry => registry.setDesired('DROP-1', 'running', { via: 'cli', who: null }))
  expect(await printed(['reconcile', '--dry-run'])).toMatchObject([{ ticket: 'DROP-1', step: 'start it' }])
  expect(await printed(['start', 'DROP-1'])).toMatchObject({ result: 'done' })
  expect(await printed(['start', 'DROP-1', '--detach'])).toMatchObject({ result: 'skipped' })
  expect(await printed(['restart', 'DROP-1'])).toMatchObject({ result: 'done', summary: 'Restarted DROP-1' })
  expect(await printed(['start', 'DROP-1', 'DROP-1'])).toMatchObject({ result: 'skipped' })
  for (const words of [['list'], ['status'], ['status', 'DROP-1'], ['checkpoints', 'DROP-1'], ['providers']])
    await printed(words)
  cli.know(registry => registry.setProject('DROP-1', SHOP))
  await cli.inside(
    'DROP-1',
    'mkdir -p var/lib/agent-swarm && printf "one\\033[2J\\ntwo\\n" > var/lib/agent-swarm/setup.log',
  )
  expect(await printed(['logs', 'DROP-1'])).toEqual({
    ticket: 'DROP-1',
    logs: [{ name: 'setup', text: 'one [2J\ntwo' }],
  })
  expect((await cli.swarm(['logs', 'DROP-1', '--setup'])).stdout).toBe('one [2J\ntwo\n')
  expect((await cli.swarm(['logs', 'DROP-1', '--start'])).stderr).toContain(
    'DROP-1 has no logs of start: a?[2J problem.',
  )
  expect(await printed(['status'])).toMatchObject({ environments: [{ project: { repo: 'acme/shop' } }] })
  const page = (await cli.swarm(['status', 'DROP-1'])).stdout
  for (const text of [
    'acme/shop in ~/shop',
    'failed with exit status 3 after 12 s (.github/agent-swarm.yml, began 2026-11-23T09:45:00.000Z)',
    '3000, 8080 (agent-swarm forward DROP-1)',
    'a?[2J problem',
  ])
    expect(page).toContain(text)
  expect((await cli.swarm(['status'])).stdout).toMatch(/DROP-1 +acme\/shop +DROP-1-x +failed \(3\) +-/)
  expect(await printed(['delete', 'DROP-1'])).toMatchObject({ result: 'done', rescued: expect.any(String) })
  const rescued = [{ ticket: 'DROP-1', bytes: expect.any(Number), repositories: [expect.stringMatching(/work$/)] }]
  expect(await printed(['status', 'DROP-1'])).toMatchObject({ environment: null, rescued })
  expect(await printed(['status'])).toMatchObject({ environments: [], rescued })
  const [{ name } = { name: '' }] = (await printed(['rescued', 'list'])) as { name: string }[]
  expect(await printed(['rescued', 'show', name])).toMatchObject({
    name,
    repositories: [{ untracked: 1, branches: [] }],
  })
  const into = join(cli.home, 'back')
  expect(await printed(['rescued', 'restore', name, into])).toMatchObject({
    ...{ name, ticket: null },
    repositories: [{ folder: join(into, 'work'), branches: [], links: 0 }],
  })
})

test('doctor', async () => {
  const environment = { PATH: '/nowhere' }
  expect(await printed(['doctor'], { environment })).toMatchObject({ checks: expect.any(Array) })
  expect(await printed(['doctor', '--rebuild-registry'], { environment })).toMatchObject({ result: 'planned' })
})

test('service', async () => {
  program('systemctl', `echo 'ActiveState=inactive'`)
  const environment = { PATH: `${bin}:${process.env.PATH}` }
  expect(await printed(['service', 'install', '--dry-run'])).toMatchObject({ result: 'planned', service: 'up' })
  expect(await printed(['service', 'uninstall', 'bot'])).toMatchObject({ result: 'skipped', service: 'bot' })
  expect(await printed(['service', 'status'], { environment })).toMatchObject({ installed: false, running: false })
})

test('support-bundle', async () => {
  const file = join(cli.home, 'bundle.tar.gz')
  expect(await printed(['support-bundle', file])).toMatchObject({ file, leftOut: expect.any(Array) })
})

test.for([
  [['agent', 'start', 'DROP-9'], 1, 'agent start'],
  [['agent', 'stop', 'DROP-9'], 1, 'agent stop'],
  [['tell', 'DROP-9', 'hello'], 1, 'tell'],
  [['start', 'DROP-9'], 1, 'start'],
  [['checkpoints', 'DROP-99'], 1, 'error'],
  [['status', 'DROP-99'], 1, 'error'],
  [['create', 'no ticket'], 2, 'error'],
  [['init'], 1, 'init'],
  [['init', '--github', 'new-app'], 2, 'error'],
  [['init-base'], 1, 'error'],
  [['bot'], 1, 'error'],
] as const)('a failure: %j', async ([words, code, as]) => {
  await printed(words, { code, as })
})

describe('a machine that is reached over SSH', () => {
  test('is listed, is a host of ssh, and its ports are forwarded', async () => {
    cli.know(registry => knownMachine(registry, 'DROP-8', '192.0.2.8'))
    expect(await printed(['list'], { environment: kvm })).toMatchObject([{ ssh: { host: '192.0.2.8' } }])
    const usage = { memoryBytes: 1024 ** 3 }
    expect(await printed(['status'], { environment: kvm })).toMatchObject({ environments: [{ usage }] })
    expect(await printed(['ssh', '--config'], { environment: kvm })).toMatchObject([{ names: ['DROP-8', 'drop-8'] }])
    for (const words of [
      ['status', 'DROP-8'],
      ['checkpoints', 'DROP-8'],
      ['ssh', '--config', '--install', '--dry-run'],
      ['ssh', '--config', '--uninstall'],
    ])
      await printed(words, { environment: kvm })
    expect(await printed(['init-base', '--from', 'debian-packages', '--dry-run'], { environment: kvm })).toMatchObject({
      would: ['build', 'seal', 'prove'],
    })
    const forward = cli.begin(['forward', 'DROP-8', '18080:80', '--json'], kvm)
    await forward.says('forwards')
    forward.interrupt()
    const { code, stdout } = await forward.ended
    expect(code).toBe(0)
    judge('forward', JSON.parse(stdout))
  })

  test('gets its lost address back from a start', async () => {
    program('ssh', 'exit 0')
    cli.know(registry => registry.setAddress('DROP-8', null))
    const environment = { status: 'running', ip: '192.0.2.8', ssh: { host: '192.0.2.8' } }
    expect(await printed(['start', 'DROP-8'], { environment: kvm })).toMatchObject({ result: 'done', environment })
    expect(await printed(['start', 'DROP-8'], { environment: kvm })).toMatchObject({ result: 'skipped', environment })
  })
})

/** Leaves what a bot would: one decided and one waiting delivery, one allowed and one refused command. */
const leaveDeliveries = async () => {
  const store = openStore(join(cli.home, 'state/bot.db'), Date.now)
  await store.inbox.accept([
    { source: 'github', id: 'decided', event: 'push', lane: 'a', body: '{}', receivedAt: Date.now() },
    { source: 'github', id: 'postponed-1234', event: 'push', lane: 'b', body: '{}', receivedAt: Date.now() },
  ])
  const [decided, postponed] = await store.inbox.due(10)
  const by = { via: 'github', who: 'ada' } as const
  const action = { kind: 'stop', ticket: 'DROP-1', by, replyTo: null } as const
  const request = {
    at: Date.now(),
    by,
    person: true,
    place: 'acme/shop#7',
    what: '/swarm delete',
  } as const
  const command = (line: number) => ({ comment: { repo: 'acme/shop', number: 7, commentId: 1 }, line })
  await store.inbox.settle([
    {
      ...{ seq: decided?.seq ?? 0, verdict: 'actions', reason: null, messages: [], effects: [] },
      actions: [{ id: 'a', correlation: 'a', action }],
      requests: [
        {
          ...request,
          id: 'a',
          command: command(0),
          ticket: 'DROP-1',
          verdict: 'allowed',
          reason: 'write access',
          action,
          answer: null,
          ok: null,
        },
        {
          ...request,
          id: 'b',
          command: command(1),
          ticket: null,
          verdict: 'refused',
          reason: 'no access',
          action: null,
          answer: null,
          ok: false,
        },
      ],
    },
  ])
  await store.inbox.postpone(postponed?.seq ?? 0, Date.now() + 60_000, 'GitHub cannot be reached')
  await store.close()
}

test('deliveries and commands in comments', async () => {
  expect(await printed(['bot', 'inbox'])).toEqual([])
  expect(await printed(['bot', 'audit'])).toEqual([])
  await leaveDeliveries()
  const deliveries = (await printed(['bot', 'inbox'])) as { id: string }[]
  expect(deliveries.map(({ id }) => id).sort()).toEqual(['decided', 'postponed-1234'])
  expect((await cli.swarm(['bot', 'inbox', 'refused'])).stderr).toBe('No deliveries match.\n')
  expect(await printed(['bot', 'audit'])).toHaveLength(2)
  expect(await printed(['bot', 'audit', '--ticket', 'drop-1'])).toHaveLength(1)
  // A beginning of the id is enough.
  expect(await printed(['bot', 'replay', 'postponed'])).toMatchObject({ replayed: 'again' })
  await printed(['bot', 'replay', 'unknown'], { code: 1, as: 'error' })
})

test('what a restored backup had queued', async () => {
  expect(await printed(['bot', 'held'])).toEqual([])
  const path = join(cli.home, 'state/bot.db')
  const store = openStore(path, Date.now)
  const by = { via: 'github', who: 'ada' } as const
  const stop = { kind: 'stop', ticket: 'DROP-1', by, replyTo: null } as const
  await store.queue.enqueue({ id: 'a', correlation: 'a', action: stop })
  await store.outbox.put([replyMessage({ repo: 'acme/shop', number: 7, commentId: 1 })])
  const { file } = writeBackup(path, Date.now())
  await store.close()
  copyFileSync(file, path)
  expect(await printed(['bot', 'held'])).toMatchObject([
    { id: 'held:1', kind: 'action', about: 'DROP-1', what: 'stop' },
    { id: 'held:2', kind: 'message', about: 'acme/shop#7', what: 'reply' },
  ])
  expect(await printed(['bot', 'replay', 'held:1'])).toEqual({ replayed: 'again', delivery: null })
  await printed(['bot', 'replay', 'held:1'], { code: 1, as: 'error' })
})

test('a bot that only shows what it would do', () => {
  const action = { kind: 'stop', ticket: 'DROP-1', by: { via: 'github', who: 'ada' }, replyTo: null } as const
  const shown = [
    {
      ...{ what: 'delivery', source: 'github', event: 'push', id: 'a', verdict: 'actions', reason: null },
      actions: [{ id: 'a:0', correlation: 'a', action }],
    },
    { what: 'request', to: 'Jira', method: 'POST', path: '/rest/api/3/issue/DROP-1/comment', body: { a: 1 } },
  ] as const
  let output = ''
  const stdout = { write: (text: string) => (output += text) }
  const show = dryRunShow({ flags: { 'dry-run': true }, json: true, terminal: { ...process, stdout } })
  for (const value of shown) show?.(value as never)
  for (const name of ['bot', 'up'] as const) for (const line of output.trim().split('\n')) judge(name, JSON.parse(line))
})

test('bot runner', async () => {
  await printed(['bot', 'runner', 'add', 'studio'])
  expect(await printed(['bot', 'runner', 'list'])).toMatchObject([{ name: 'studio', token: 'own', host: null }])
  expect(await printed(['bot', 'runner', 'forget', 'studio', '--dry-run'])).toMatchObject({ result: 'planned' })
  await printed(['bot', 'runner', 'revoke', 'studio'])
  await printed(['bot', 'runner', 'revoke', 'studio'], { code: 1, as: 'error' })
})

test('every schema has judged something', () => expect([...judged].sort()).toEqual([...names].sort()))
