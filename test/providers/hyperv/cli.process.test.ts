/** The commands of a machine's life with machines of the stand-in's Hyper-V. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openCli } from '../../support/cli.ts'
import { putGuestSsh } from '../../support/hyperv/guest-ssh.ts'
import { type HypervStandIn, noPwsh, openHypervStandIn } from '../../support/hyperv/stand-in.ts'
import { EFI_PARTITION, writeVhdx } from '../../support/hyperv/vhdx-file.ts'

const TICKET = 'DROP-1'

describe.skipIf(noPwsh !== null)(`the CLI on Hyper-V${noPwsh === null ? '' : ` (left out: ${noPwsh})`}`, () => {
  let standIn: HypervStandIn
  let cli: ReturnType<typeof openCli>
  let environment: Record<string, string>
  beforeAll(() => {
    standIn = openHypervStandIn()
    putGuestSsh(standIn)
    cli = openCli()
    environment = { AGENT_SWARM_PROVIDER: 'hyperv', ...standIn.environment }
    writeVhdx(join(cli.home, 'disk.vhdx'), EFI_PARTITION)
  })
  afterAll(() => {
    cli.close()
    standIn.close()
  })
  const swarm = async (...words: string[]) => {
    const ran = await cli.swarm(words, { ...environment, AGENT_SWARM_BASE_IMAGE: 'debian' })
    expect([words.join(' '), ran.code, ran.code === 0 ? '' : ran.stderr]).toEqual([words.join(' '), 0, ''])
    return ran.stdout
  }
  const listed = async () => JSON.parse(await swarm('list', '--json')) as { ticket: string; status: string }[]

  test('an image is built of a VHDX', { timeout: 600_000 }, async () => {
    await swarm('init-base', 'debian', '--from', join(cli.home, 'disk.vhdx'), '--profile', 'minimal')
    const images = JSON.parse(await swarm('init-base', '--list', '--json'))
    expect(images).toMatchObject([{ name: 'debian' }])
    expect(standIn.state().vms).toEqual([])
  })

  test('a machine is created, checkpointed, restored, stopped, started and deleted', { timeout: 600_000 }, async () => {
    await swarm('create', TICKET)
    const [vm] = standIn.state().vms
    expect(vm).toMatchObject({ state: 'Running', cpus: 2 })
    expect(await listed()).toMatchObject([{ ticket: TICKET, provider: 'hyperv', status: 'running', ip: '10.177.0.10' }])
    await swarm('checkpoint', TICKET, 'one')
    await swarm('restore', TICKET, 'one')
    const { snapshots } = standIn.state()
    expect(snapshots.map(({ name }) => name)).toEqual(['one', expect.stringMatching(/^pre-restore-/)])
    await swarm('stop', TICKET)
    expect(await listed()).toMatchObject([{ ticket: TICKET, status: 'stopped' }])
    await swarm('start', TICKET)
    await swarm('delete', TICKET, '--force')
    expect(standIn.state()).toMatchObject({ vms: [], snapshots: [] })
    expect(readdirSync(join(cli.home, 'state', 'hyperv'))).toEqual(['images'])
    expect(await standIn.violations()).toBe('')
  })
})
