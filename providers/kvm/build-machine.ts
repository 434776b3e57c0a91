/** How a build reaches its machines over SSH: what is KVM's own in that. */
import type { BuildMachines } from '../../base-image/build-machine.ts'
import type { Context } from './context.ts'
import { sshInfo, startMachine } from './machines.ts'
import { consoleTail } from './usage.ts'

const consoleText = async (context: Context, vmId: string): Promise<string> => {
  const lines = await consoleTail(context, vmId).catch(() => [])
  return lines.length === 0
    ? ', and it wrote nothing on its console'
    : `. Its console ends with:\n${lines.map(line => `  ${line}`).join('\n')}`
}

export const buildMachines = (context: Context): BuildMachines => ({
  start: vmId => startMachine(context, vmId),
  sshInfo: vmId => sshInfo(context, vmId),
  // A first boot under software emulation takes one to three minutes, and several times that on a busy host.
  bootDeadline: 20 * 60_000,
  pollMs: 2_000,
  noAnswer: 'An image needs cloud-init (with its NoCloud source) and an SSH server, both started at boot.',
  noEnd: {
    what: 'did not end its work, or did not answer over SSH any more,',
    remedy: 'Try again when the host has less to do. A step that hangs is the phase shown last.',
  },
  lastWords: vmId => consoleText(context, vmId),
})
