/** What AWS does with snapshots, images and root volumes. */
import { byToken, checkTags, filtersOf, type Input, passes, tagsFor } from './requests.ts'
import {
  copyDisk,
  type Image,
  type ImageKind,
  type Instance,
  later,
  lookAt,
  passTime,
  refuse,
  removeDisk,
  type Snapshot,
  type State,
  type Tag,
  type Task,
  type Volume,
} from './state.ts'

const MOST_PENDING = 5

const makeSnapshot = (state: State, volume: Volume, tags: readonly Tag[]): Snapshot => {
  const id = state.newId('snap')
  const snapshot: Snapshot = {
    ...state.thing(tags),
    ...{ id, volume: volume.id, size: volume.size, state: 'pending', lineage: volume.lineage, startedAt: state.now() },
  }
  // Its moment is that of the request.
  copyDisk(state, volume.id, id)
  state.snapshots.set(id, snapshot)
  later(state, snapshot, () => {
    snapshot.state = 'completed'
  })
  return snapshot
}

const show = ({ id, volume, size, state, startedAt, tags }: Snapshot) => ({
  ...{ SnapshotId: id, VolumeId: volume, VolumeSize: size, State: state, StartTime: startedAt, Tags: tags },
})

const createSnapshot = (state: State, input: Input) => {
  checkTags(input, 'snapshot')
  const volume = state.volumes.get(String(input.VolumeId))
  if (volume === undefined) throw refuse('InvalidVolume.NotFound', `The volume '${input.VolumeId}' does not exist.`)
  const pending = [...state.snapshots.values()].filter(each => each.volume === volume.id && each.state === 'pending')
  if (pending.length >= MOST_PENDING)
    throw refuse(
      'ConcurrentSnapshotLimitExceeded',
      'Maximum allowed in-progress snapshots for a single volume exceeded.',
    )
  const last = state.lastSnapshot.get(volume.id)
  if (last !== undefined && state.requestsMade - last < state.snapshotEvery)
    throw refuse(
      'SnapshotCreationPerVolumeRateExceeded',
      'The maximum per volume CreateSnapshot request rate has been exceeded.',
    )
  state.lastSnapshot.set(volume.id, state.requestsMade)
  return show(makeSnapshot(state, volume, tagsFor(input, 'snapshot')))
}

const describeSnapshots = (state: State, input: Input) => {
  const seen = [...state.snapshots.values()].filter(
    snapshot =>
      lookAt(snapshot) &&
      passes(snapshot.tags, filtersOf(input), { status: snapshot.state, 'snapshot-id': snapshot.id }),
  )
  const answer = seen.map(show)
  passTime(seen)
  return { Snapshots: answer }
}

const deleteSnapshot = (state: State, id: string): Input => {
  const snapshot = state.snapshots.get(id)
  if (snapshot === undefined) throw refuse('InvalidSnapshot.NotFound', `The snapshot '${id}' does not exist.`)
  const image = [...state.images.values()].find(each => each.snapshot === id)
  if (image !== undefined)
    throw refuse('InvalidSnapshot.InUse', `The snapshot ${id} is currently in use by ${image.id}`)
  state.snapshots.delete(id)
  removeDisk(state, id)
  return {}
}

// ── Replace root volume ──

const rootOf = (instance: Instance) => {
  const mapping = instance.mappings.find(({ device }) => device === instance.rootDevice)
  if (mapping === undefined) throw refuse('IncorrectState', 'The instance has no root volume.')
  return mapping
}

/** The new volume has no tags: those of the request are the task's. */
const replace = (state: State, task: Task, deletesOld: boolean): void => {
  const instance = state.instances.get(task.instance)
  const snapshot = state.snapshots.get(task.snapshot)
  if (instance === undefined || snapshot === undefined || instance.state !== 'running') {
    task.state = 'failed'
    return
  }
  const mapping = rootOf(instance)
  const former = state.volumes.get(mapping.volume)
  const id = state.newId('vol')
  const volume: Volume = {
    ...state.thing(),
    hidden: 0,
    id,
    size: former?.size ?? snapshot.size,
    state: 'in-use',
    lineage: snapshot.lineage,
  }
  copyDisk(state, snapshot.id, id)
  state.volumes.set(id, volume)
  mapping.volume = id
  task.state = 'succeeded'
  if (former === undefined) return
  former.state = 'available'
  if (!deletesOld) return
  state.volumes.delete(former.id)
  removeDisk(state, former.id)
}

const createTask = (state: State, input: Input): string => {
  checkTags(input, 'replace-root-volume-task')
  const instance = state.instances.get(String(input.InstanceId))
  if (instance === undefined)
    throw refuse('InvalidInstanceID.NotFound', `The instance ID '${input.InstanceId}' does not exist`)
  if (instance.state !== 'running')
    throw refuse('IncorrectInstanceState', `The instance ${instance.id} is not in the running state.`)
  const snapshot = state.snapshots.get(String(input.SnapshotId))
  if (snapshot === undefined)
    throw refuse('InvalidSnapshot.NotFound', `The snapshot '${input.SnapshotId}' does not exist.`)
  if (snapshot.state !== 'completed') throw refuse('IncorrectState', `The snapshot ${snapshot.id} is not completed.`)
  if (snapshot.lineage !== state.volumes.get(rootOf(instance).volume)?.lineage)
    throw refuse('InvalidParameterValue', `The snapshot ${snapshot.id} is not in the lineage of the root volume.`)
  const busy = [...state.tasks.values()].some(
    each => each.instance === instance.id && /pending|in-progress/.test(each.state),
  )
  if (busy) throw refuse('IncorrectState', 'A root volume replacement task is already in progress.')
  const tags = tagsFor(input, 'replace-root-volume-task')
  const task: Task = {
    ...state.thing(tags),
    id: state.newId('replacevol'),
    instance: instance.id,
    snapshot: snapshot.id,
    state: 'pending',
  }
  state.tasks.set(task.id, task)
  const isFailing = state.failingTasks > 0
  if (isFailing) state.failingTasks -= 1
  later(state, task, () => {
    task.state = isFailing ? 'failing' : 'in-progress'
    later(state, task, () => {
      if (isFailing) task.state = 'failed'
      else replace(state, task, input.DeleteReplacedRootVolume === true)
    })
  })
  return task.id
}

const showTask = ({ id, instance, snapshot, state, tags }: Task) => ({
  ...{ ReplaceRootVolumeTaskId: id, InstanceId: instance, SnapshotId: snapshot, TaskState: state, Tags: tags },
})

const describeTasks = (state: State, input: Input) => {
  const ids = input.ReplaceRootVolumeTaskIds as string[] | undefined
  const seen = [...state.tasks.values()].filter(
    task => (ids?.includes(task.id) ?? true) && passes(task.tags, filtersOf(input), { 'instance-id': task.instance }),
  )
  const answer = seen.map(showTask)
  passTime(seen)
  return { ReplaceRootVolumeTasks: answer }
}

// ── Images ──

/** Of an image, and of an instance that was made of it. */
export const showKind = ({ architecture, virtualization, ena, bootMode, platform }: ImageKind) => ({
  ...{ Architecture: architecture, VirtualizationType: virtualization, EnaSupport: ena, PlatformDetails: platform },
  ...(bootMode === null ? {} : { BootMode: bootMode }),
})

const showImage = (image: Image) => ({
  ...{ ImageId: image.id, Name: image.name, State: image.state, ...showKind(image.kind) },
  ...{ RootDeviceName: image.rootDevice, RootDeviceType: 'ebs', CreationDate: '2026-11-28T09:00:00.000Z' },
  BlockDeviceMappings: [{ DeviceName: image.rootDevice, Ebs: { SnapshotId: image.snapshot, VolumeSize: image.size } }],
  Tags: image.tags,
})

/** Nobody tags the images of others here. */
const isOwn = ({ isRegistered, tags }: Image): boolean => isRegistered || tags.length > 0

const describeImages = (state: State, input: Input) => {
  const ids = input.ImageIds as string[] | undefined
  const missing = ids?.find(id => !state.images.has(id) || (state.images.get(id)?.hidden ?? 0) > 0)
  for (const image of state.images.values()) lookAt(image)
  if (missing !== undefined) throw refuse('InvalidAMIID.NotFound', `The image id '[${missing}]' does not exist`)
  const seen = [...state.images.values()].filter(
    image =>
      (ids?.includes(image.id) ?? true) &&
      ((input.Owners as string[] | undefined)?.includes('self') !== true || isOwn(image)) &&
      (ids !== undefined || image.hidden === 0) &&
      passes(image.tags, filtersOf(input), { name: image.name, state: image.state }),
  )
  const answer = seen.map(image => showImage(image))
  passTime(seen)
  return { Images: answer }
}

const newName = (state: State, input: Input): string => {
  const name = String(input.Name)
  if (!/^[\w()[\] ./'@-]{3,128}$/.test(name)) throw refuse('InvalidAMIName.Malformed', `AMI name ${name} is invalid.`)
  const existing = [...state.images.values()].find(image => image.name === name)
  if (existing !== undefined)
    throw refuse('InvalidAMIName.Duplicate', `AMI name ${name} is already in use by AMI ${existing.id}`)
  return name
}

/** Of a snapshot, with AWS's defaults for what the request does not say. A licence that the snapshot does not tell is lost. */
const registerImage = (state: State, input: Input) => {
  const name = newName(state, input)
  const rootDevice = String(input.RootDeviceName)
  const mappings = (input.BlockDeviceMappings ?? []) as { DeviceName: string; Ebs: { SnapshotId: string } }[]
  const id = mappings.find(({ DeviceName }) => DeviceName === rootDevice)?.Ebs.SnapshotId
  const snapshot = state.snapshots.get(String(id))
  if (snapshot === undefined) throw refuse('InvalidSnapshot.NotFound', `The snapshot '${id}' does not exist.`)
  if (snapshot.state !== 'completed') throw refuse('IncorrectState', `Snapshot '${id}' is not 'completed'.`)
  const image: Image = {
    ...{ ...state.thing(), id: state.newId('ami'), name, state: 'pending', rootDevice },
    ...{ snapshot: snapshot.id, size: snapshot.size, isRegistered: true },
    kind: {
      architecture: String(input.Architecture ?? 'i386'),
      virtualization: input.VirtualizationType === 'hvm' ? 'hvm' : 'paravirtual',
      ena: input.EnaSupport === true,
      bootMode: input.BootMode === undefined ? null : String(input.BootMode),
      platform: 'Linux/UNIX',
    },
  }
  state.images.set(image.id, image)
  later(state, image, () => {
    image.state = 'available'
  })
  return { ImageId: image.id }
}

const createImage = (state: State, input: Input) => {
  checkTags(input, 'image', 'snapshot')
  const name = newName(state, input)
  const instance = state.instances.get(String(input.InstanceId))
  if (instance === undefined)
    throw refuse('InvalidInstanceID.NotFound', `The instance ID '${input.InstanceId}' does not exist`)
  const volume = state.volumes.get(rootOf(instance).volume) as Volume
  const snapshot = makeSnapshot(state, volume, tagsFor(input, 'snapshot'))
  const image: Image = {
    ...state.thing(tagsFor(input, 'image')),
    ...{ id: state.newId('ami'), name, state: 'pending', rootDevice: instance.rootDevice },
    ...{ snapshot: snapshot.id, size: volume.size, kind: instance.kind, isRegistered: false },
  }
  state.images.set(image.id, image)
  later(state, image, () => {
    snapshot.state = 'completed'
    image.state = 'available'
  })
  return { ImageId: image.id }
}

const deregister = (state: State, id: string): Input => {
  if (!state.images.delete(id)) throw refuse('InvalidAMIID.Unavailable', `The image ID '${id}' is no longer available`)
  return {}
}

/** An image that somebody else published. */
export const publishImage = (
  state: State,
  { size = 8, ...kind }: Partial<ImageKind & Pick<Image, 'size'>> = {},
): string => {
  const snapshotId = state.newId('snap')
  copyDisk(state, null, snapshotId)
  const image: Image = {
    ...{ ...state.thing(), hidden: 0, id: state.newId('ami'), name: `debian-${state.images.size}`, state: 'available' },
    ...{ rootDevice: '/dev/xvda', snapshot: snapshotId, size, isRegistered: false },
    kind: {
      ...{
        architecture: 'x86_64',
        virtualization: 'hvm',
        ena: true,
        bootMode: 'uefi-preferred',
        platform: 'Linux/UNIX',
      },
      ...kind,
    },
  }
  state.images.set(image.id, image)
  return image.id
}

const tagged = (state: State, id: string) => {
  const kinds = [state.instances, state.volumes, state.snapshots, state.images, state.requests, state.tasks]
  const card = [...state.instances.values()].find(instance => instance.interface.id === id)?.interface
  const thing = card ?? kinds.map(kind => kind.get(id)).find(each => each !== undefined)
  if (thing === undefined) throw refuse('InvalidID', `The ID '${id}' is not valid`)
  return thing
}

const createTags = (state: State, input: Input): Input => {
  const things = (input.Resources as string[]).map(id => tagged(state, id))
  for (const { tags } of things)
    for (const { Key, Value } of input.Tags as Tag[]) {
      const at = tags.findIndex(each => each.Key === Key)
      tags.splice(at === -1 ? tags.length : at, 1, { Key, Value })
    }
  return {}
}

export const diskActions = {
  CreateSnapshot: createSnapshot,
  DescribeSnapshots: describeSnapshots,
  DeleteSnapshot: (state: State, input: Input) => deleteSnapshot(state, String(input.SnapshotId)),
  CreateReplaceRootVolumeTask: (state: State, input: Input) => {
    const id = byToken(state, 'CreateReplaceRootVolumeTask', input, () => createTask(state, input))
    return { ReplaceRootVolumeTask: showTask(state.tasks.get(id) as Task) }
  },
  DescribeReplaceRootVolumeTasks: describeTasks,
  DescribeImages: describeImages,
  CreateImage: createImage,
  RegisterImage: registerImage,
  DeregisterImage: (state: State, input: Input) => deregister(state, String(input.ImageId)),
  CreateTags: createTags,
}
