/** agent-swarm is killed (-9) while PowerShell works for it, which goes on: after the next start everything has an owner. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openCli } from '../../support/cli.ts'
import { putImage } from '../../support/hyperv/bench.ts'
import { putGuestSsh } from '../../support/hyperv/guest-ssh.ts'
import { type HypervStandIn, noPwsh, openHypervStandIn } from '../../support/hyperv/stand-in.ts'
import { some } from '../../support/samples.ts'
import { until } from '../../support/wait.ts'

const timeout = 900_000
/** Longer than the next start takes to begin its work. */
const PAUSE_MS = 5_000

describe.skipIf(noPwsh !== null)(`killed beside Hyper-V${noPwsh === null ? '' : ` (left out: ${noPwsh})`}`, () => {
  let standIn: HypervStandIn
  let cli: ReturnType<typeof openCli>
  const environment = () => ({
    AGENT_SWARM_PROVIDER: 'hyperv',
    AGENT_SWARM_BASE_IMAGE: 'debian',
    ...standIn.environment,
  })
  beforeAll(() => {
    standIn = openHypervStandIn()
    putGuestSsh(standIn)
    cli = openCli()
    putImage(join(cli.home, 'state'), 'debian')
  })
  afterAll(() => {
    cli.close()
    standIn.close()
  })
  const swarm = async (...words: string[]) => {
    const ran = await cli.swarm(words, environment())
    expect([words.join(' '), ran.code, ran.code === 0 ? '' : ran.stderr]).toEqual([words.join(' '), 0, ''])
    return ran.stdout
  }
  const count = (cmdlet: string) => standIn.cmdlets().filter(line => line.startsWith(`${cmdlet} `)).length
  /** Runs a command, and kills it while PowerShell is at this cmdlet. */
  const killAt = async (cmdlet: string, ...words: string[]) => {
    standIn.change(state => {
      state.pauses = { [cmdlet]: PAUSE_MS }
    })
    const before = count(cmdlet)
    const command = cli.processes.begin(words, environment())
    await until(`${cmdlet} of ${words.join(' ')}`, () => count(cmdlet) > before)
    command.kill('SIGKILL')
    await command.ended
  }
  /** Of the stand-in's machines and of folders: those that no environment has. */
  const ownerless = async (): Promise<string[]> => {
    const rows = JSON.parse(await swarm('list', '--json')) as { vmId: string }[]
    const owned = new Set(rows.map(({ vmId }) => vmId))
    const folders = readdirSync(join(cli.home, 'state', 'hyperv')).filter(name => name !== 'images')
    return [...standIn.state().vms.map(({ name }) => name), ...folders].filter(name => !owned.has(name))
  }
  const nextStart = async () => {
    await swarm('reconcile')
    await standIn.idle()
    standIn.change(state => {
      state.pauses = {}
    })
    expect(await ownerless()).toEqual([])
    expect(await standIn.violations()).toBe('')
  }

  for (const cmdlet of some(['New-VM', 'Set-VMFirmware'], 2))
    test(`at ${cmdlet}: a create that was killed leaves nothing without an owner`, { timeout }, async () => {
      await killAt(cmdlet, 'create', 'DROP-1')
      await nextStart()
      await swarm('delete', 'DROP-1', '--force').catch(() => {})
      expect(await ownerless()).toEqual([])
    })

  for (const cmdlet of some(['New-VM', 'Set-VMFirmware'], 2))
    test(`at ${cmdlet}: a recovery that was killed is done by the next create`, { timeout }, async () => {
      await swarm('create', 'DROP-3')
      const [machine] = standIn.state().vms
      const vmId = machine?.name ?? ''
      writeFileSync(join(standIn.contentOf(vmId), 'work'), 'of days')
      await swarm('stop', 'DROP-3')
      standIn.change(state => {
        state.vms = []
      })
      await swarm('reconcile')
      await killAt(cmdlet, 'create', 'DROP-3')
      await nextStart()
      await swarm('create', 'DROP-3')
      expect(JSON.parse(await swarm('list', '--json'))).toMatchObject([{ ticket: 'DROP-3', vmId, status: 'running' }])
      expect(readFileSync(join(standIn.contentOf(vmId), 'work'), 'utf8')).toBe('of days')
      await swarm('delete', 'DROP-3', '--force')
      expect(await ownerless()).toEqual([])
    })

  for (const cmdlet of some(['Export-VMSnapshot', 'Convert-VHD', 'New-VM', 'Checkpoint-VM'], 4))
    test(`at ${cmdlet}: a fork that was killed leaves no machine, no disk and no checkpoint`, { timeout }, async () => {
      await swarm('create', 'DROP-4')
      await killAt(cmdlet, 'fork', 'DROP-4', '--count', '2')
      await nextStart()
      expect(standIn.state()).toMatchObject({ vms: [{ state: 'Running' }], snapshots: [] })
      expect(JSON.parse(await swarm('list', '--json'))).toMatchObject([{ ticket: 'DROP-4', status: 'running' }])
      await swarm('fork', 'DROP-4')
      expect(JSON.parse(await swarm('list', '--json'))).toMatchObject([
        { ticket: 'DROP-4', status: 'running' },
        { ticket: expect.stringMatching(/^DROP-4~\d$/), status: 'running' },
      ])
      for (const { ticket } of JSON.parse(await swarm('list', '--json'))) await swarm('delete', ticket, '--force')
      expect(await ownerless()).toEqual([])
    })

  test('a checkpoint, a restore and a delete that were killed', { timeout }, async () => {
    await swarm('create', 'DROP-2')
    await killAt('Checkpoint-VM', 'checkpoint', 'DROP-2', 'one')
    await nextStart()
    expect(standIn.state().snapshots.map(({ name }) => name)).toEqual(['one'])
    await killAt('Restore-VMSnapshot', 'restore', 'DROP-2', 'one')
    await nextStart()
    expect(JSON.parse(await swarm('list', '--json'))).toMatchObject([{ ticket: 'DROP-2' }])
    await killAt('Remove-VM', 'delete', 'DROP-2', '--force')
    await nextStart()
    await cli.swarm(['delete', 'DROP-2', '--force'], environment())
    expect(standIn.state()).toMatchObject({ vms: [], snapshots: [] })
    expect(readdirSync(join(cli.home, 'state', 'hyperv'))).toEqual(['images'])
  })
})
