/** A home that the version before left is opened by this one, which goes on with it: CLI, bot and runner, twice. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startBot } from '../../src/bot/index.ts'
import { readConfig } from '../../src/config/config.ts'
import { openLog } from '../../src/log.ts'
import { openRunnerContext } from '../../src/runner/context.ts'
import { startRunner } from '../../src/runner/runner.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { openCli } from '../support/cli.ts'
import { type GitHubStandIn, startGitHub } from '../support/github.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'

/** When the version before was stopped, epoch ms. The bot goes on a minute later: what it keeps for days is still there. */
const STOPPED_AT = 1_795_880_930_225
const begun = Date.now()
const clock = () => STOPPED_AT + 60_000 + Date.now() - begun
const WAIT = { within: 60_000 }
const TOKEN = 'token-between-runner-and-bot'

const machines = {
  'as-drop-1-c5e274b8': {
    mark: 'DROP-1.running',
    checkpoints: ['push-1298fc8', 'push-4a55b3c', 'before', 'pre-restore-20261128-154838'],
  },
  'as-drop-2-b665a313': { mark: 'DROP-2.stopped', checkpoints: [] },
  'as-drop-4-42582dea': { mark: 'DROP-4.running', checkpoints: ['by-hand'] },
}

const cli = openCli()
const home = join(cli.home, 'state')
let github: GitHubStandIn
let jira: JiraStandIn

/** Folders and marks as the version before made them: a mark without a home, a checkpoint without its name. */
const writeMachines = () => {
  mkdirSync(join(home, 'synthetic-state'), { recursive: true, mode: 0o700 })
  for (const [vmId, { mark, checkpoints }] of Object.entries(machines)) {
    const folder = join(home, 'synthetic', vmId)
    mkdirSync(join(folder, 'disk'), { recursive: true })
    mkdirSync(join(folder, 'checkpoints'))
    writeFileSync(join(folder, 'disk', 'state'), 'now')
    writeFileSync(join(home, 'synthetic-state', `${vmId}.${mark}`), '')
    for (const [index, name] of checkpoints.entries()) {
      const checkpoint = join(folder, 'checkpoints', name)
      mkdirSync(join(checkpoint, 'disk'), { recursive: true })
      writeFileSync(join(checkpoint, 'disk', 'state'), name)
      writeFileSync(
        join(checkpoint, 'taken.json'),
        JSON.stringify({ createdAt: '2026-11-28T15:48:33.000Z', order: index + 1, status: 'running' }),
      )
    }
  }
}

/**
 * What the fixture lacks: a delivery of GitHub that waits, and in Jira a reply that waits, to a comment whose command had an
 * answer before.
 */
const MORE_SQL = `
  update delivery set verdict = null, reason = null, settled_at = null where reason = 'mallory has no write access';
  insert into outbox (key, body, created_at) values
    ('reply:DROP-4:20006', '{"kind":"jira-reply","ticket":"DROP-4","commentId":"20006"}', ${STOPPED_AT});`

const writeDatabases = () => {
  for (const name of ['bot', 'memory', 'registry']) {
    const sql = readFileSync(join(import.meta.dirname, `../fixtures/home-before/${name}.sql`), 'utf8')
    const db = new DatabaseSync(join(home, `${name}.db`))
    db.exec(sql.replaceAll('@HOME@', home))
    if (name === 'bot') db.exec(MORE_SQL)
    db.close()
  }
}

/** Jira and GitHub as they were when the version before was stopped, with the same ids. */
const startSides = async () => {
  let at = STOPPED_AT - 60_000
  jira = await startJira({
    issues: Object.fromEntries([1, 2, 3, 4, 5].map(n => [`DROP-${n}`, `ticket ${n}`])),
    clock: () => at,
  })
  for (const [time, ticket, status] of [
    [1_795_880_911_830, 'DROP-1', 'In Progress'],
    [1_795_880_911_843, 'DROP-2', 'In Progress'],
    [1_795_880_911_878, 'DROP-3', 'In Progress'],
    [1_795_880_912_043, 'DROP-4', 'In Progress'],
    [1_795_880_920_540, 'DROP-2', 'To Do'],
    [1_795_880_929_533, 'DROP-5', 'In Progress'],
  ] as const) {
    at = time
    await jira.move(ticket, status)
  }
  for (const n of [1, 2, 3, 4]) await jira.write(`DROP-${n}`, 'ready')
  await jira.write('DROP-3', 'rescued')
  await jira.write('DROP-4', '/swarm status')
  await jira.write('DROP-4', 'a reply')
  github = await startGitHub({ people: { dev: 'push', mallory: 'pull' } })
  await github.push('DROP-1-login')
  await github.open('DROP-1-login', 'Log in')
  const bodies: [login: string, body: string][] = [
    ['dev', '/swarm checkpoint before\n/swarm fly\n/swarm status'],
    ['acme', '<!-- agent-swarm status DROP-1 -->'],
    ['acme', '<!-- agent-swarm reply -->'],
    ['mallory', '/swarm delete'],
    ['dev', '/swarm restore before'],
    ['acme', '<!-- agent-swarm reply -->'],
    ['acme', '<!-- agent-swarm status DROP-3 -->'],
    ['dev', '/swarm checkpoint later\n/swarm stop'],
  ]
  for (const [login, body] of bodies) await github.api(login, 'POST', '/repos/acme/shop/issues/1/comments', { body })
}

const start = async () => {
  const environment = cli.environment({
    ...github.settings,
    ...jira.settings,
    JIRA_PROJECTS: 'DROP',
    AGENT_SWARM_RUNNER_TOKEN: TOKEN,
    PORT: '0',
  })
  const config = await readConfig({}, environment)
  const log = openLog('silent')
  const bot = await startBot(config, log, { clock })
  await bot.catchUp()
  const context = openRunnerContext(config)
  const runner = await startRunner(context, { botUrl: bot.url, token: TOKEN, version: '0.1.0', log })
  const store = openStore(join(home, 'bot.db'), clock)
  return {
    store,
    close: async () => {
      await store.close()
      await runner.close()
      await bot.close()
      context.close()
    },
  }
}

beforeAll(async () => {
  mkdirSync(home, { recursive: true, mode: 0o700 })
  writeMachines()
  writeDatabases()
  await startSides()
})
afterAll(async () => {
  await Promise.all([github.stop(), jira.stop()])
  cli.close()
})

const marks = () => readdirSync(join(home, 'synthetic-state')).sort()
const stateIn = (vmId: string) => readFileSync(join(home, 'synthetic', vmId, 'disk', 'state'), 'utf8')
const operations = async (ticket: string): Promise<{ kind: string; result: string | null }[]> =>
  (await cli.json(['status', ticket])).operations

test('the CLI lists the machines with their checkpoints, and marks them as machines of this home', async () => {
  expect(await cli.json(['list'])).toMatchObject([
    {
      ticket: 'DROP-1',
      vmId: 'as-drop-1-c5e274b8',
      status: 'running',
      checkpoints: machines['as-drop-1-c5e274b8'].checkpoints,
    },
    { ticket: 'DROP-2', vmId: 'as-drop-2-b665a313', status: 'stopped', checkpoints: [] },
    { ticket: 'DROP-4', vmId: 'as-drop-4-42582dea', status: 'running', checkpoints: ['by-hand'] },
  ])
  const id = readFileSync(join(home, 'id'), 'utf8').trim()
  expect(marks()).toEqual([
    `as-drop-1-c5e274b8.DROP-1.${id}.running`,
    `as-drop-2-b665a313.DROP-2.${id}.stopped`,
    `as-drop-4-42582dea.DROP-4.${id}.running`,
  ])
  const checkpoints = await cli.json(['checkpoints', 'DROP-1'])
  expect(checkpoints.map(({ name, why }: { name: string; why: string }) => `${name}: ${why}`)).toEqual([
    'push-1298fc8: push',
    'push-4a55b3c: push',
    'before: command',
    'pre-restore-20261128-154838: before restore',
  ])
})

test('status shows the old operations in the present words, and the interrupted one', async () => {
  const { stdout } = await cli.swarm(['status', 'DROP-2'])
  expect(stdout).toContain('start by tester (cli) was interrupted')
  expect(stdout).toMatch(/ stop .* done: looking for unsaved work \d/)
  expect((await operations('DROP-1')).map(({ kind, result }) => `${kind} ${result}`)).toEqual([
    'restore done',
    'status done',
    'checkpoint done',
    'checkpoint done',
    'checkpoint done',
    'create done',
  ])
})

test('an old checkpoint is restored, and the interrupted operation is recovered', async () => {
  expect(await cli.swarm(['restore', 'DROP-4', 'by-hand'])).toMatchObject({ code: 0 })
  expect(stateIn('as-drop-4-42582dea')).toBe('by-hand')
  expect((await cli.json(['list']))[2].checkpoints).toEqual(['by-hand', expect.stringMatching(/^pre-restore-/)])
  expect((await operations('DROP-2'))[0]).toMatchObject({ kind: 'start', result: 'interrupted' })
})

/** Our comments: what was there before has the ids of the home. */
const published = async () => ({
  github: new Map((await github.comments(1)).map(({ id, body }) => [id, body])),
  jira: [1, 2, 3, 4, 5].map(n => jira.comments(`DROP-${n}`)),
})

test('bot and runner do what waited, and publish it', async () => {
  const { store, close } = await start()
  await until(
    'the end of what waited',
    async () => {
      const { inbox, pending, active, outbox } = await store.counts()
      return inbox + pending + active + outbox === 0
    },
    WAIT,
  )
  await until('the last status', async () => (await published()).github.get(2)?.includes('DROP-1: stopped'), WAIT)

  // The deliveries that waited are decided, and the actions that waited are done.
  expect((await store.inbox.list([], 1))[0]).toMatchObject({ id: 'waiting-1', verdict: 'ignored' })
  const actions = await store.queue.list({})
  expect(actions).toHaveLength(16)
  expect(actions.filter(({ state }) => state !== 'done')).toEqual([])
  expect(stateIn('as-drop-1-c5e274b8')).toBe('now')
  expect(
    (await cli.json(['list'])).map(({ ticket, status }: { ticket: string; status: string }) => `${ticket} ${status}`),
  ).toEqual(['DROP-1 stopped', 'DROP-2 stopped', 'DROP-4 running', 'DROP-5 running'])
  expect((await cli.json(['checkpoints', 'DROP-1'])).at(-1)).toMatchObject({ name: 'later' })

  // The messages that waited: a status, a reply and a reaction on GitHub; a reply, a note and a link in Jira.
  const { github: comments, jira: notes } = await published()
  expect(comments.get(2)).toMatch(/`later` \| command[\s\S]*`stop`, requested by `dev` on GitHub: done/)
  expect(comments.get(3)).toMatch(
    /checkpoint before of DROP-1 is made[\s\S]*DROP-1 is running as of 2026-11-28 15:48:32 UTC/,
  )
  expect(github.reactions(1)).toEqual(['eyes'])
  expect(notes[3]).toEqual([
    'ready',
    '/swarm status',
    expect.stringContaining('DROP-4 is running as of 2026-11-28 15:48:43 UTC'),
    'create of DROP-4 failed, and needs somebody to look at it: no room',
  ])
  expect(jira.links('DROP-1')).toMatchObject([{ object: { title: 'acme/shop#1' } }])
  // The outcomes of the actions: one reply to their comment, one note about the machine.
  expect([...comments.keys()]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9])
  expect(comments.get(9)).toMatch(/Made checkpoint later of DROP-1[\s\S]*DROP-1 is stopped/)
  expect(notes[4]).toEqual([expect.stringContaining('DROP-5 has a machine')])

  // What people requested before. The refusal was decided twice, and is recorded once.
  expect(await cli.json(['bot', 'inbox', 'refused'])).toMatchObject([
    { reason: 'mallory has no write access: only people with write access may give commands' },
  ])
  const audit: { verdict: string; who: string; what: string }[] = await cli.json(['bot', 'audit'])
  expect(audit.map(({ verdict, who, what }) => `${who} ${what}: ${verdict}`)).toEqual([
    'dev /swarm stop: allowed',
    'dev /swarm checkpoint later: allowed',
    '5b10a2844c20165700ede21g /swarm status: allowed',
    'dev /swarm restore before: allowed',
    'mallory /swarm delete: refused',
    'dev /swarm status: allowed',
    'dev /swarm checkpoint before: allowed',
  ])
  expect(readdirSync(home)).toContain('memory.db.imported')
  expect(readdirSync(home)).not.toContain('memory.db')
  await close()
})

test('a second start does nothing twice', async () => {
  const everything = async () => ({
    ...(await published()),
    list: (await cli.json(['list'])).map(({ vmId, status, checkpoints }: Record<string, unknown>) => ({
      vmId,
      status,
      checkpoints,
    })),
    operations: await Promise.all([1, 2, 4, 5].map(n => operations(`DROP-${n}`))),
    ...{ marks: marks(), id: readFileSync(join(home, 'id'), 'utf8') },
  })
  const before = await everything()
  const [requests, startedAt] = [github.requests.length, clock()]
  const { store, close } = await start()
  await until('the runner', async () => (await store.runners.list()).some(({ seenAt }) => seenAt > startedAt), WAIT)
  await until('an empty outbox', async () => (await store.counts()).outbox === 0, WAIT)
  expect(await store.counts()).toMatchObject({ inbox: 0, pending: 0, active: 0 })
  expect(await store.queue.list({})).toHaveLength(16)
  expect(await store.requests.audit(null, 99)).toHaveLength(7)
  await close()
  expect(await everything()).toEqual(before)
  expect(
    github.requests.slice(requests).filter(({ method, path }) => method === 'POST' && path.includes('/issues/')),
  ).toEqual([])
})
