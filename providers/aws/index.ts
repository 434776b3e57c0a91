/** EC2 of AWS, with the `aws` program alone. Everything that a machine has there carries its mark as tags. */
import type { Provider, Tools } from '../provider.ts'
import { assignTicket } from './assign.ts'
import { openAwsProgram } from './aws.ts'
import { buildBase } from './build.ts'
import { deleteCheckpoint, listCheckpoints, makeCheckpoint, restoreCheckpoint } from './checkpoints.ts'
import { type Context, look, statusOf } from './context.ts'
import { deleteMachine, hasLeftDisk, listLeftovers } from './delete.ts'
import { available, diagnose } from './diagnose.ts'
import { forkMachine } from './fork.ts'
import { beginning, deleteImage, describeBaseImages, listImages } from './images.ts'
import { endingsOfMachines } from './interruptions.ts'
import { isolationReport } from './isolated.ts'
import { createMachine, listForeignMachines, listMachines, sshInfo, startMachine, stopMachine } from './machines.ts'
import { pricesOfMachines } from './prices.ts'
import type { AwsSettings } from './settings.ts'
import { usageOfMachines } from './usage.ts'

export const openAws = (tools: Tools<AwsSettings>): Provider => {
  const context: Context = { ...tools, aws: openAwsProgram(tools), shared: { list: null } }
  return {
    name: 'aws',
    liveCheckpoints: true,
    available: () => available(context),
    createVm: (ticket, baseImage, options, onPhase = () => {}) =>
      createMachine(context, ticket, baseImage, options, onPhase),
    assign: (id, ticket) => assignTicket(context, id, ticket),
    startVm: id => startMachine(context, id),
    stopVm: id => stopMachine(context, id),
    deleteVm: id => deleteMachine(context, id),
    sshInfo: id => sshInfo(context, id),
    status: async id => statusOf((await look(context, id)).instance),
    listVms: () => listMachines(context),
    endings: () => endingsOfMachines(context),
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
    usage: () => usageOfMachines(context),
    prices: () => pricesOfMachines(context),
    listBaseImages: () => listImages(context),
    describeBaseImages: () => describeBaseImages(context),
    imageReferences: { form: /^ami-[0-9a-f]{8,32}$/, example: 'ami-0123456789abcdef0' },
    buildBase: request => buildBase(context, request),
    beginning,
    deleteBaseImage: name => deleteImage(context, name),
  }
}
