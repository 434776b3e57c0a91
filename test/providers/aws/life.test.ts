/** The life of a machine where AWS behaves in its own way: see traps.ts for what is known of each. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { clientToken } from '../../../providers/aws/machines.ts'
import type { Bench } from '../../../src/selftest/bench.ts'
import { promises } from '../../../src/selftest/promises.ts'
import { awsOptions, BASE } from '../../support/ec2/bench.ts'
import { tagValue } from '../../support/ec2/ec2.ts'
import { actions, ID, open, withMachine } from './unit.ts'

const failing = (kind: string) => ({ failure: { kind } })

// ── Create ──

test('user data is the seed as plain text, which the aws program encodes once', async () => {
  const { ec2 } = await withMachine()
  const text = Buffer.from(ec2.instanceOf(ID).userData, 'base64').toString()
  expect(text).toMatch(/^#cloud-config\n/)
  expect(text.length).toBeLessThan(4_096)
})

test('the private key in the user data goes through a file, which is gone afterwards, and never through argv', async () => {
  const { ec2, commands } = await withMachine()
  expect(Buffer.from(ec2.instanceOf(ID).userData, 'base64').toString()).toContain('PRIVATE HOST KEY')
  expect(JSON.stringify(commands)).not.toContain('PRIVATE HOST KEY')
  const file = commands.flat().find(word => word.startsWith('file://')) ?? ''
  expect(file).toContain('/aws/tmp-')
  expect(existsSync(file.slice('file://'.length))).toBe(false)
})

test('a machine has version 2 of the metadata service alone, one hop, and no role', async () => {
  const { ec2 } = await withMachine()
  const { metadata, profile, groups } = ec2.instanceOf(ID)
  expect(metadata).toEqual({ HttpEndpoint: 'enabled', HttpTokens: 'required', HttpPutResponseHopLimit: 1 })
  expect({ profile, groups }).toEqual({ profile: null, groups: ['sg-0aaaaaaaaaaaaaaaa'] })
})

test.for([
  ['t3.medium', 'on-demand', 'standard'],
  ['t3.medium', 'spot', 'standard'],
  ['m7i.large', 'on-demand', null],
] as const)(
  'a machine costs no more than its price, since it spends no credits: %s, %s',
  async ([type, market, credits]) => {
    const { ec2 } = await withMachine({ settings: { awsTypes: [type], awsMarket: market } })
    expect(ec2.instanceOf(ID)).toMatchObject({ type, credits })
  },
)

test('everything of a machine has its mark from the start', async () => {
  const { ec2 } = await withMachine({ settings: { awsMarket: 'spot' } })
  const instance = ec2.instanceOf(ID)
  const things = [instance, instance.interface, ...ec2.state.volumes.values(), ...ec2.state.requests.values()]
  expect(things).toHaveLength(4)
  for (const { tags } of things)
    expect(Object.fromEntries(tags.map(({ Key, Value }) => [Key, Value]))).toMatchObject({
      ...{ Name: ID, 'agent-swarm:vm': ID, 'agent-swarm:ticket': 'AB-1', 'agent-swarm:home': '00112233445566ff' },
    })
})

test("the root disk is sized by the image's own name of it, and goes with its machine", async () => {
  const { ec2 } = await withMachine()
  expect([...ec2.state.volumes.values()].map(({ size }) => size)).toEqual([20])
  expect(ec2.instanceOf(ID).mappings).toMatchObject([{ device: '/dev/xvda', goesAlong: true }])
})

test('a new machine that AWS does not show yet is waited for', async () => {
  const { ec2 } = await withMachine({ looks: { change: 3, shown: 4 } })
  expect(ec2.instancesOf(ID)).toHaveLength(1)
})

test('the same create again, after a crash that lost the answer, gets the same machine', async () => {
  const unit = open({ looks: { change: 1, shown: 3 } })
  let isDead = false
  unit.ec2.watch(({ action, when }) => {
    isDead ||= action === 'RunInstances' && when === 'after'
    if (isDead) throw new Error('killed')
  })
  await expect(unit.provider.createVm(null, BASE, awsOptions(ID))).rejects.toThrow('killed')
  unit.ec2.watch(() => {})
  expect(await unit.open().createVm(null, BASE, awsOptions(ID))).toMatchObject({ vmId: ID })
  expect(unit.ec2.instancesOf(ID)).toHaveLength(1)
})

test('a token of another launch with other settings: the machine is found by its mark', async () => {
  const unit = open({ looks: { change: 1, shown: 6 } })
  let isDead = false
  unit.ec2.watch(({ action, when }) => {
    isDead ||= action === 'RunInstances' && when === 'after'
    if (isDead) throw new Error('killed')
  })
  await expect(unit.provider.createVm('AB-1', BASE, awsOptions(ID))).rejects.toThrow('killed')
  unit.ec2.watch(() => {})
  const again = unit.open({ settings: { awsTypes: ['t3.large'] } })
  expect(await again.createVm('AB-1', BASE, awsOptions(ID))).toMatchObject({ vmId: ID, ticket: 'AB-1' })
  expect(unit.ec2.instancesOf(ID)).toHaveLength(1)
  expect(unit.ec2.instanceOf(ID).type).toBe('t3.medium')
})

test.for([
  ['shows at once', 0],
  ['shows after some looks', 6],
] as const)(
  'an interrupted launch that AWS %s, and keys that are new: one machine, with the new keys',
  async ([, shown]) => {
    const unit = open({ looks: { change: 1, shown } })
    let isDead = false
    unit.ec2.watch(({ action, when }) => {
      isDead ||= action === 'RunInstances' && when === 'after'
      if (isDead) throw new Error('killed')
    })
    await expect(unit.provider.createVm('AB-1', BASE, awsOptions(ID))).rejects.toThrow('killed')
    unit.ec2.watch(() => {})
    const hostKey = { privateKey: 'ANOTHER HOST KEY', publicKey: 'ssh-ed25519 CCCC host' }
    await unit.open().createVm('AB-1', BASE, { ...awsOptions(ID), hostKey })
    expect(unit.ec2.instancesOf(ID).map(({ state }) => state === 'terminated')).toEqual([true, false])
    const { userData } = unit.ec2.instanceOf(ID)
    expect(Buffer.from(userData, 'base64').toString()).toContain('ANOTHER HOST KEY')
    // A machine that is whole is left as it is.
    await unit.open().createVm('AB-1', BASE, awsOptions(ID))
    expect(unit.ec2.instanceOf(ID).userData).toBe(userData)
  },
)

test('an interrupted launch that AWS does not show yet is not made a second time', async () => {
  const unit = open({ looks: { change: 1, shown: 60 } })
  let isDead = false
  unit.ec2.watch(({ action, when }) => {
    isDead ||= action === 'RunInstances' && when === 'after'
    if (isDead) throw new Error('killed')
  })
  await expect(unit.provider.createVm('AB-1', BASE, awsOptions(ID))).rejects.toThrow('killed')
  unit.ec2.watch(() => {})
  for (const volume of unit.ec2.state.volumes.values()) volume.hidden = 60
  const hostKey = { privateKey: 'ANOTHER HOST KEY', publicKey: 'ssh-ed25519 CCCC host' }
  await expect(unit.open().createVm('AB-1', BASE, { ...awsOptions(ID), hostKey })).rejects.toMatchObject(
    failing('busy'),
  )
  expect(unit.ec2.instancesOf(ID)).toHaveLength(1)
})

test('a token of a machine that is terminated: the next attempt makes another one', async () => {
  const unit = await withMachine()
  unit.ec2.terminate(ID)
  await unit.provider.deleteVm(ID)
  await unit.provider.createVm('AB-1', BASE, awsOptions(ID))
  expect(unit.ec2.instancesOf(ID).map(({ state }) => state === 'terminated')).toEqual([true, false])
})

test('a machine that is terminated, and that AWS shows for an hour with its tags, is in no list and is not there', async () => {
  const { ec2, provider } = await withMachine()
  await provider.deleteVm(ID)
  const [shown] = ec2.instancesOf(ID)
  expect([shown?.state, tagValue(shown?.tags ?? [], 'agent-swarm:vm')]).toEqual(['terminated', ID])
  expect(await provider.listVms()).toEqual([])
  expect(await provider.leftovers?.()).toEqual([])
  await expect(provider.status(ID)).rejects.toMatchObject(failing('no-such-vm'))
  await expect(provider.startVm(ID)).rejects.toMatchObject(failing('no-such-vm'))
  await provider.deleteVm(ID)
})

test('tokens have 64 characters, and differ by machine and attempt', () => {
  expect(clientToken(ID, 'launch 1')).toMatch(/^[0-9a-f]{64}$/)
  expect(clientToken(ID, 'launch 1')).not.toBe(clientToken(ID, 'launch 2'))
})

test('a launch that AWS ends at once fails with its reason, and leaves nothing', async () => {
  const unit = open()
  unit.ec2.watch(({ action, when }) => {
    const [instance] = unit.ec2.instancesOf(ID)
    if (action !== 'RunInstances' || when !== 'after' || instance === undefined) return
    instance.changes = []
    instance.state = 'terminated'
    instance.reason = {
      Code: 'Client.VolumeLimitExceeded',
      Message: 'Client.VolumeLimitExceeded: Volume limit exceeded',
    }
    instance.mappings = []
    unit.ec2.state.volumes.clear()
    // It was shown as pending in the answer.
    instance.hidden = 0
  })
  const error = await unit.provider.createVm('AB-1', BASE, awsOptions(ID)).catch(thrown => thrown)
  expect(error).toMatchObject({
    failure: { kind: 'capacity', message: expect.stringContaining('Volume limit exceeded') },
  })
})

test.for([
  ['capacity', 'InsufficientInstanceCapacity'],
  ['capacity', 'VcpuLimitExceeded'],
  ['permission', 'UnauthorizedOperation'],
] as const)('a refused launch (%s, %s) leaves nothing, and does not look long', async ([kind, code]) => {
  const { ec2, provider } = open({ settings: { awsMarket: 'spot' } })
  const before = ec2.everything()
  ec2.failNext('RunInstances', code)
  await expect(provider.createVm('AB-1', BASE, awsOptions(ID))).rejects.toMatchObject(failing(kind))
  expect(ec2.everything()).toEqual(before)
  expect(ec2.calls.length).toBeLessThan(10)
})

test.for(['InternalError', 'RequestLimitExceeded'])(
  'a launch that AWS made and answered with trouble of its own (%s) leaves nothing',
  async code => {
    const { ec2, provider } = open({ looks: { change: 1, shown: 3 } })
    ec2.watch(({ action, when }) => {
      if (action !== 'RunInstances' || when !== 'after') return
      for (const volume of ec2.state.volumes.values()) volume.hidden = 3
      throw Object.assign(new Error('in trouble'), { code })
    })
    await expect(provider.createVm('AB-1', BASE, awsOptions(ID))).rejects.toThrow('in trouble')
    expect(ec2.instancesOf(ID)).toHaveLength(1)
    expect(ec2.everything()).toEqual([])
  },
)

test.for([
  ['no image', {}, 'no-such-image', 'other'],
  ['no type that is large enough', { cpus: 64 }, 'not-configured', BASE],
  ['a disk that is smaller than the image', { diskGiB: 4 }, 'usage', BASE],
] as const)('%s: nothing is made', async ([, more, kind, image]) => {
  const { ec2, provider } = open()
  await expect(provider.createVm('AB-1', image, { ...awsOptions(ID), ...more })).rejects.toMatchObject(failing(kind))
  expect(actions({ ec2 })).not.toContain('RunInstances')
})

test('the smallest allowed type that has the size is taken, and asked for once', async () => {
  const unit = await withMachine()
  expect(unit.ec2.instanceOf(ID).type).toBe('t3.medium')
  await unit.provider.createVm('AB-2', BASE, { ...awsOptions('as-ab-2-00000002'), memoryMiB: 5000 })
  expect(unit.ec2.instanceOf('as-ab-2-00000002').type).toBe('t3.large')
  expect(actions(unit).filter(action => action === 'DescribeInstanceTypes')).toHaveLength(1)
})

test('without a security group nothing is made, and it says which setting is missing', async () => {
  const { provider } = open({ settings: { awsSecurityGroup: null } })
  expect(await provider.available()).toMatchObject({
    available: false,
    remedy: expect.stringContaining('AGENT_SWARM_AWS_SECURITY_GROUP'),
  })
})

test('a machine whose type is larger than what was asked for keeps the promise of its usage', async () => {
  const { provider } = open()
  const options = { ...awsOptions(ID), memoryMiB: 6144 }
  await provider.createVm('AB-1', BASE, options)
  await provider.startVm(ID)
  expect((await provider.usage?.())?.get(ID)).toMatchObject({ cpus: 2, memoryBytes: 8 * 1024 ** 3 })
  const promise = promises.find(({ needs }) => needs === 'usage')
  await promise?.run({ provider, options: async () => options, first: { vmId: ID } } as unknown as Bench)
  expect(promise).toBeDefined()
})

// ── Start and stop ──

test('a machine has another address after a stop and a start', async () => {
  const { ec2, provider } = await withMachine()
  const before = await provider.sshInfo(ID)
  await provider.stopVm(ID)
  expect(ec2.instanceOf(ID).publicIp).toBeNull()
  await expect(provider.sshInfo(ID)).rejects.toMatchObject(failing('no-address-yet'))
  await provider.startVm(ID)
  const after = await provider.sshInfo(ID)
  expect(after).toMatchObject({ port: 22, user: 'agent' })
  expect(after.host).not.toBe(before.host)
})

test('a start while it still stops waits for the stop', async () => {
  const { ec2, provider } = await withMachine({ looks: { change: 3, shown: 1 } })
  ec2.call('StopInstances', { InstanceIds: [ec2.instanceOf(ID).id] })
  expect(await provider.status(ID)).toBe('creating')
  await provider.startVm(ID)
  expect(await provider.status(ID)).toBe('running')
})

test('a guest that does not shut down is powered off', async () => {
  const unit = await withMachine()
  let stops = 0
  unit.ec2.watch(({ action, input, when }) => {
    if (action !== 'StopInstances' || when !== 'after') return
    stops += 1
    const instance = unit.ec2.instanceOf(ID)
    if (input.Force !== true) instance.changes = [{ looks: 10_000, apply: () => {} }]
    else instance.state = 'stopped'
  })
  await unit.provider.stopVm(ID)
  expect(stops).toBe(2)
})

// ── Marks ──

test('a machine without a home in its mark is ours when the registry knows it, and gets our home', async () => {
  const unit = await withMachine()
  const instance = unit.ec2.instanceOf(ID)
  instance.tags = instance.tags.filter(({ Key }) => Key !== 'agent-swarm:home')
  await expect(unit.provider.deleteVm(ID)).rejects.toMatchObject(failing('not-ours'))
  expect(await unit.provider.listForeign?.()).toEqual([{ vmId: ID, ticket: 'AB-1', homeId: null }])
  expect(await unit.open({ knows: () => true }).listVms()).toHaveLength(1)
  expect(await unit.provider.status(ID)).toBe('running')
})

test('tags that somebody else wrote are read as nothing, or as no machine', async () => {
  const { ec2, provider } = await withMachine()
  const instance = ec2.instanceOf(ID)
  const ticket = instance.tags.find(({ Key }) => Key === 'agent-swarm:ticket')
  if (ticket !== undefined) ticket.Value = '../../x; rm -rf /'
  expect(await provider.listVms()).toMatchObject([{ vmId: ID, ticket: null }])
  const vm = instance.tags.find(({ Key }) => Key === 'agent-swarm:vm')
  if (vm !== undefined) vm.Value = '-rf'
  expect(await provider.listVms()).toEqual([])
})

test('of two instances with one mark none is changed', async () => {
  const { ec2, provider } = await withMachine()
  const other = ec2.call('RunInstances', {
    ...{ ImageId: [...ec2.state.images.keys()][0], InstanceType: 't3.small', ClientToken: 'x' },
    TagSpecifications: [{ ResourceType: 'instance', Tags: ec2.instanceOf(ID).tags }],
  })
  expect(other).toBeDefined()
  ec2.call('DescribeInstances', {})
  for (const change of [provider.stopVm, provider.deleteVm])
    await expect(change(ID)).rejects.toMatchObject(failing('refused'))
  expect(await provider.listVms()).toHaveLength(1)
  expect(ec2.instancesOf(ID).map(({ state }) => state)).toEqual(['running', expect.stringMatching(/pending|running/)])
})

test('a ticket is written on everything that the machine has', async () => {
  const { ec2, provider } = await withMachine({ settings: { awsMarket: 'spot' } })
  await provider.assign?.(ID, 'AB-7')
  const instance = ec2.instanceOf(ID)
  const things = [instance, instance.interface, ...ec2.state.volumes.values(), ...ec2.state.requests.values()]
  expect(things.map(({ tags }) => tagValue(tags, 'agent-swarm:ticket'))).toEqual(['AB-7', 'AB-7', 'AB-7', 'AB-7'])
})

// ── Spot ──

test('a Spot machine is stopped and started; AWS alone starts one that it interrupted, which is reported', async () => {
  const { ec2, provider } = await withMachine({ settings: { awsMarket: 'spot' } })
  await provider.stopVm(ID)
  await provider.startVm(ID)
  const told = async () =>
    (await provider.diagnose?.(new AbortController().signal))?.map(({ status, text }) => `${status}: ${text}`)
  expect(await told()).toContain('ok: AWS has interrupted no Spot machine')
  ec2.interrupt(ID)
  await expect(provider.startVm(ID)).rejects.toMatchObject({
    failure: { kind: 'busy', remedy: expect.stringContaining('AWS alone starts it again') },
  })
  expect(await told()).toContainEqual(
    expect.stringMatching(/^warning: AWS interrupts Spot machines.*instance-stopped-no-capacity/),
  )
})

test('that AWS takes a Spot machine back is reported with its machine, and its end with its cause', async () => {
  const { ec2, provider } = await withMachine({ settings: { awsMarket: 'spot' } })
  const only = async () => (await provider.listVms())[0]
  expect(await only()).not.toHaveProperty('interruption')
  ec2.announce(ID)
  expect(await only()).toMatchObject({
    status: 'running',
    interruption: {
      ...{ state: 'announced', by: 'AWS' },
      cause: 'marked-for-stop: Your Spot instance is marked for stop',
    },
  })
  ec2.interrupt(ID)
  const instance = ec2.instanceOf(ID)
  instance.state = 'stopping'
  expect(await only()).toMatchObject({ status: 'creating', interruption: { state: 'announced' } })
  instance.state = 'stopped'
  expect(await only()).toMatchObject({
    status: 'stopped',
    interruption: { state: 'stopped', cause: expect.stringMatching(/^instance-stopped-no-capacity: There is no Spot/) },
  })
  ec2.bringBack(ID)
  await provider.startVm(ID)
  expect(await only()).toMatchObject({ status: 'running' })
  expect(await only()).not.toHaveProperty('interruption')
  expect(await provider.endings?.()).toEqual(new Map())
  // One that somebody stopped is not interrupted.
  await provider.stopVm(ID)
  expect(await only()).not.toHaveProperty('interruption')
  ec2.terminate(ID, 'Server.SpotInstanceTermination')
  expect(await provider.endings?.()).toEqual(new Map([[ID, 'AWS says: Server.SpotInstanceTermination']]))
})

test('a profile of the aws program is named in each command, and in the diagnosis', async () => {
  const { commands, provider } = await withMachine({ settings: { awsProfile: 'swarm' } })
  expect(commands.length).toBeGreaterThan(3)
  for (const argv of commands) expect(argv.slice(argv.indexOf('--profile'))).toEqual(['--profile', 'swarm'])
  const [first] = (await provider.diagnose?.(new AbortController().signal)) ?? []
  expect(first?.text).toContain('AWS knows this host by the profile swarm, and machines')
  const nobody = open({ settings: { awsProfile: 'nobody' } })
  expect(await nobody.provider.available()).toMatchObject({
    available: false,
    reason: expect.stringContaining('(nobody) could not be found'),
    remedy: expect.stringContaining('AGENT_SWARM_AWS_PROFILE'),
  })
})

test('the diagnosis names the program with its version, group, images and what is not isolated, and no account', async () => {
  const { provider } = open()
  const rows = await provider.diagnose?.(new AbortController().signal)
  expect(rows?.map(({ status, text }) => `${status}: ${text.slice(0, 60)}`)).toEqual([
    'ok: aws-cli 2.9.19; AWS knows this host, and machines are in eu-',
    'ok: the security group sg-0aaaaaaaaaaaaaaaa lets somebody in at ',
    `ok: base images: ${BASE}`,
    'warning: machines are not isolated: on EC2, a machine reaches the met',
  ])
  expect(JSON.stringify(rows)).not.toMatch(/arn:|123456789012/)
  expect(await provider.isolated?.()).toMatchObject({
    isolated: false,
    reason: expect.stringMatching(
      /169\.254\.169\.254.*lets in tcp 22 from 198\.51\.100\.7\/32, and out everything to 0\.0\.0\.0\/0$/,
    ),
  })
})

// ── Prices ──

test("a machine's price comes from AWS's list, is asked for once a day, and has its date", async () => {
  const unit = await withMachine()
  const today = new Date().toISOString().slice(0, 10)
  const price = { usdPerHour: 0.048, isUpperBound: false, at: today, source: 'pricing get-products' }
  expect(await unit.provider.prices?.()).toEqual(new Map([[ID, price]]))
  await unit.provider.createVm('AB-2', BASE, awsOptions('as-ab-2-00000002'))
  expect(actions(unit).filter(action => action === 'GetProducts')).toHaveLength(1)
  const argv = unit.commands.find(words => words[0] === 'pricing') ?? []
  expect(argv.slice(argv.indexOf('--region'))).toEqual(['--region', 'us-east-1'])
  expect(readFileSync(`${unit.home}/aws/prices.json`, 'utf8')).toContain('eu-central-1 t3.medium')
})

test("the operator's prices are told with their date, and nobody is asked", async () => {
  const awsPrices = { date: '2026-11-01', hourly: { 't3.medium': 0.05 } }
  const unit = await withMachine({ settings: { awsPrices } })
  const price = { usdPerHour: 0.05, isUpperBound: false, at: '2026-11-01', source: 'awsPrices' }
  expect(await unit.provider.prices?.()).toEqual(new Map([[ID, price]]))
  expect(actions(unit)).not.toContain('GetProducts')
  const spot = unit.open({ settings: { awsPrices, awsMarket: 'spot' } })
  await spot.createVm('AB-2', BASE, awsOptions('as-ab-2-00000002'))
  expect((await spot.prices?.())?.get('as-ab-2-00000002')).toEqual({ ...price, isUpperBound: true })
})

test('without the right to ask for prices, machines are made and their price is unknown; Spot costs at most the list', async () => {
  const unit = open({ settings: { awsMarket: 'spot' } })
  unit.ec2.failNext('GetProducts', 'AccessDeniedException')
  await unit.provider.createVm('AB-1', BASE, awsOptions(ID))
  const priceOf = async () => (await unit.provider.prices?.())?.get(ID)
  expect(await priceOf()).toMatchObject({ usdPerHour: null, at: null })
  const asked = () => actions(unit).filter(action => action === 'GetProducts').length
  // An answer without a price counts as one, too.
  await unit.provider.createVm('AB-2', BASE, awsOptions('as-ab-2-00000002'))
  expect([asked(), await priceOf()]).toMatchObject([1, { usdPerHour: null }])
  const dayPasses = () => {
    const file = `${unit.home}/aws/prices.json`
    writeFileSync(
      file,
      readFileSync(file, 'utf8').replaceAll(/"(\d{4})-(?=[^"]*T)/g, (_, year) => `"${year - 1}-`),
    )
  }
  dayPasses()
  await unit.provider.createVm('AB-3', BASE, awsOptions('as-ab-3-00000003'))
  expect([asked(), await priceOf()]).toMatchObject([2, { usdPerHour: 0.048, isUpperBound: true }])
  dayPasses()
  unit.ec2.failNext('GetProducts', 'AccessDeniedException')
  await unit.provider.createVm('AB-4', BASE, awsOptions('as-ab-4-00000004'))
  const lastYear = String(new Date().getUTCFullYear() - 1)
  expect([asked(), await priceOf()]).toMatchObject([3, { usdPerHour: 0.048, at: expect.stringContaining(lastYear) }])
})
