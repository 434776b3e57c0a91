/** kill -9 after each outside command of create, checkpoint, restore, fork and delete: nothing is without an owner after the next start. */
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readConfig } from '../../../src/config/config.ts'
import { openRunnerContext } from '../../../src/runner/context.ts'
import { execute } from '../../../src/runner/executor.ts'
import { recoverAll } from '../../../src/runner/recovery.ts'
import type { Action } from '../../../src/schema/action.ts'
import { actions } from '../../support/context.ts'
import { isLong } from '../../support/samples.ts'
import { imageVm } from '../../support/tart/bench.ts'
import { type Mac, openMac } from '../../support/tart/install.ts'

const die = resolve(import.meta.dirname, '../../support/tart/die.ts')
const TICKET = 'DROP-1'

const environmentOf = (mac: Mac, home: string) => ({
  ...{
    PATH: mac.environment.PATH,
    HOME: home,
    AGENT_SWARM_TART_HOME: mac.tartHome,
    AGENT_SWARM_HOME: join(home, 'state'),
  },
  // Small, so that forks have room beside it.
  ...{ AGENT_SWARM_PROVIDER: 'tart', AGENT_SWARM_BASE_IMAGE: 'golden', AGENT_SWARM_MEMORY_MIB: '1024' },
})
const withContext = async <T>(
  mac: Mac,
  home: string,
  work: (context: ReturnType<typeof openRunnerContext>) => Promise<T>,
): Promise<T> => {
  const context = openRunnerContext(await readConfig({}, environmentOf(mac, home)))
  try {
    return await work(context)
  } finally {
    context.close()
  }
}
const perform = (mac: Mac, home: string, action: Action) =>
  withContext(mac, home, context =>
    execute(context, action, {
      ...{ actionId: null, correlation: null, signal: new AbortController().signal, onPhase: () => {} },
    }),
  )

/** Runs the action in a process of its own. `at`: the command after which it dies; 0: it lives. */
const runAndDie = (mac: Mac, home: string, at: number, action: Action): Promise<{ commands: string[] } | null> =>
  new Promise((done, reject) => {
    const argv = [die, join(home, 'state'), String(at), JSON.stringify(action)]
    execFile(
      process.execPath,
      ['--no-warnings', ...argv],
      { env: environmentOf(mac, home) },
      (error, stdout, stderr) => {
        if (error === null) done(JSON.parse(stdout) as { commands: string[] })
        else if (error.signal === 'SIGKILL') done(null)
        else reject(new Error(stderr))
      },
    )
  })

/** Every VM is an image, or of a machine that the registry knows; nothing is half made; nothing else is on disk. */
const expectOwners = async (mac: Mac, home: string): Promise<void> => {
  await withContext(mac, home, async context => {
    // What the runner does at its start.
    expect(await recoverAll(context)).toEqual([])
    const provider = await context.provider('tart')
    // Any command ends in a look, which also collects what tart itself left.
    const machines = await provider.listVms()
    const known = new Set(context.registry.environments().map(({ vmId }) => vmId))
    expect(machines.filter(({ vmId }) => !known.has(vmId))).toEqual([])
    expect(await provider.leftovers?.()).toEqual([])
    const owners = mac
      .vms()
      .filter(name => !name.startsWith('agent-swarm-base.'))
      .map(name => name.split('.')[0] ?? '')
    expect(owners.filter(vmId => !known.has(vmId))).toEqual([])
  })
  const temporary = join(mac.tartHome, 'tmp')
  expect(existsSync(temporary) ? readdirSync(temporary) : []).toEqual([])
}

const create = actions.create(TICKET)
const checkpoint = actions.checkpoint(TICKET, 'one')
/** `points`: the commands that change something, and whether to die after it in every run of the tests. */
const scenarios: readonly [name: string, before: Action[], action: Action, points: [string, boolean][]][] = [
  [
    'create',
    [],
    create,
    [
      ['clone', false],
      ['set', false],
      ['rename', false],
      ['start', true],
    ],
  ],
  [
    'checkpoint',
    [create],
    checkpoint,
    [
      ['power button', false],
      ['clone', true],
      ['start', false],
    ],
  ],
  [
    'restore',
    [create, checkpoint],
    actions.restore(TICKET, 'one'),
    [
      ['power button', false],
      ['clone', false],
      ['start', false],
      ['clone', true],
      ['stop', false],
      ['delete', false],
      ['rename', false],
      ['start', false],
    ],
  ],
  [
    'fork',
    [create],
    actions.fork(TICKET, 2),
    [
      ['power button', false],
      ['clone', false],
      ['start', false],
      ['set', false],
      ['rename', false],
      ['clone', true],
      ['set', false],
      ['rename', false],
      ['start', false],
      ['start', false],
    ],
  ],
  [
    'fork of a checkpoint',
    [create, checkpoint],
    actions.fork(TICKET, 1, 'one'),
    [
      ['clone', false],
      ['set', false],
      ['rename', false],
      ['start', false],
    ],
  ],
  [
    'delete',
    [create, checkpoint],
    actions.delete(TICKET, true),
    [
      ['stop', true],
      ['delete', false],
    ],
  ],
]

describe('kill -9', () => {
  const root = mkdtempSync(join(tmpdir(), 'agent-swarm-tart-killed-'))
  const home = join(root, 'home')
  let mac: Mac
  beforeAll(async () => {
    mac = openMac(root)
    const { homeId } = await import('../../../src/config/home.ts')
    mac.makeImage(imageVm('golden', await homeId(join(home, 'state'))))
  })
  afterAll(() => {
    mac.reboot()
    mac.close()
  })
  /** Deletes what there is. Nothing is left then. */
  const clear = async () => {
    const tickets = await withContext(mac, home, async ({ registry }) => registry.environments().map(row => row.ticket))
    for (const ticket of tickets) await perform(mac, home, actions.delete(ticket, true))
    expect(mac.vms()).toEqual([expect.stringMatching(/^agent-swarm-base\./)])
    const machines = join(home, 'state/tart/machines')
    expect(existsSync(machines) ? readdirSync(machines) : []).toEqual([])
    expect(readdirSync(join(mac.tartHome, 'guests'))).toHaveLength(1)
  }

  for (const [name, before, action, points] of scenarios) {
    for (const [at, [command, always]] of points.entries())
      test.skipIf(!always && !isLong)(`during ${name}, after ${at + 1}: ${command}`, async () => {
        for (const each of before) expect(await perform(mac, home, each)).toMatchObject({ result: 'done' })
        expect(await runAndDie(mac, home, at + 1, action)).toBeNull()
        await expectOwners(mac, home)
        await clear()
      })

    test.skipIf(!isLong)(`${name} has these commands, and no others`, async () => {
      for (const each of before) await perform(mac, home, each)
      expect(await runAndDie(mac, home, 0, action)).toMatchObject({ commands: points.map(([command]) => command) })
      await clear()
    })
  }
})
