/** Disks with real repositories in them, kill -9, and the command. */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { planPrune, prune } from '../../../src/runner/prune/prune.ts'
import { reconcile } from '../../../src/runner/reconciler/reconcile.ts'
import { recoverAll } from '../../../src/runner/recovery.ts'
import { restoreIntoFolder } from '../../../src/runner/rescue/restore.ts'
import { openCli } from '../../support/cli.ts'
import { actions, openTestContext, type TestContext } from '../../support/context.ts'
import { some } from '../../support/samples.ts'

const { signal } = new AbortController()
const DIRTY = 'git init -q shop; cd shop; echo of-a-day > work'

describe('a disk with a dirty repository', () => {
  let it: TestContext
  let vmId: string
  beforeEach(async () => {
    it = await openTestContext({ guest: 'shell' })
    await it.do(actions.create('DROP-1'))
    vmId = it.vmIdOf('DROP-1')
    await it.inside('DROP-1', DIRTY)
    it.forgetMachine('DROP-1')
    it.context.registry.remove('DROP-1')
  })
  afterEach(() => it.close())
  const run = async () =>
    prune((await planPrune(it.context)).prunable, { by: { via: 'cli', who: 'tester' }, signal, onPhase: () => {} })
  const rescues = () => readdirSync(join(it.home, 'rescued'))
  const expectWork = async () => {
    const [name = '', ...others] = rescues()
    expect(others).toEqual([])
    const back = join(it.home, 'back')
    const tools = { home: it.home, run: it.context.run, signal, onPhase: () => {} }
    await restoreIntoFolder(tools, name, back)
    expect(readdirSync(join(back, 'shop'))).toContain('work')
  }

  test('its work is saved, proven and told, and then the disk goes', async () => {
    const { removed, failed } = await run()
    expect(failed).toEqual([])
    expect(removed).toMatchObject([{ name: vmId, rescued: expect.stringContaining(`is rescued in `) }])
    expect(removed[0]?.rescued).toContain(rescues()[0])
    expect([it.machines(), it.context.registry.environment('DROP-1')]).toEqual([[], null])
    // The bot tells it on the ticket.
    expect(it.context.registry.manualOperations(9)).toMatchObject([
      { ticket: 'DROP-1', kind: 'delete', outcome: { rescued: expect.stringContaining('is rescued in') } },
    ])
    await expectWork()
  })

  test.for(
    some(
      [
        ...[
          'making the machine again from its disk',
          'starting it to look for unsaved work',
          'looking for unsaved work',
        ],
        ...['saving unsaved work', 'checking the saved work', 'delete'],
      ],
      3,
    ),
  )('kill -9 at "%s" loses nothing: a later prune or delete ends it', async phase => {
    const script = join(import.meta.dirname, '..', '..', 'support', 'prune-die.ts')
    const killed = await promisify(execFile)(process.execPath, [script, it.home, `DROP-1: ${phase}`]).catch(
      error => error.signal,
    )
    expect(killed).toBe('SIGKILL')
    await recoverAll(it.context)
    await reconcile(it.context, { dryRun: false, signal })
    await run()
    if (it.context.registry.environment('DROP-1') !== null) await it.do(actions.delete('DROP-1'))
    expect([it.machines(), it.context.registry.environment('DROP-1')]).toEqual([[], null])
    await expectWork()
  })
})

describe('the command', () => {
  let cli: ReturnType<typeof openCli>
  beforeEach(() => {
    cli = openCli()
  })
  afterEach(() => cli.close())
  const state = (...parts: string[]) => join(cli.home, 'state', ...parts)
  /** A disk of DROP-1 that no machine has. Returns its vmId. */
  const leave = async (): Promise<string> => {
    expect(await cli.swarm(['create', 'DROP-1'])).toMatchObject({ code: 0 })
    await cli.inside('DROP-1', DIRTY)
    const [vmId = ''] = readdirSync(state('synthetic'))
    for (const mark of readdirSync(state('synthetic-state'))) rmSync(state('synthetic-state', mark))
    cli.know(registry => registry.remove('DROP-1'))
    return vmId
  }

  test('shows each item with its size, why it may go and why others stay, the sum, and removes nothing by itself', async () => {
    const vmId = await leave()
    mkdirSync(state('synthetic', 'as-x-0000000a', 'disk'), { recursive: true })
    for (const words of [['prune'], ['prune', '--dry-run'], ['prune', '--dry-run', '--yes']]) {
      const { code, stdout, stderr } = await cli.swarm(words)
      expect(code).toBe(0)
      expect(stdout).toMatch(
        new RegExp(`^WHAT +NAME +SIZE +WHY IT MAY GO\ndisk +${vmId} +[\\d.]+ KiB +the machine of DROP-1`),
      )
      expect(stdout).toMatch(/\n1 item, [\d.]+ KiB in total\.\n$/)
      expect(stderr).toMatch(/Kept:\nWHAT +NAME +SIZE +WHY\ndisk +as-x-0000000a .* another home has it/)
      expect(stderr).toContain('Nothing was removed. To remove these: agent-swarm prune --yes')
    }
    expect(existsSync(state('synthetic', vmId, 'disk'))).toBe(true)
  })

  test('on a terminal it asks; only yes removes', async () => {
    const vmId = await leave()
    const no = await cli.terminal(['prune'], { type: { prompt: 'Remove these? [y/N]', text: '\n' } })
    expect(no).toMatchObject({ code: 0, screen: expect.stringContaining('Nothing was removed') })
    expect(existsSync(state('synthetic', vmId))).toBe(true)
    const yes = await cli.terminal(['prune'], { type: { prompt: 'Remove these? [y/N]', text: 'y\n' } })
    expect(yes).toMatchObject({ code: 0, screen: expect.stringContaining('is rescued in') })
    expect(existsSync(state('synthetic', vmId))).toBe(false)
  })

  test('with --yes --json it says what was removed, rescued and kept; a second time nothing is left', async () => {
    const vmId = await leave()
    expect(await cli.json(['prune'])).toMatchObject({ result: 'planned', removed: [{ name: vmId, rescued: null }] })
    expect(await cli.json(['prune', '--yes'])).toMatchObject({
      ...{ result: 'done', failed: [], unread: [], bytes: expect.any(Number) },
      removed: [{ kind: 'disk', name: vmId, rescued: expect.stringContaining('is rescued in') }],
      kept: [],
    })
    const again = await cli.json(['prune', '--yes'])
    expect(again).toMatchObject({ removed: [], bytes: 0, kept: [{ kind: 'rescued work', name: '1 in rescued/' }] })
  })

  test('a failure says what to do next, and gives status 1', async () => {
    const vmId = await leave()
    // A guest whose repositories cannot be listed.
    writeFileSync(state('synthetic', vmId, 'disk', 'shop', '.git', 'HEAD'), 'broken')
    const { code, stderr } = await cli.swarm(['prune', '--yes'])
    expect(code).toBe(1)
    expect(stderr).toContain('agent-swarm start DROP-1')
    expect(stderr).toContain('Kept 1 after all.')
    expect(existsSync(state('synthetic', vmId, 'disk', 'shop', 'work'))).toBe(true)
  })
})
