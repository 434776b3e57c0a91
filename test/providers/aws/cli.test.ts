/** The commands of a ticket's life on EC2, as a person types them. `aws` and `ssh` on PATH lead to our stand-in for EC2 and its guests. */
import { expect, onTestFinished, test } from 'vitest'
import { providerNames } from '../../../providers/index.ts'
import { openAwsCli } from '../../support/ec2/cli.ts'

const open = async () => {
  const opened = await openAwsCli()
  onTestFinished(opened.close)
  return opened
}

test('a ticket lives on EC2 from its base image to its delete', { timeout: 300_000 }, async () => {
  const { cli, ec2, environment, swarm, json } = await open()
  const source = ec2.publishImage()
  expect(await cli.swarm(['create', 'AB-1'], environment)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('agent-swarm init-base agent-swarm-base --from ami-…'),
  })
  expect((await swarm('init-base', '--from', source, '--profile', 'minimal')).stdout).toContain('Built the base image')
  expect(await json('init-base', '--list')).toMatchObject([
    { name: 'agent-swarm-base', provider: 'aws', sha256: null, source, profile: 'minimal', machines: [], tickets: [] },
  ])
  const today = new Date().toISOString().slice(0, 10)
  const created = await swarm('create', 'AB-1')
  expect(created.stdout).toContain(`It costs 0.048 US dollars an hour while it runs (pricing get-products, ${today})`)
  expect(created.stdout).toContain('Machines are not isolated here: on EC2, a machine reaches the metadata address')
  const [listed] = await json('list')
  expect(listed).toMatchObject({
    ...{ ticket: 'AB-1', provider: 'aws', status: 'running', checkpoints: [], diskBytes: 40 * 1024 ** 3 },
    price: { usdPerHour: 0.048, isUpperBound: false, at: today, source: 'pricing get-products' },
  })
  expect(listed.ip).toBe(ec2.instanceOf(listed.vmId).publicIp)
  expect((await swarm('list')).stdout).toContain('$0.048/h')
  expect((await swarm('status', 'AB-1')).stdout).toMatch(/price +0\.048 US dollars an hour/)
  const { stdout: page } = await swarm('status')
  expect(page).toContain('$0.048/h')
  expect(page).toContain('New machines take nothing of this host')

  await ec2.script(listed.vmId, 'echo before >state')
  await swarm('checkpoint', 'AB-1', 'one')
  await ec2.script(listed.vmId, 'echo after >state')
  expect((await swarm('restore', 'AB-1', 'one')).stdout).toContain('Restored AB-1 to one')
  expect(await ec2.script(listed.vmId, 'cat state')).toBe('before')
  expect((await json('list'))[0].checkpoints).toEqual(['one', expect.stringMatching(/^pre-restore-/)])
  await swarm('stop', 'AB-1')
  expect(await json('list')).toMatchObject([{ status: 'stopped', ip: null }])
  await swarm('start', 'AB-1')
  expect((await json('list'))[0].ip).not.toBe(listed.ip)
  expect(await json('reconcile', '--dry-run')).toEqual([])
  expect(await cli.swarm(['init-base', '--delete', 'agent-swarm-base'], environment)).toMatchObject({ code: 1 })
  await swarm('delete', 'AB-1')
  expect(await json('list')).toEqual([])
  await swarm('init-base', '--delete', 'agent-swarm-base')
  expect(ec2.everything()).toEqual([])
  expect([...ec2.state.images.keys()]).toEqual([source])
})

test('a security group that is not there takes no row from providers', async () => {
  const { cli, environment } = await open()
  const wrong = { ...environment, AGENT_SWARM_AWS_SECURITY_GROUP: 'sg-0123456789abcdef0' }
  const rows = (await cli.json(['providers'], wrong)) as { name: string; available: boolean; capabilities: string[] }[]
  expect(rows.map(({ name }) => name)).toEqual(providerNames)
  const row = rows.find(({ name }) => name === 'aws')
  expect(row).toMatchObject({ available: true, reason: null })
  expect(row?.capabilities).not.toContain('isolated')
})

test('providers shows what it can do, and is never chosen by itself', async () => {
  const { cli, environment, json } = await open()
  const rows = (await json('providers')) as { name: string; available: boolean; capabilities: string[] }[]
  const row = rows.find(({ name }) => name === 'aws')
  expect(row).toMatchObject({ available: true, provenOn: null })
  expect(row?.capabilities).toEqual(expect.arrayContaining(['assign', 'liveCheckpoints', 'prices', 'usage']))
  expect(row?.capabilities).not.toContain('memoryCheckpoints')
  // It says so only where machines are isolated.
  expect(row?.capabilities).not.toContain('isolated')
  const without = { ...environment, AGENT_SWARM_AWS_SECURITY_GROUP: '' }
  const unavailable = ((await cli.json(['providers'], without)) as typeof rows).find(({ name }) => name === 'aws')
  expect(unavailable).toMatchObject({ available: false, capabilities: row?.capabilities })
  const { stderr } = await cli.swarm(['create', 'AB-1'], { ...environment, AGENT_SWARM_PROVIDER: undefined })
  expect(stderr).not.toContain('aws')
})
