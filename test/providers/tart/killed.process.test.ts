/** kill -9 after each outside command of create, checkpoint, restore and delete: nothing is without an owner after the next start. */
import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../../src/config/config.ts'
import { openRunnerContext } from '../../../src/runner/context.ts'
import { execute } from '../../../src/runner/executor.ts'
import { recoverAll } from '../../../src/runner/recovery.ts'
import type { Action } from '../../../src/schema/action.ts'
import { actions } from '../../support/context.ts'
import { imageVm } from '../../support/tart/bench.ts'
import { type Mac, openMac } from '../../support/tart/install.ts'

const die = resolve(import.meta.dirname, '../../support/tart/die.ts')
const TICKET = 'DROP-1'

const environmentOf = (mac: Mac, home: string) => ({
  ...{ PATH: mac.environment.PATH, HOME: home, TART_HOME: mac.tartHome, AGENT_SWARM_HOME: join(home, 'state') },
  ...{ AGENT_SWARM_PROVIDER: 'tart', AGENT_SWARM_BASE_IMAGE: 'golden' },
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
const runAndDie = (mac: Mac, home: string, at: number, action: Action): Promise<{ commands: number } | null> =>
  new Promise((done, reject) => {
    const argv = [die, join(home, 'state'), String(at), JSON.stringify(action)]
    execFile(process.execPath, ['--no-warnings', ...argv], { env: environmentOf(mac, home) }, (error, stdout, stderr) => {
      if (error === null) done(JSON.parse(stdout) as { commands: number })
      else if (error.signal === 'SIGKILL') done(null)
      else reject(new Error(stderr))
    })
  })
