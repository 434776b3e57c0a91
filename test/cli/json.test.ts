/** What commands print with `--json`, as whole processes, held against the schemas that are in the documentation. */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { commands } from '../../src/cli/command-table.ts'
import { outputs } from '../../src/cli/json.ts'
import { openMemory } from '../../src/store/sqlite/memory.ts'
import { openQueue } from '../../src/store/sqlite/queue.ts'
import { openCli, type Ran } from '../support/cli.ts'
import { knownMachine } from '../support/context.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'

const root = resolve(import.meta.dirname, '../..')
const ajv = new Ajv2020({ allowUnionTypes: true })
const valid = new Map(
  Object.keys(outputs).map((name): [string, ValidateFunction] => {
    const file = join(root, 'docs/json', `${name.replace(' ', '-')}.schema.json`)
    return [name, ajv.compile(JSON.parse(readFileSync(file, 'utf8')))]
  }),
)

const cli = openCli()
const path = { PATH: `${join(cli.home, 'bin')}:${process.env.PATH}` }
let jira: JiraStandIn
const program = (name: string, text: string) => {
  mkdirSync(join(cli.home, 'bin'), { recursive: true })
  writeFileSync(join(cli.home, 'bin', name), `#!/bin/sh\n${text}\n`)
  chmodSync(join(cli.home, 'bin', name), 0o755)
}
beforeAll(async () => {
  jira = await startJira({ issues: { 'DROP-1': 'one' } })
  // A libvirt with one machine, whatever it is asked; and an ssh that has opened its ports.
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
afterAll(async () => {
  await jira.stop()
  cli.close()
})

const seen = new Set<string>()
/** A value as that command prints it, or the `error` of any. */
const judge = (name: string, value: unknown) => {
  const schema = valid.get(name)
  expect(schema?.(value), `${name} prints ${JSON.stringify(value, null, 2)}\n${ajv.errorsText(schema?.errors)}`).toBe(
    true,
  )
  seen.add(name)
  return value
}
const nameOf = (words: readonly string[]) => words.slice(0, words[0] === 'bot' ? 2 : 1).join(' ')
/** Runs it with `--json` and returns what it printed, which is one JSON value of its form. */
const printed = async (words: string[], { code = 0, as = nameOf(words), environment = {} } = {}) => {
  const ran = await cli.swarm([...words, '--json'], { environment })
  expect(ran, words.join(' ')).toMatchObject({ code })
  return judge(as, JSON.parse(ran.stdout))
}
const ended = async (begun: { ended: Promise<Ran>; kill: (signal: NodeJS.Signals) => boolean }) => {
  begun.kill('SIGINT')
  const ran = await begun.ended
  expect(ran).toMatchObject({ code: 0 })
  return ran.stdout
}

test('a command has a schema when it prints JSON, and then alone', () => {
  const printing = Object.entries(commands).flatMap(([name, { options }]) => ('json' in options ? [name] : []))
  expect([...printing, 'error'].sort()).toEqual(Object.keys(outputs).sort())
})

test('of machines: made, changed, looked at and deleted; planned, in the background, failed and mistyped', async () => {
  expect(await printed(['list'])).toEqual([])
  expect(await printed(['create', 'DROP-1', '--dry-run'])).toMatchObject({ result: 'planned' })
  expect(await printed(['create', 'DROP-1'])).toMatchObject({ result: 'done' })
  expect(await printed(['create', 'DROP-1'])).toMatchObject({ result: 'skipped' })
  expect(await printed(['checkpoint', 'DROP-1', 'one'])).toMatchObject({ result: 'done' })
  expect(await printed(['checkpoint', 'DROP-1', 'one'], { code: 1 })).toMatchObject({ result: 'failed' })
  expect(await printed(['restore', 'DROP-1'])).toMatchObject({ result: 'done' })
  // Work that is saved nowhere else.
  const work = 'git init -q work && cd work && echo new > file && git config user.email a@example.org'
  expect(await cli.swarm(['ssh', 'DROP-1', '--', work])).toMatchObject({ code: 0 })
  expect(await printed(['stop', 'DROP-1'])).toMatchObject({ environment: { workAtRisk: { known: true } } })
  expect(await printed(['start', 'DROP-1', '--dry-run'])).toMatchObject({ result: 'planned' })
  expect(await printed(['start', 'DROP-1'])).toMatchObject({ result: 'done' })
  expect(await printed(['start', 'DROP-1', '--detach'])).toMatchObject({ result: 'skipped' })
  expect(await printed(['stop', 'DROP-1', '--detach'])).toMatchObject({ result: 'detached' })
  await until('its end', async () => (await cli.json(['list', '--json']))[0].status === 'stopped')
  const looks = [['list'], ['status'], ['status', 'DROP-1'], ['checkpoints', 'DROP-1'], ['providers']]
  await Promise.all(looks.map(words => printed(words)))
  const wrong = [
    [['start', 'DROP-9'], 1, 'start'],
    [['checkpoints', 'DROP-99'], 1, 'error'],
    [['status', 'DROP-99'], 1, 'error'],
    [['create', 'no ticket'], 2, 'error'],
    [['init'], 1, 'init'],
    [['init', '--github', 'new-app'], 2, 'error'],
    [['init-base'], 2, 'error'],
    [['bot'], 1, 'error'],
  ] as const
  await Promise.all(wrong.map(([words, code, as]) => printed([...words], { code, as })))
  expect(await printed(['delete', 'DROP-1'])).toMatchObject({ result: 'done', kept: expect.any(String) })
  const rescued = [{ ticket: 'DROP-1', bytes: expect.any(Number), repositories: [expect.stringMatching(/work$/)] }]
  expect(await printed(['status', 'DROP-1'])).toMatchObject({ environment: null, rescued })
  expect(await printed(['status'])).toMatchObject({ environments: [], rescued })
}, 120_000)

test('of a machine that is reached over SSH', async () => {
  cli.know(registry => knownMachine(registry, 'DROP-8', '192.0.2.8'))
  const kvm = { environment: { ...path, AGENT_SWARM_PROVIDER: 'kvm' } }
  const forward = cli.begin(['forward', 'DROP-8', '18080:80', '--json'], path)
  const looks = [['list'], ['status'], ['status', 'DROP-8'], ['checkpoints', 'DROP-8'], ['ssh', '--config']]
  const found = await Promise.all(looks.map(words => printed(words, kvm)))
  expect(found[1]).toMatchObject({ environments: [{ usage: { memoryBytes: 1024 ** 3 } }] })
  expect(found[4]).toMatchObject([{ names: ['DROP-8', 'drop-8'] }])
  await printed(['ssh', '--config', '--install', '--dry-run'], kvm)
  await printed(['ssh', '--config', '--uninstall'], kvm)
  expect(await printed(['init-base', '--from', 'debian-packages', '--dry-run'], kvm)).toMatchObject({
    would: ['build', 'seal', 'prove'],
  })
  await until('its ports', () => forward.heard.stdout.includes('forwards'))
  judge('forward', JSON.parse(await ended(forward)))
})

test('of a machine that runs and whose address was lost: a start finds it', async () => {
  program('ssh', 'exit 0')
  cli.know(registry => registry.setAddress('DROP-8', null))
  const kvm = { environment: { ...path, AGENT_SWARM_PROVIDER: 'kvm' } }
  const environment = { status: 'running', ip: '192.0.2.8', ssh: { host: '192.0.2.8' } }
  expect(await printed(['start', 'DROP-8'], kvm)).toMatchObject({ result: 'done', environment })
  expect(await printed(['start', 'DROP-8'], kvm)).toMatchObject({ result: 'skipped', environment })
})

test('of what was delivered, and of a bot that only says what it would do', async () => {
  const environment = {
    ...jira.settings,
    JIRA_PROJECTS: 'DROP',
    AGENT_SWARM_RUNNER_TOKEN: 'x',
    PORT: '0',
  }
  for (const name of ['up', 'bot']) {
    const bot = cli.begin([name, '--dry-run', '--json'], environment)
    jira.sendTo(await until(`${name} to be up`, () => bot.heard.stderr.match(/listens on (http:[^\s,]+)/)?.[1]))
    await jira.move('DROP-1', name === 'up' ? 'In Progress' : 'To Do')
    await until('the verdict', () => bot.heard.stdout.includes('\n'))
    const lines = (await ended(bot)).trim().split('\n')
    for (const line of lines) judge(name, JSON.parse(line))
  }
  const queue = openQueue(join(cli.home, 'state/bot.db'), Date.now)
  queue.accept([
    { source: 'github', id: 'decided', event: 'push', lane: 'a', body: '{}', receivedAt: Date.now() },
    { source: 'github', id: 'put-off', event: 'push', lane: 'b', body: '{}', receivedAt: Date.now() },
  ])
  const [decided, putOff] = queue.due(10).filter(one => one.source === 'github')
  const action = { kind: 'stop', ticket: 'DROP-1', by: { via: 'github', who: 'ada' }, replyTo: null } as const
  queue.settle([
    {
      seq: decided?.seq ?? 0,
      verdict: { verdict: 'actions', reason: null },
      actions: [{ id: 'a', correlation: 'a', action }],
      messages: [],
    },
  ])
  queue.postpone(putOff?.seq ?? 0, Date.now() + 60_000, 'GitHub cannot be reached')
  queue.close()
  const delivered = (await printed(['bot', 'inbox'])) as { id: string }[]
  expect(delivered.map(one => one.id)).toEqual(expect.arrayContaining(['decided', 'put-off']))
  const memory = openMemory(join(cli.home, 'state/memory.db'), Date.now)
  const line = { at: Date.now(), who: 'mallory', place: 'acme/shop#7', what: '/swarm delete', reason: 'no access' }
  memory.noteAudit('one', { ...line, ticket: 'DROP-1', verdict: 'allowed' })
  memory.noteAudit('two', { ...line, ticket: null, verdict: 'refused' })
  memory.close()
  expect(await printed(['bot', 'audit'])).toHaveLength(2)
  expect(await printed(['bot', 'audit', '--ticket', 'drop-1'])).toHaveLength(1)
  await printed(['bot', 'replay', 'put-off'])
  await printed(['bot', 'replay', 'unknown'], { code: 1, as: 'error' })
})

test('all of it was printed here', () => expect([...seen].sort()).toEqual(Object.keys(outputs).sort()))
