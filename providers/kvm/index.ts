/** KVM and QEMU through libvirt, with virsh alone: a member of the group libvirt needs no root. */
import type { Provider, Tools } from '../provider.ts'
import { buildBase } from './build.ts'
import { deleteCheckpoint, listCheckpoints, makeCheckpoint, restoreCheckpoint } from './checkpoints.ts'
import { type Context, look } from './context.ts'
import { diagnose } from './diagnose.ts'
import { isEmulated } from './domain-type.ts'
import { forkMachine } from './fork.ts'
import { available } from './host.ts'
import { deleteImage, describeImages } from './image-list.ts'
import { listImages } from './images.ts'
import { isolationReport } from './isolated.ts'
import {
  assignTicket,
  createMachine,
  deleteMachine,
  listForeignMachines,
  listMachines,
  settleMachine,
  settleMachines,
  sshInfo,
  startMachine,
  stopMachine,
} from './machines.ts'
import { parseVersions } from './parse.ts'
import { hasLeftDisk, listLeftovers, recoverMachine } from './recover.ts'
import { saveMachine, suspendMachine } from './saved.ts'
import { forksMemory, type KvmSettings } from './settings.ts'
import { beginning, ubuntu } from './ubuntu.ts'
import { capacityOfHost, consoleTail, usageOfMachines } from './usage.ts'
import { openVirsh } from './virsh.ts'

export const openKvm = (tools: Tools<KvmSettings>): Provider => {
  const context: Context = { ...tools, virsh: openVirsh(tools.run, tools.settings) }
  return {
    name: 'kvm',
    liveCheckpoints: true,
    memoryCheckpoints: true,
    coldRestores: true,
    available: () => available(context),
    createVm: (ticket, baseImage, options, onPhase = () => {}) =>
      createMachine(context, ticket, baseImage, options, onPhase),
    assign: (id, ticket) => assignTicket(context, id, ticket),
    startVm: (id, options) => startMachine(context, id, options),
    settle: id => (id === undefined ? settleMachines(context) : settleMachine(context, id)),
    save: id => saveMachine(context, id),
    suspend: id => suspendMachine(context, id),
    fork: (id, checkpoint, targets) => forkMachine(context, id, checkpoint, targets),
    ...(forksMemory(tools.settings) ? { memoryForks: true } : {}),
    stopVm: id => stopMachine(context, id),
    deleteVm: id => deleteMachine(context, id),
    sshInfo: id => sshInfo(context, id),
    status: async id => (await look(context, id)).status,
    listVms: () => listMachines(context),
    listForeign: () => listForeignMachines(context),
    emulated: () => isEmulated(context),
    checkpoint: (id, name) => makeCheckpoint(context, id, name),
    restore: (id, name, options) => restoreCheckpoint(context, id, name, options),
    listCheckpoints: id => listCheckpoints(context, id),
    isolated: () => isolationReport(context),
    diagnose: signal => diagnose(context, signal),
    deleteCheckpoint: (id, name) => deleteCheckpoint(context, id, name),
    versions: async () =>
      parseVersions(await context.virsh.run(['version', '--daemon'], { doing: 'asking libvirt for its version' })).all,
    hasLeftDisk: id => hasLeftDisk(context, id),
    leftovers: () => listLeftovers(context),
    recoverVm: (id, ticket, options) => recoverMachine(context, id, ticket, options),
    usage: () => usageOfMachines(context),
    capacity: () => capacityOfHost(context),
    consoleTail: id => consoleTail(context, id),
    listBaseImages: () => listImages(context),
    describeBaseImages: () => describeImages(context),
    buildBase: request => buildBase(context, request),
    cloudImage: ubuntu,
    beginning,
    deleteBaseImage: name => deleteImage(context, name),
  }
}
