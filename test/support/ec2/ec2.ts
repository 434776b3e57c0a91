/** The whole of it: requests in the names of AWS's model, what goes wrong on purpose, and what somebody does by hand. */
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { inGuest } from './cloud-init.ts'
import { diskActions, publishImage } from './disks.ts'
import { announce, bringBack, end, instanceActions, interrupt } from './instances.ts'
import { accountActions, GROUP, type Input } from './requests.ts'
import { type Ec2Options, type Instance, openState, refuse, type State, type Tag } from './state.ts'

export { GROUP }

const LIST: Readonly<Record<string, string>> = { 't3.small': '0.0240', 't3.medium': '0.0480', 't3.large': '0.0960' }

/** A product of AWS's price list, which is JSON in a string. */
const getProducts = (_: State, input: Input) => {
  const wanted = new Map(
    (input.Filters as { Field: string; Value: string }[]).map(({ Field, Value }) => [Field, Value]),
  )
  const price = LIST[wanted.get('instanceType') ?? '']
  const product = {
    product: { productFamily: 'Compute Instance', attributes: Object.fromEntries(wanted), sku: 'ABC' },
    serviceCode: 'AmazonEC2',
    terms: {
      OnDemand: {
        'ABC.JRTCKXETXF': {
          priceDimensions: { 'ABC.JRTCKXETXF.6YS6EN2CT7': { unit: 'Hrs', pricePerUnit: { USD: `${price}000000` } } },
          sku: 'ABC',
        },
      },
    },
  }
  return { FormatVersion: 'aws_v1', PriceList: price === undefined ? [] : [JSON.stringify(product)] }
}

const actions: Readonly<Record<string, (state: State, input: Input) => Input>> = {
  ...accountActions,
  ...instanceActions,
  ...diskActions,
  GetCallerIdentity: () => ({ UserId: 'AIDA', Account: '123456789012', Arn: 'arn:aws:iam::123456789012:user/swarm' }),
  GetProducts: getProducts,
}

type Call = { action: string; input: Input }
/** `when` 'after': it was done, and the answer is lost. */
export type OnCall = (call: Call & { at: number; when: 'before' | 'after' }) => void

export const openEc2 = (options: Partial<Ec2Options> = {}) => {
  const root = mkdtempSync(join(tmpdir(), 'agent-swarm-ec2-'))
  const folder = join(root, 'disks')
  mkdirSync(folder)
  const state = openState({ folder, ...options })
  const calls: Call[] = []
  const faults: { action: string; code: string; message: string }[] = []
  let onCall: OnCall = () => {}
  const call = (action: string, input: Input): Input => {
    const at = calls.length
    calls.push({ action, input })
    state.requestsMade += 1
    onCall({ action, input, at, when: 'before' })
    const fault = faults.findIndex(each => each.action === action)
    const [planned] = fault === -1 ? [] : faults.splice(fault, 1)
    if (planned !== undefined) throw refuse(planned.code, planned.message)
    const work = actions[action]
    if (work === undefined) throw refuse('InvalidAction', `The action ${action} is not valid for this web service.`)
    const answer = work(state, input)
    onCall({ action, input, at, when: 'after' })
    return answer
  }
  const instancesOf = (vmId: string): Instance[] =>
    [...state.instances.values()].filter(({ tags }) => tagValue(tags, 'agent-swarm:vm') === vmId)
  const only = (vmId: string): Instance => {
    const present = instancesOf(vmId).filter(instance => instance.state !== 'terminated')
    const [first] = present
    if (first === undefined || present.length > 1) throw new Error(`${vmId} has ${present.length} instances`)
    return first
  }
  const rootFolder = (vmId: string): string => {
    const instance = only(vmId)
    const volume = instance.mappings.find(({ device }) => device === instance.rootDevice)?.volume
    if (volume === undefined) throw new Error(`${vmId} has no root volume`)
    return state.disk(volume)
  }
  return {
    state,
    root,
    calls,
    call,
    /** The one profile of the aws program. */
    profile: 'swarm',
    /** The next request for the action fails. */
    failNext: (action: string, code: string, message = 'on purpose') => faults.push({ action, code, message }),
    watch: (work: OnCall) => {
      onCall = work
    },
    publishImage: (more?: Parameters<typeof publishImage>[1]) => publishImage(state, more),
    /** A base image of agent-swarm, as its build leaves it. */
    baseImage: (name: string, home: string): string => {
      const id = publishImage(state)
      const tags = { 'agent-swarm:image': name, 'agent-swarm:home': home, 'agent-swarm:proven': 'minimal' }
      state.images.get(id)?.tags.push(...Object.entries(tags).map(([Key, Value]) => ({ Key, Value })))
      return id
    },
    instanceOf: only,
    instancesOf,
    rootFolder,
    announce: (vmId: string) => announce(state, only(vmId).id),
    bringBack: (vmId: string) => bringBack(state, only(vmId).id),
    interrupt: (vmId: string) => interrupt(state, only(vmId).id),
    /** Somebody terminates it in the console, or AWS does. */
    terminate: (vmId: string, code = 'Client.UserInitiatedShutdown') => end(state, only(vmId), code),
    /** Runs a script with the machine's disk as its home. */
    script: async (vmId: string, text: string): Promise<string> => {
      const instance = only(vmId)
      if (instance.state !== 'running') throw new Error(`${vmId} is ${instance.state}`)
      const disk = rootFolder(vmId)
      const { stdout } = await promisify(execFile)('/bin/sh', ['-c', inGuest(text)], {
        cwd: disk,
        env: { HOME: disk, PATH: process.env.PATH },
      })
      return stdout.trimEnd()
    },
    /** Everything that exists and costs, by id. */
    everything: (): string[] =>
      [
        ...[...state.instances.values()].filter(each => each.state !== 'terminated').map(({ id }) => id),
        ...state.volumes.keys(),
        ...state.snapshots.keys(),
        ...[...state.images.values()].filter(({ isRegistered }) => isRegistered).map(({ id }) => id),
        ...[...state.requests.values()].filter(each => each.state !== 'cancelled').map(({ id }) => id),
      ].sort(),
    close: () => rmSync(root, { recursive: true, force: true }),
  }
}
export type Ec2 = ReturnType<typeof openEc2>

export const tagValue = (tags: readonly Tag[], key: string): string | null =>
  tags.find(({ Key }) => Key === key)?.Value ?? null
