/** A support bundle of a home that is full of secrets, by the real program: none of them is in it, in any form. */
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { tokenHash } from '../../src/bot/http/signature.ts'
import { type Setting, settings } from '../../src/config/settings.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { openCli } from '../support/cli.ts'

const cli = openCli()
const home = join(cli.home, 'state')
const file = join(cli.home, 'bundle.tar.gz')
const out = join(cli.home, 'out')

/** Every canary by what it is a part of. Letters and digits: no form of a text changes them but base64. */
const canaries = new Map<string, string>()
const canary = (what: string): string => {
  const text = `Canary${canaries.size}x${Buffer.from(what).toString('hex').slice(0, 20)}Q7w9`
  canaries.set(what, text)
  return text
}
const inHome = (name: string, text: string) => {
  mkdirSync(dirname(join(home, name)), { recursive: true, mode: 0o700 })
  writeFileSync(join(home, name), text, { mode: 0o600 })
}
const pem = (kind: string, body: string) =>
  `-----BEGIN ${kind}PRIVATE KEY-----\n${body.padEnd(64, 'A')}\n-----END ${kind}PRIVATE KEY-----\n`
const by = { via: 'github' as const, who: 'ada' }
const at = new Date().toISOString()

/** GitHub and Jira that send back what they were sent: an API, or a proxy, may quote a request in its error. */
let echo: Server
/** Half of the secret settings are in the file, and the others in the environment. */
const secretSettings = (url: string) => {
  const secrets = Object.entries<Setting>(settings).filter(([, { secret }]) => secret)
  const values = secrets.map(([name, { env }]) => {
    const text = canary(`setting ${name}`)
    return { name, env: env ?? '', value: name === 'privateKey' ? pem('RSA ', text) : text }
  })
  const isEven = (_: unknown, at: number) => at % 2 === 0
  const inFile = values.filter(isEven).map(({ name, value }) => [name, value])
  inHome(
    'config.yaml',
    stringify({
      ...Object.fromEntries(inFile),
      ...{
        appId: 1,
        githubRepositories: ['acme/shop'],
        githubApiUrl: url,
        jiraHost: url,
        jiraEmail: 'bot@example.org',
      },
      jiraProjects: ['DROP'],
      agent: { use: 'claude', prompt: canary('the prompt of an agent') },
      workspace: { 'acme/shop': { setup: `curl https://a:${canary('a command in a setting')}@example.org` } },
    }),
  )
  return Object.fromEntries(values.filter((_, n) => n % 2 === 1).map(({ env, value }) => [env, value]))
}

const fillStore = async (secret: string) => {
  const store = openStore(join(home, 'bot.db'), Date.now)
  await store.runnerTokens.add({ name: 'studio', as: null, hash: tokenHash(canary('token of a runner')) })
  const body = JSON.stringify({ comment: { body: `/swarm tell ${canary('a comment')}` } })
  const common = {
    source: 'github' as const,
    event: 'issue_comment',
    lane: 'acme/shop#1',
    body,
    receivedAt: Date.now(),
  }
  await store.inbox.accept(['one', 'two', 'three'].map(id => ({ ...common, id, lane: `acme/shop#${id}` })))
  const [first, second] = await store.inbox.due(2)
  if (first === undefined || second === undefined) throw new Error('nothing is due')
  const nothing = { actions: [], messages: [], requests: [], effects: [] }
  await store.inbox.settle([
    { seq: first.seq, verdict: 'ignored', reason: `"${canary('a quoted comment')}" is not a command`, ...nothing },
    { seq: second.seq, verdict: 'failed', reason: `asking with Authorization: token ${secret} failed`, ...nothing },
  ])
  const tell = { kind: 'tell' as const, ticket: 'DROP-1', text: canary('a message to an agent'), by, at, replyTo: null }
  await store.queue.enqueue({ id: 'a', correlation: 'one', action: tell })
  const note = { kind: 'text' as const, text: canary('one of our comments') }
  await store.outbox.put([{ key: 'jira:note', body: { kind: 'jira-note', ticket: 'DROP-1', about: 'x', note } }])
  await store.close()
}

const fillRegistry = (secret: string) =>
  cli.know(registry => {
    const id = registry.startOperation({
      ...{ actionId: null, correlation: null, ticket: 'DROP-1', kind: 'checkpoint', at },
      by: { via: 'cli', who: canary('a person') },
    })
    const token = `ghp_${canary('a token that nobody knows')}`
    const message = `git push https://x-access-token:${token}@github.com failed; ${encodeURIComponent(secret)}`
    registry.endOperation(id, at, 'failed', {
      result: 'failed',
      failure: { kind: 'unknown', message, remedy: null },
      environment: null,
    })
  })

const fillLogs = (secret: string, keyBody: string) =>
  inHome(
    'logs/DROP-1.log',
    [
      'created the disk',
      `Authorization: Bearer ${canary('a bearer')}`,
      `DATABASE_URL=postgres://app:${canary('a password in a URL')}@db.example.org/app`,
      `token ${secret} and ${encodeURIComponent(secret)} and ${Buffer.from(`user:${secret}`).toString('base64')}`,
      `export GH=github_pat_${canary('a token of a guest')} OPENAI=sk-${canary('a key of a guest')}`,
      `https://example.org/cb?access_token=${canary('a parameter')}&next=1`,
      pem('OPENSSH ', canary('a key that a guest printed')),
      keyBody,
      'ready',
    ].join('\n'),
  )

let printed: { stdout: string; stderr: string; code: number }
let text: string
beforeAll(async () => {
  echo = createServer((request, response) => {
    response.writeHead(500, { 'content-type': 'application/json' })
    response.end(
      JSON.stringify({
        message: `bad: ${request.headers.authorization}`,
        errorMessages: [request.headers.authorization],
      }),
    )
  })
  await new Promise<void>(resolve => echo.listen(0, '127.0.0.1', resolve))
  await cli.processes.swarm(['create', 'DROP-1'])
  const environment = {
    ...secretSettings(`http://127.0.0.1:${(echo.address() as AddressInfo).port}`),
    AWS_SECRET_ACCESS_KEY: canary('the key of a cloud'),
    NPM_TOKEN: canary('the token of npm'),
    SOMETHING: canary('any other variable'),
    PATH: process.env.PATH ?? '',
  }
  const secret = canaries.get('setting jiraApiToken') ?? ''
  const keyBody = canary('a private key').padEnd(64, 'A')
  inHome('ssh/id_ed25519', pem('OPENSSH ', keyBody))
  inHome('ssh/host/as-drop-1', pem('OPENSSH ', canary('a host key')))
  inHome('github-app-1.pem', pem('RSA ', canary('the key of an App')))
  inHome('model-keys/anthropic', canary('the key of a model'))
  inHome('operator.json', JSON.stringify({ url: 'http://127.0.0.1:1', token: canary('the token of the operator') }))
  inHome('files/acme/shop/.env', `STRIPE=${canary('a file for machines')}\n`)
  await cli.inside(
    'DROP-1',
    `mkdir -p var/lib/agent-swarm; echo ${canary('a log in a machine')} >var/lib/agent-swarm/setup.log`,
  )
  await fillStore(secret)
  fillRegistry(secret)
  fillLogs(secret, keyBody)
  // What this host knows stands in a log too.
  const known = ['the key of a model', 'the token of the operator', 'a file for machines', 'the key of a cloud']
  inHome('logs/DROP-2.log', known.map(what => `it printed ${canaries.get(what)}`).join('\n'))
  // It begins in the middle of a key.
  inHome(
    'logs/DROP-3.log',
    `-----BEGIN PRIVATE KEY-----\n${'A'.repeat(1000)}\n${canary('the end of a long key')}\n-----END PRIVATE KEY-----\n${'a line of it\n'.repeat(20_150)}`,
  )
  inHome('service/up.log', `the bot listens\n${canaries.get('the key of a model')}\n`)
  inHome('service/up.log.1', 'what was before\n')
  inHome('service/agent-swarm-up.xml', canary('what is no log'))
  const journal = join(cli.home, 'tools')
  mkdirSync(journal)
  writeFileSync(join(journal, 'journalctl'), '#!/bin/sh\nprintf "%s\\n" "$@"\n', { mode: 0o755 })
  environment.PATH = `${journal}:${environment.PATH}`
  printed = await cli.processes.swarm(['support-bundle', file], { environment })
  mkdirSync(out)
  execFileSync('tar', ['-xzf', file, '-C', out])
  text = filesIn(out)
    .map(path => `${path}\n${readFileSync(path, 'utf8')}`)
    .join('\n')
}, 60_000)
afterAll(() => {
  echo.close()
  cli.close()
})

const filesIn = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name))

/** The characters of its base64 that depend on it alone, at each offset in a longer text. */
const inBase64 = (secret: string): string[] =>
  [0, 1, 2].flatMap(shift => {
    const bytes = Buffer.concat([Buffer.alloc(shift), Buffer.from(secret)])
    const range = [Math.ceil((shift * 8) / 6), Math.floor((bytes.length * 8) / 6)] as const
    return [bytes.toString('base64').slice(...range), bytes.toString('base64url').slice(...range)]
  })

test('it has the logs of services: from the journal, and from files', () => {
  for (const unit of ['agent-swarm', 'agent-swarm-up', 'agent-swarm-bot', 'agent-swarm-runner'])
    for (const word of ['unit', 'user-unit']) expect(text).toContain(`\n--${word}=${unit}.service\n`)
  for (const line of ['service/up.log\nthe bot listens\n', 'service/up.log.1\nwhat was before\n'])
    expect(text).toContain(line)
})

test('none of the canaries is in it, nor on the terminal', () => {
  expect(printed).toMatchObject({ code: 0, stdout: `${file}\n` })
  expect(canaries.size).toBeGreaterThan(25)
  const all = `${text}\n${printed.stdout}\n${printed.stderr}`
  const found = [...canaries].filter(([, secret]) =>
    [secret, encodeURIComponent(secret), Buffer.from(secret).toString('hex'), ...inBase64(secret)].some(form =>
      all.includes(form),
    ),
  )
  expect(found.map(([what]) => what)).toEqual([])
})

test('the canaries are where a bundle would find them', () => {
  const raw = filesIn(home)
    .map(path => readFileSync(path, 'latin1'))
    .join('\n')
  const kept = [...canaries].filter(([what]) => !/^setting|cloud|npm|any other|token of a runner/.test(what))
  expect(kept.filter(([, secret]) => !raw.includes(secret)).map(([what]) => what)).toEqual([])
})

test('it has what helps: checks, settings by an allow list, machines, the journal, the queue, logs', () => {
  const read = (name: string) => {
    const path = filesIn(out).find(each => each.endsWith(`/${name}`))
    return readFileSync(path ?? name, 'utf8')
  }
  const json = (name: string) => JSON.parse(read(name))
  expect(json('versions.json')).toMatchObject({ agentSwarm: expect.stringMatching(/^\d/), node: process.version })
  expect(json('doctor.json').checks.map(({ subject }: { subject: string }) => subject)).toEqual(
    expect.arrayContaining(['Home', 'synthetic', 'Bot', 'Jira', 'Queue']),
  )
  const { values, setAndNotShown } = json('settings.json')
  expect(values).toMatchObject({ githubRepositories: ['acme/shop'], provider: 'synthetic' })
  expect(setAndNotShown).toEqual(expect.arrayContaining(['jiraHost', 'jiraEmail', 'agent', 'workspace', 'privateKey']))
  for (const [name, { secret }] of Object.entries<Setting>(settings))
    if (secret) expect(values).not.toHaveProperty(name)
  expect(json('machines.json').machines).toMatchObject([{ ticket: 'DROP-1', status: 'running' }])
  expect(json('journal.json')).toMatchObject([{ kind: 'create' }, { kind: 'checkpoint', result: 'failed' }])
  expect(json('bot.json')).toMatchObject({
    ...{ pendingActions: 1, waitingDeliveries: 1, waitingMessages: 1 },
    actions: [{ kind: 'tell', ticket: 'DROP-1' }],
    messages: [{ kind: 'jira-note' }],
  })
  expect(read('logs/DROP-3.log')).toMatch(/^\[redacted\]\na line of it\n/)
  expect(read('logs/DROP-1.log')).toMatch(/^created the disk\n[\s\S]*\nready$/)
})

test('it is for its owner alone, and nothing of it stays in the home', () => {
  expect(statSync(file).mode & 0o777).toBe(0o600)
  for (const path of filesIn(out)) expect(statSync(path).mode & 0o077).toBe(0)
  expect(readdirSync(home).filter(name => name.startsWith('support-'))).toEqual([])
})

test('the terminal says what is in it, what is not, and to look before sending', () => {
  for (const part of [
    'doctor.json',
    'It does not hold:',
    'environment variables',
    'Look through it before you send it',
    `tar -xzOf ${file} | less`,
  ])
    expect(printed.stderr).toContain(part)
})

test('an existing file is not replaced', async () => {
  const { code, stderr } = await cli.swarm(['support-bundle', file])
  expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining(`writing ${file}: it exists`) })
})

test('a folder that does not exist is not made', async () => {
  const folder = join(cli.home, 'mistyped')
  expect(await cli.swarm(['support-bundle', join(folder, 'x.tar.gz')])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`there is no folder ${folder}`),
  })
  expect(existsSync(folder)).toBe(false)
})

test('without a program that packs, the failure says so and leaves nothing', async () => {
  const bin = join(cli.home, 'bin')
  mkdirSync(bin)
  writeFileSync(join(bin, 'tar'), '#!/bin/sh\necho "tar: broken" >&2; exit 2\n')
  chmodSync(join(bin, 'tar'), 0o755)
  const other = join(cli.home, 'other.tar.gz')
  const { code, stderr } = await cli.swarm(['support-bundle', other], { PATH: bin })
  expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining('packing the support bundle') })
  expect(existsSync(other)).toBe(false)
})
