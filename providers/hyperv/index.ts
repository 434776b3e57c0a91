/** Hyper-V through its PowerShell module: a member of Hyper-V Administrators needs no Administrator but for the network, once. */
import type { Provider, Tools } from '../provider.ts'
import { buildBase } from './build.ts'
import { deleteCheckpoint, deleteTemporary, listCheckpoints, makeCheckpoint, restoreCheckpoint } from './checkpoints.ts'
import { type Context, openSurvey } from './context.ts'
import { forkMachine } from './fork.ts'
import { available, diagnose } from './host.ts'
import { beginning, deleteImage, describeImages, listImages } from './images.ts'
import { isolationReport } from './isolation.ts'
import {
  assignTicket,
  createMachine,
  deleteMachine,
  listForeignMachines,
  listMachines,
  saveMachine,
  sshInfo,
  startMachine,
  statusOf,
  stopMachine,
} from './machines.ts'
import { openScripts } from './powershell.ts'
import { hasLeftDisk, listLeftovers, recoverMachine } from './recover.ts'
import type { HypervSettings } from './settings.ts'
import { capacityOfHost, usageOfMachines } from './usage.ts'

export const openHyperv = (tools: Tools<HypervSettings>): Provider => {
  const script = openScripts(tools.run)
  const context: Context = { ...tools, script, survey: openSurvey(script) }
  return {
    name: 'hyperv',
    liveCheckpoints: true,
    memoryCheckpoints: true,
    coldRestores: true,
    available: () => available(context),
    createVm: (ticket, baseImage, options, onPhase = () => {}) =>
      createMachine(context, ticket, baseImage, options, onPhase),
    assign: (id, ticket) => assignTicket(context, id, ticket),
    startVm: (id, options) => startMachine(context, id, options),
    save: id => saveMachine(context, id),
    stopVm: id => stopMachine(context, id),
    deleteVm: id => deleteMachine(context, id),
    sshInfo: id => sshInfo(context, id),
    status: id => statusOf(context, id),
    listVms: () => listMachines(context),
    listForeign: () => listForeignMachines(context),
    checkpoint: (id, name) => makeCheckpoint(context, id, name),
    restore: (id, name, options) => restoreCheckpoint(context, id, name, options),
    listCheckpoints: id => listCheckpoints(context, id),
    deleteCheckpoint: (id, name) => deleteCheckpoint(context, id, name),
    fork: (id, checkpoint, targets) => forkMachine(context, id, checkpoint, targets),
    settle: async id => {
      if (id !== undefined) await deleteTemporary(context, id)
    },
    isolated: () => isolationReport(context),
    diagnose: signal => diagnose(context, signal),
    hasLeftDisk: async id => hasLeftDisk(context, id),
    leftovers: () => listLeftovers(context),
    recoverVm: (id, ticket, options) => recoverMachine(context, id, ticket, options),
    usage: () => usageOfMachines(context),
    capacity: () => capacityOfHost(context),
    listBaseImages: async () => listImages(context.home),
    describeBaseImages: () => describeImages(context),
    buildBase: request => buildBase(context, request),
    beginning,
    deleteBaseImage: name => deleteImage(context, name),
  }
}
