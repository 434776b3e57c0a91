/**
 * `agent-swarm service` under a real systemd, that of a guest: a unit of a person, without a session, and one of the system. Both
 * are killed and the guest is rebooted; an environment of the provider synthetic, which a reboot stops, comes back. Under software
 * emulation it takes ten minutes: npm run test:long.
 */
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isLong } from '../support/samples.ts'
import { until } from '../support/wait.ts'
import { ensureMachines, entry, FIRST, inside, listed, swarmEnvironment } from './cli.ts'

const TICKET = FIRST
const root = resolve(import.meta.dirname, '../..')
const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-service-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** Software emulation: a start of the program alone takes seconds. */
const PATIENCE = { within: 8 * 60_000, every: 2_000 }
/** Of the person's `up`, and the system's `bot`. */
const [UP_PORT, BOT_PORT] = [3000, 3001]
const SYSTEM_USER = 'swarmbot'

/** What a person writes, with a GitHub that cannot be reached: there is no network. */
const configFor = (port: number) => `
runnerToken: a-token-of-a-runner-that-is-not-there
githubToken: ghp_0123456789abcdef0123456789abcdef0123
githubRepositories: [acme/shop]
githubApiUrl: http://127.0.0.1:9
jiraProjects: [DROP:acme/shop]
provider: synthetic
host: 0.0.0.0
port: ${port}
`

/** Sends a stream into a command in the guest. */
const into = (producer: [string, ...string[]], command: string): Promise<void> =>
  new Promise((done, reject) => {
    const [file, ...argv] = producer
    const from = spawn(file, argv, { stdio: ['ignore', 'pipe', 'inherit'] })
    const to = spawn(process.execPath, [entry, 'ssh', TICKET, '--', command], {
      env: swarmEnvironment,
      stdio: [from.stdout, 'inherit', 'inherit'],
    })
    to.once('exit', code => (code === 0 ? done() : reject(new Error(`${command}: exit status ${code}`))))
  })

/** The package as `npm pack` makes it, with what it needs to run and this Node: the guest has no network. */
const installInGuest = async (): Promise<void> => {
  const npm = (...words: string[]) => execFileSync('npm', words, { cwd: root, encoding: 'utf8' })
  npm('pack', '--silent', '--pack-destination', folder)
  execFileSync('tar', ['-xzf', join(folder, 'agent-swarm-0.1.0.tgz'), '-C', folder])
  const modules = npm('ls', '--omit=dev', '--all', '--parseable')
    .split('\n')
    .filter(path => /^\/node_modules\/(@[^/]+\/)?[^/]+$/.test(path.slice(root.length)))
    .map(path => path.slice(root.length + 1))
  expect(modules.length).toBeGreaterThan(20)
  writeFileSync(join(folder, 'modules'), modules.join('\n'))
  const unpack = (to: string) => `sudo mkdir -p ${to} && sudo tar -xz --no-same-owner -C ${to}`
  await into(['tar', '-C', join(folder, 'package'), '-cz', '.'], unpack('/opt/agent-swarm'))
  const types = ['--exclude=*.ts', '--exclude=*.map']
  await into(['tar', '-C', root, ...types, '-cz', '-T', join(folder, 'modules')], unpack('/opt/agent-swarm'))
  await into(['tar', '-C', dirname(process.execPath), '-cz', 'node'], unpack('/usr/local/bin'))
  await guest('sudo ln -sf /opt/agent-swarm/bin/agent-swarm.js /usr/local/bin/agent-swarm')
}

const guest = (command: string) => inside(TICKET, command)
const json = async (command: string) => JSON.parse(await guest(`agent-swarm ${command} --json`))
/** Asked from outside: nobody logs in to the guest for it. */
const healthy = async (port: number): Promise<boolean> => {
  const answer = await fetch(`http://${address}:${port}/healthz`, { signal: AbortSignal.timeout(10_000) }).catch(
    () => null,
  )
  return answer?.ok === true
}
const statesOf = async (): Promise<Record<string, string>> =>
  Object.fromEntries(
    ((await json('list')) as { ticket: string; status: string }[]).map(({ ticket, status }) => [ticket, status]),
  )
/** What the system's unit is called on the command line. */
const BOT = 'bot --system'
const INSTALL_BOT = `sudo agent-swarm service install ${BOT} --user ${SYSTEM_USER}`

let address: string | null
beforeAll(async () => {
  if (!isLong) return
  await ensureMachines(TICKET)
  address = (await listed(TICKET)).ip
  await installInGuest()
  await guest(`mkdir -m 700 ~/.agent-swarm; (umask 077; cat >~/.agent-swarm/config.yaml) <<'.'\n${configFor(UP_PORT)}.`)
  await guest(`sudo useradd --system --create-home --shell /bin/sh ${SYSTEM_USER}`)
  await guest(
    `sudo -u ${SYSTEM_USER} -H sh -c 'umask 077; mkdir -p ~/.agent-swarm; cat >~/.agent-swarm/config.yaml' <<'.'\n${configFor(BOT_PORT)}.`,
  )
  await guest('agent-swarm create DROP-1 DROP-2 && agent-swarm stop DROP-2')
})

test.skipIf(!isLong)(
  'a shell whose variables the service would lack is refused, and nothing is installed',
  async () => {
    await expect(guest('LOG_LEVEL=debug agent-swarm service install')).rejects.toThrow('LOG_LEVEL')
    expect(await json('service status')).toMatchObject({ installed: false, enabled: false, running: false })
  },
)

test.skipIf(!isLong)('the units are as systemd wants them', async () => {
  for (const words of ['up', BOT]) {
    const name = words.split(' ')[0]
    const { content } = await json(`service install ${words} --dry-run`)
    await guest(`cat >/tmp/agent-swarm-${name}.service <<'.'\n${content}\n.`)
    const manager = words === BOT ? '' : '--user'
    expect(await guest(`systemd-analyze ${manager} verify /tmp/agent-swarm-${name}.service 2>&1`)).toBe('')
  }
})

test.skipIf(!isLong)('they are installed and run: one of a person, which lingers, and one of the system', async () => {
  // A guest without polkit lets nobody but root turn lingering on: the note says how.
  const { result, notes } = await json('service install')
  expect([result, notes]).toEqual(['done', [expect.stringContaining('sudo loginctl enable-linger agent')]])
  expect(await json('service status')).toMatchObject({ startsAt: 'log-in', survivesLogout: false })
  await guest('sudo loginctl enable-linger agent')
  await until('up', () => healthy(UP_PORT), PATIENCE)
  expect(await json('service status')).toMatchObject({
    ...{ installed: true, current: true, enabled: true, running: true, pid: expect.any(Number), restarts: 0 },
    ...{ startsAt: 'boot', survivesLogout: true, notes: [] },
  })
  expect(await json('service install')).toMatchObject({ result: 'skipped' })
  await guest(INSTALL_BOT)
  await until('the bot', () => healthy(BOT_PORT), PATIENCE)
  expect(JSON.parse(await guest(`sudo agent-swarm service status ${BOT} --json`))).toMatchObject({ current: true })
  expect(await guest('ps -o user= -p "$(systemctl show --value --property=MainPID agent-swarm-bot)"')).toBe(SYSTEM_USER)
  // No secret, in the files or on a command line.
  expect(
    await guest('cat /etc/systemd/system/agent-swarm-bot.service ~/.config/systemd/user/*.service; ps -eo args'),
  ).not.toContain('ghp_')
})

test.skipIf(!isLong)('killed, they run again', async () => {
  const before = await json('service status')
  await guest(`kill -KILL ${before.pid}; sudo systemctl kill --signal=KILL agent-swarm-bot`)
  const after = await until(
    'another process of up',
    async () => {
      const now = await json('service status')
      return now.running && now.pid !== before.pid ? now : null
    },
    PATIENCE,
  )
  expect(after.restarts).toBeGreaterThan(0)
  await until('both', async () => (await healthy(UP_PORT)) && (await healthy(BOT_PORT)), PATIENCE)
  expect(await guest('agent-swarm service logs')).toContain('The bot listens on')
  expect(await guest(`sudo agent-swarm service logs ${BOT}`)).toContain('The bot listens on')
})

test.skipIf(!isLong)(
  'after a reboot, nobody logs in: they run, and the environments are as they were asked for',
  async () => {
    expect(await statesOf()).toEqual({ 'DROP-1': 'running', 'DROP-2': 'stopped' })
    const boot = await guest('cat /proc/sys/kernel/random/boot_id')
    const synthetic = await guest('ls ~/.agent-swarm/synthetic-state')
    // The login ends with the guest.
    await guest('sudo systemctl reboot').catch(() => {})
    await until('the guest to be down', async () => !(await healthy(UP_PORT)), PATIENCE)
    await until('both after the reboot', async () => (await healthy(UP_PORT)) && (await healthy(BOT_PORT)), PATIENCE)
    expect(await guest('cat /proc/sys/kernel/random/boot_id')).not.toBe(boot)
    await until('the environment', async () => (await statesOf())['DROP-1'] === 'running', PATIENCE)
    expect(await statesOf()).toEqual({ 'DROP-1': 'running', 'DROP-2': 'stopped' })
    // It was off in between: its mark names another boot now.
    expect(await guest('ls ~/.agent-swarm/synthetic-state')).not.toBe(synthetic)
    const { operations } = await json('status DROP-1')
    expect(operations[0]).toMatchObject({ kind: 'start', result: 'done' })
    expect(await json('service status')).toMatchObject({ enabled: true, running: true, restarts: 0 })
  },
)

test.skipIf(!isLong)('an install over a changed file shows the difference, and asks', async () => {
  const file = '~/.config/systemd/user/agent-swarm-up.service'
  await guest(`sed -i 's/^RestartSec=5$/RestartSec=50/' ${file}`)
  await expect(guest('agent-swarm service install')).rejects.toThrow(/- RestartSec=50\n\+ RestartSec=5\n/)
  expect(await json('service status')).toMatchObject({ current: false, notes: [expect.stringContaining('differs')] })
  expect(await json('service install --yes')).toMatchObject({
    result: 'done',
    difference: ['- RestartSec=50', '+ RestartSec=5'],
  })
  expect(await json('service status')).toMatchObject({ current: true })
})

test.skipIf(!isLong)('they are removed, and a file of somebody else stays', async () => {
  expect(await json('service uninstall')).toMatchObject({ result: 'done' })
  expect(await json('service uninstall')).toMatchObject({ result: 'skipped' })
  await guest(`sudo agent-swarm service uninstall ${BOT}`)
  await until('neither', async () => !(await healthy(UP_PORT)) && !(await healthy(BOT_PORT)), PATIENCE)
  expect(await guest('ls ~/.config/systemd/user /etc/systemd/system')).not.toContain('agent-swarm-')
  await guest('sudo touch /etc/systemd/system/agent-swarm-bot.service')
  await expect(guest(`sudo agent-swarm service uninstall ${BOT}`)).rejects.toThrow('was not written by agent-swarm')
  await guest('sudo rm /etc/systemd/system/agent-swarm-bot.service')
})
