/** Tart: Linux machines on a Mac with Apple silicon, by the program `tart` alone. Written for Tart 2.35.0. */
import { failureOf } from '../../src/errors.ts'
import type { Provider, Tools } from '../provider.ts'
import { buildBase, takeBase } from './build.ts'
import { deleteCheckpoint, listCheckpoints, makeCheckpoint, restoreCheckpoint } from './checkpoints.ts'
import { beginning, ubuntuArm64 } from './cloud-image.ts'
import { type Context, type Host, runTart, THIS_MAC } from './context.ts'
import { diagnose } from './diagnose.ts'
import { forkMachine } from './fork.ts'
import { deleteImage, describeImages, listImages } from './images.ts'
import { isolationReport } from './isolation.ts'
import {
  assignTicket,
  createMachine,
  deleteMachine,
  listForeignMachines,
  listMachines,
  sshInfo,
  statusOfMachine,
} from './machines.ts'
import { hasLeftDisk, listLeftovers, recoverMachine } from './recover.ts'
import { startMachine, stopMachine } from './running.ts'
import type { TartSettings } from './settings.ts'
import { capacityOfHost, usageOfMachines } from './usage.ts'

const AVAILABLE_DEADLINE_MS = 10_000

const available = async (context: Context): ReturnType<Provider['available']> => {
  try {
    await runTart(context, ['--version'], { deadline: AVAILABLE_DEADLINE_MS })
    return { available: true }
  } catch (error) {
    const { message, remedy } = failureOf(error, 'asking for the version of Tart')
    return { available: false, reason: message, remedy }
  }
}

export const openTart = (tools: Tools<TartSettings>, host: Host = THIS_MAC): Provider => {
  const context: Context = { ...tools, host }
  return {
    name: 'tart',
    available: () => available(context),
    createVm: (ticket, baseImage, options, onPhase = () => {}) =>
      createMachine(context, ticket, baseImage, options, onPhase),
    assign: (id, ticket) => assignTicket(context, id, ticket),
    startVm: id => startMachine(context, id),
    stopVm: id => stopMachine(context, id),
    deleteVm: id => deleteMachine(context, id),
    sshInfo: id => sshInfo(context, id),
    status: id => statusOfMachine(context, id),
    listVms: () => listMachines(context),
    listForeign: () => listForeignMachines(context),
    checkpoint: (id, name) => makeCheckpoint(context, id, name),
    restore: (id, name) => restoreCheckpoint(context, id, name),
    listCheckpoints: id => listCheckpoints(context, id),
    deleteCheckpoint: (id, name) => deleteCheckpoint(context, id, name),
    fork: (id, checkpoint, targets) => forkMachine(context, id, checkpoint, targets),
    isolated: () => isolationReport(context),
    diagnose: signal => diagnose(context, signal),
    hasLeftDisk: id => hasLeftDisk(context, id),
    leftovers: () => listLeftovers(context),
    recoverVm: (id, ticket, options) => recoverMachine(context, id, ticket, options),
    usage: () => usageOfMachines(context),
    capacity: () => capacityOfHost(context),
    listBaseImages: () => listImages(context),
    describeBaseImages: () => describeImages(context),
    buildBase: request => buildBase(context, request),
    takeBase: request => takeBase(context, request),
    cloudImage: ubuntuArm64,
    beginning,
    deleteBaseImage: name => deleteImage(context, name),
  }
}
