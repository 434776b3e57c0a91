/**
 * The setup commands of README.md, docs/install.md and docs/team.md, run as they stand there against the stand-ins: from
 * nothing to a machine, and to an answer on the pull request. A comment names each block: <!-- run: NAME -->.
 */
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join, resolve } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { expect, type TestContext, test } from 'vitest'
import { parse } from 'yaml'
import { compiled } from '../support/cli.ts'
import { startGitHub } from '../support/github.ts'
import { JIRA_SECRET, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'

const root = resolve(import.meta.dirname, '../..')
const pages = ['README.md', 'docs/install.md', 'docs/team.md'].map(page => readFileSync(join(root, page), 'utf8'))
const blocks = new Map(
  [...pages.join('\n').matchAll(/<!-- run: (.+?) -->\n```sh\n([\s\S]*?)```/g)].map(([, name = '', text = '']) => [
    name,
    text,
  ]),
)

const block = (name: string): string => {
  const text = blocks.get(name)
  if (text === undefined) throw new Error(`the pages have no block "${name}"`)
  return text
}

type Answer = [prompt: string, text: string]
/** A folder of its own, a GitHub and a Jira, which end with the test. */
const openScene = async ({ onTestFinished }: TestContext) => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-readme-'))
  mkdirSync(join(folder, 'bin'))
  symlinkSync(join(root, 'bin/agent-swarm.js'), join(folder, 'bin/agent-swarm'))
  const github = await startGitHub({ people: { dev: 'push' } })
  const jira = await startJira({ issues: { 'DROP-1': 'one' } })
  const ends: (() => void)[] = []
  onTestFinished(async () => {
    for (const end of ends) end()
    await Promise.all([github.stop(), jira.stop()])
    rmSync(folder, { recursive: true, force: true })
  })
  /** What a user of GitHub Enterprise Server would have set, and what tests have to: a free port, and no minute to wait. */
  const environment = {
    PATH: [join(folder, 'bin'), dirname(process.execPath), process.env.PATH].join(delimiter),
    HOME: folder,
    AGENT_SWARM_HOME: join(folder, 'state'),
    ...compiled,
    AGENT_SWARM_PROVIDER: 'synthetic',
    AGENT_SWARM_POLL_SECONDS: '1',
    GITHUB_API_URL: github.url,
    JIRA_HOST: jira.url,
    PORT: '0',
    TERM: 'xterm',
    SHELL: '/bin/bash',
  }
  /** On a terminal with `answers`, or without one. */
  const run = (name: string, more: Record<string, string> = {}, answers: Answer[] | null = null) => {
    const [program, words]: [string, string[]] =
      answers === null
        ? ['bash', ['-euc', block(name)]]
        : [
            'script',
            ['-qec', `stty cols 100 rows 40; bash -euc '${block(name).replaceAll("'", `'\\''`)}'`, '/dev/null'],
          ]
    // A group of its own, which Ctrl-C and the end of a test reach as a whole.
    const child = spawn(program, words, { cwd: folder, env: { ...environment, ...more }, detached: true })
    const signal = (name: NodeJS.Signals) => process.kill(-(child.pid ?? 0), name)
    ends.push(() => {
      if (child.exitCode === null && child.signalCode === null) signal('SIGKILL')
    })
    const left = [...(answers ?? [])]
    let [heard, seen] = ['', 0]
    const listen = (chunk: Buffer) => {
      heard += chunk
      const [next] = left
      if (next === undefined || !heard.slice(seen).includes(next[0])) return
      left.shift()
      seen = heard.length
      child.stdin.write(`${next[1]}\r`)
    }
    child.stdout.on('data', listen)
    child.stderr.on('data', listen)
    const ended = new Promise<number>(done => child.on('close', code => done(code ?? 1)))
    const said = () => stripVTControlCharacters(heard)
    return {
      ended,
      said,
      says: (what: RegExp) =>
        until(`${what}`, () => said().match(what)).catch(error => {
          throw new Error(`${error.message}; it said:\n${said()}`)
        }),
      interrupt: () => (answers === null ? signal('SIGINT') : child.stdin.write('\u0003')),
    }
  }
  /** A ticket is moved, and has its machine; its pull request is commented on, and answered. */
  const story = async () => {
    await jira.move('DROP-1', 'In Progress')
    await until('the machine', () => jira.comments('DROP-1').find(one => one.includes('DROP-1 has a machine')))
    await github.push('DROP-1-checkout')
    const pull = await github.open('DROP-1-checkout', 'Checkout')
    await github.comment(pull, '/swarm status')
    await until('the answer', async () =>
      (await github.comments(pull)).find(one => one.body.includes('DROP-1 is running as of')),
    )
  }
  return { folder, github, jira, run, story }
}

test.concurrent('a laptop and two tokens', async context => {
  const { jira, run, story } = await openScene(context)
  const up = run('laptop', {}, [
    ['reach GitHub?', ''],
    ['Your GitHub token', 'token-dev'],
    ['may act on tickets?', ''],
    ['reach Jira Cloud?', ''],
    ['As which Jira account', ''],
    ['The Jira site', ''],
    ['e-mail address', jira.me.emailAddress],
    ['API token', jira.token],
    ['The keys of', ''],
    ['Which tickets get', ''],
    ['Which hypervisor?', ''],
    ['Write these settings?', ''],
  ])
  await up.says(
    /GitHub: acme\/shop, polled every 1 s\s+Jira: DROP on 127\S+, polled every 1 s; tickets of dev@example\.org get/,
  )
  await up.says(
    /watching acme\/shop on GitHub[\s\S]*watching DROP in Jira|watching DROP in Jira[\s\S]*watching acme\/shop on GitHub/,
  )
  await story()
  const other = run('another terminal')
  expect(await other.ended).toBe(0)
  expect(other.said()).toMatch(/DROP-1 +synthetic +running/)
  up.interrupt()
  expect(await up.ended).toBe(0)
  // For people, and not for programs.
  expect(up.said()).toMatch(/\d\d:\d\d:\d\d {2}DROP-1 {2}created in (?:less than )?\d\S* m?s \(ticket moved/)
  expect(up.said()).not.toContain('{"level"')
})

test.concurrent('the same in a script', async context => {
  const { jira, run } = await openScene(context)
  const init = run('script', {
    GITHUB_TOKEN: 'token-dev',
    JIRA_EMAIL: jira.me.emailAddress,
    JIRA_API_TOKEN: jira.token,
  })
  expect([await init.ended, init.said()]).toEqual([0, expect.stringContaining('Next: agent-swarm up')])
})

test.concurrent('an App and webhooks', async context => {
  const { folder, github, jira, run, story } = await openScene(context)
  const up = run('webhooks', {
    JIRA_EMAIL: jira.me.emailAddress,
    JIRA_API_TOKEN: jira.token,
    JIRA_WEBHOOK_SECRET: JIRA_SECRET,
  })
  const [page] = await up.says(/http:\/\/127\.0\.0\.1:\d+\/\S+/)
  // As a browser does: the page's form goes to GitHub, and GitHub sends it back.
  const html = (await (await fetch(page)).text()).replaceAll('&quot;', '"').replaceAll('&amp;', '&')
  const [, action = ''] = html.match(/action="([^"]*)"/) ?? []
  const [, manifest = ''] = html.match(/name="manifest" value="(\{.*\})"/) ?? []
  const sent = await fetch(action, { method: 'POST', body: new URLSearchParams({ manifest }), redirect: 'manual' })
  await fetch(sent.headers.get('location') ?? '', { redirect: 'manual' })
  await up.says(
    /GitHub: App 7 by webhooks, for acme\/shop\. https:\S+ address>\/api\/github\/webhooks must lead to this bot/,
  )
  const [, url = ''] = await up.says(/listens on (\S+),/)
  // What stands between the public address and the bot.
  github.sendTo(url)
  jira.sendTo(url)
  await story()
  expect(github.requests.every(one => !one.path.includes('/git/matching-refs'))).toBe(true)
  expect(parse(readFileSync(join(folder, 'state/config.yaml'), 'utf8'))).toMatchObject({
    appId: 7,
    jiraProjects: ['DROP'],
  })
  up.interrupt()
  expect(await up.ended).toBe(0)
})
