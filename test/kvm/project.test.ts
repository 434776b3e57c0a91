/** A machine with a project: systemd, sudo and the ssh user are real. The remote is a repository in the machine itself. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/config/config.ts'
import { openRunnerContext, type RunnerContext } from '../../src/runner/context.ts'
import { execute } from '../../src/runner/executor.ts'
import type { Action } from '../../src/schema/action.ts'
import { until } from '../support/wait.ts'
import { ensureMachines, inside, succeed, swarm, swarmEnvironment } from './cli.ts'

const TICKET = 'DROP-77'
const WORKSPACE = `workspace:
  setup: |
    sudo -n true
    echo "$NAME $PWD $(whoami)"
    echo x >> ../setups
  start: |
    echo x >> ../starts
    sleep 100000 &
  env: {NAME: "it's"}
  ports: [3000]
`
/** Makes the remote as root, where everybody can read and write it. */
const REMOTE = `set -e
sudo mkdir -p /srv/git/acme && sudo chown agent /srv/git/acme && cd /srv/git/acme
git init -q --bare -b main shop.git && git clone -q shop.git /tmp/work 2>/dev/null && cd /tmp/work
mkdir .github && echo '${Buffer.from(WORKSPACE).toString('base64')}' | base64 -d > .github/agent-swarm.yml
git add -A && git -c user.name=n -c user.email=e commit -qm one && git push -q origin HEAD:main`

let context: RunnerContext
beforeAll(async () => {
  await ensureMachines(TICKET)
  await inside(TICKET, REMOTE)
  context = openRunnerContext(await readConfig({}, swarmEnvironment))
  context.projectAccess = (_machine, work) =>
    work({ remote: 'https://github.com/', through: 'file:///srv/git/', stays: true, note: null, readDefaultFile: null })
})
afterAll(async () => {
  context.close()
  await swarm('delete', TICKET, '--force', '--yes')
})

const create: Action = {
  ...{ kind: 'create', ticket: TICKET, by: { via: 'cli', who: 'tester' }, replyTo: null },
  project: { repo: 'acme/shop', branch: null, summary: 'Fix the login' },
}
const times = (name: string) => inside(TICKET, `cat ~/${name} | wc -l`)

test('it is cloned, set up and started as the ssh user, and its shells begin there', async () => {
  const outcome = await execute(context, create, {
    ...{ actionId: null, correlation: null, onPhase: () => {} },
    signal: new AbortController().signal,
  })
  expect(outcome).toMatchObject({
    result: 'done',
    environment: {
      project: {
        ...{ repo: 'acme/shop', branch: `${TICKET}-fix-the-login`, path: '~/shop', ports: [3000], problem: null },
        setup: { state: 'done', exit: 0, source: '.github/agent-swarm.yml' },
        // Under software emulation it may still be at work.
        start: { state: expect.stringMatching(/^(?:running|done)$/) },
      },
    },
  })
  expect(await succeed(swarm('logs', TICKET, '--setup'))).toBe(`it's /home/agent/shop agent`)
  expect(await inside(TICKET, 'pwd; echo $NAME; git symbolic-ref --short HEAD')).toBe(
    `/home/agent/shop\nit's\n${TICKET}-fix-the-login`,
  )
  expect(await inside(TICKET, 'cd; bash -lic pwd')).toBe('/home/agent/shop')
  expect(await inside(TICKET, 'git commit -q --allow-empty -m x && git push -q && git status -sb')).toBe(
    `## ${TICKET}-fix-the-login...origin/${TICKET}-fix-the-login`,
  )
  await until('the program of start', async () => (await times('starts')) === '1', { within: 120_000, every: 500 })
  expect(await inside(TICKET, 'pgrep -fc "^sleep 100000"')).toBe('1')
})

test('start runs at each boot, and setup does not', async () => {
  expect([await times('setups'), await times('starts')]).toEqual(['1', '1'])
  await succeed(swarm('restart', TICKET))
  await until('the start of the project', async () => (await times('starts')) === '2', { within: 120_000, every: 500 })
  expect(await times('setups')).toBe('1')
  expect(await succeed(swarm('status', TICKET))).toContain('acme/shop in ~/shop')
})
