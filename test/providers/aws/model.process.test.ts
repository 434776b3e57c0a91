/** Inputs that no promise sends: the real `aws` program compares them with AWS's own model, and asks nobody. */
import { spawnSync } from 'node:child_process'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { GuestAccess } from '../../../providers/provider.ts'
import { awsOptions, BASE, openUnit } from '../../support/ec2/bench.ts'
import { guestOn } from '../../support/ec2/guest.ts'
import { noAws } from '../../support/ec2/program.ts'

const ID = 'as-ab-1-00000001'
const FORK = 'as-ab-1-1-00000002'
const WANTED = [
  ...['RunInstances', 'CancelSpotInstanceRequests', 'DescribeSecurityGroups', 'CreateImage', 'DeregisterImage'],
  ...['DeleteVolume', 'GetProducts', 'DescribeTags', 'RegisterImage', 'DescribeImages', 'DescribeSnapshots'],
]

/** The inputs of a life with Spot, an image of its own, a fork, and a disk that stays. */
const inputs = async (): Promise<Map<string, object>> => {
  const { ec2, provider } = openUnit({ settings: { awsMarket: 'spot', awsSubnet: 'subnet-0bbbbbbbbbbbbbbbb' } })
  onTestFinished(ec2.close)
  const guest = guestOn(ec2)
  let made = 0
  const access: GuestAccess = {
    ...{ publicKey: 'ssh-ed25519 A', hostKey: { privateKey: 'P', publicKey: 'ssh-ed25519 B' } },
    run: async ({ host }, script) => {
      const instance = [...ec2.state.instances.values()].find(({ publicIp }) => publicIp === host)
      const vmId = instance?.tags.find(({ Key }) => Key === 'agent-swarm:vm')?.Value ?? ''
      return guest(vmId, script === 'true' ? 'true' : 'sudo -n sh -s', script)
    },
  }
  await provider.buildBase?.({
    ...{ name: 'other', setup: { profile: 'minimal', extra: [] }, onPhase: () => {} },
    from: { kind: 'reference', reference: ec2.publishImage() },
    newMachine: () => {
      made += 1
      return `as-base-${String(made).padStart(8, '0')}`
    },
    signal: new AbortController().signal,
    guest: access,
    proofGuest: access,
  })
  await provider.deleteBaseImage?.('other')
  await provider.isolated?.()
  await provider.leftovers?.()
  await provider.createVm('AB-1', BASE, awsOptions(ID))
  const { publicKey, hostKey } = awsOptions(FORK)
  await provider.fork?.(ID, null, [{ vmId: FORK, ticket: 'AB-1~1', publicKey, hostKey }])
  const instance = ec2.instanceOf(ID)
  instance.mappings = instance.mappings.map(mapping => ({ ...mapping, goesAlong: false }))
  await provider.deleteVm(ID)
  return new Map(ec2.calls.map(({ action, input }) => [action, input]))
}

const kebab = (action: string) => action.replaceAll(/(?<=.)[A-Z]/g, letter => `-${letter}`).toLowerCase()
/** The program's own check of an input, without a request. */
const check = (action: string, input: object): { code: number | null; stderr: string } => {
  const service = action === 'GetProducts' ? 'pricing' : 'ec2'
  const argv = [service, kebab(action), '--cli-input-json', JSON.stringify(input), '--generate-cli-skeleton', 'output']
  const env = { PATH: '/usr/bin:/bin', HOME: '/nonexistent', AWS_ACCESS_KEY_ID: 'x', AWS_SECRET_ACCESS_KEY: 'x' }
  const { status, stderr } = spawnSync('/usr/bin/aws', [...argv, '--region', 'eu-central-1'], { env, encoding: 'utf8' })
  return { code: status, stderr }
}

const missing = noAws()
describe.skipIf(missing !== null)(`the real aws${missing === null ? '' : ` (left out: ${missing})`}`, () => {
  test('takes every input', { timeout: 300_000 }, async () => {
    const sent = await inputs()
    for (const action of WANTED)
      expect([action, check(action, sent.get(action) ?? {})]).toEqual([action, { code: 0, stderr: '' }])
    // The check itself.
    expect(check('DeleteVolume', { Volume: 'vol-1' })).toMatchObject({ code: 252 })
  })
})
