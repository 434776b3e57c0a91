/** The reconciler on kvm, with a virsh that is a script. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openRunnerContext, type RunnerContext } from '../../../src/runner/context.ts'
import { reconcile } from '../../../src/runner/reconciler/reconcile.ts'
import { configFor, knownMachine } from '../../support/context.ts'
import { standInVirsh } from '../../support/virsh.ts'

let home: string
let context: RunnerContext
const { signal } = new AbortController()
const run = () => reconcile(context, { dryRun: false, signal })

const open = async (volumes: string[], answers: string) => {
  const bin = join(home, 'bin')
  standInVirsh(bin, { volumes, answers })
  context = openRunnerContext(
    await configFor(home, { PATH: `${bin}:${process.env.PATH}`, AGENT_SWARM_PROVIDER: 'kvm' }),
  )
  knownMachine(context.registry, 'DROP-1', '192.0.2.1')
}
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-reconcile-'))
})
afterEach(() => {
  context.close()
  rmSync(home, { recursive: true, force: true })
})

test('a machine that libvirt no longer has is lost, and its disk is not reported beside it; other disks are', async () => {
  const disks = ['as-drop-1-00000001.qcow2', 'as-drop-9-0000000a.qcow2']
  const info = disks.map(name => `Name: ${name}\nAllocation: 5 bytes\n`).join('')
  await open(disks, `*vol-info*) printf '${info.replaceAll('\n', '\\n')}' ;;`)
  const { findings } = await run()
  expect(findings).toMatchObject([
    { ticket: 'DROP-1', vmId: 'as-drop-1-00000001', finding: expect.stringContaining('no longer exists') },
    { ticket: null, vmId: 'as-drop-9-0000000a', finding: expect.stringContaining('may hold work') },
  ])
  expect(context.registry.environment('DROP-1')).toMatchObject({ status: 'lost', ssh: null })
})

test('a libvirt that fails loses nothing', async () => {
  await open([], '*) echo "error: failed to connect to the hypervisor" >&2; exit 1 ;;')
  const { findings, unread } = await run()
  expect([findings, unread]).toMatchObject([[], [{ provider: 'kvm' }]])
  expect(context.registry.environment('DROP-1')?.status).toBe('running')
})

test('another address is recorded', async () => {
  await open(
    ['as-drop-1-00000001.qcow2'],
    `*domstats*|*metadata*|*net-dhcp-leases*) cat <<'.'
<vm xmlns="urn:agent-swarm:1" name="as-drop-1-00000001" ticket="DROP-1" mac="52:54:00:aa:bb:cc" ip="192.0.2.7"/>

Domain: 'as-drop-1-00000001'
  state.state=1
  state.reason=1

 2030-01-01 00:00:00   52:54:00:aa:bb:cc   ipv4   192.0.2.7/24   -   -
.
;;`,
  )
  const { findings, failed } = await run()
  expect(failed).toEqual([])
  expect(findings).toMatchObject([
    { ticket: 'DROP-1', finding: 'its address is 192.0.2.7, and the registry has 192.0.2.1' },
  ])
  expect(context.registry.environment('DROP-1')?.ssh).toMatchObject({ host: '192.0.2.7' })
})
