/** What `doctor` says of live checkpoints: a test guest, which never runs, is asked for what they need. */
import { randomBytes } from 'node:crypto'
import { ok, warning } from '../../src/check.ts'
import type { Diagnosis } from '../provider.ts'
import type { Context } from './context.ts'
import { rememberedType } from './domain-type.ts'
import { withFile } from './host.ts'
import { probeXml } from './libvirt-xml.ts'
import { SAFE_SINCE } from './live.ts'
import { isLiveIn, monitor, readLive, setLive } from './monitor.ts'
import { parseQemuVersion } from './parse.ts'

const DEADLINE_MS = 60_000
const STANDS_STILL = 'a running machine stands still for seconds while a checkpoint writes its memory'
/** The system call, or the device, which libvirt gives to guests since 10.1 and QEMU uses since 8.0. */
const USERFAULTFD =
  "sudo sysctl -w vm.unprivileged_userfaultfd=1. To keep it: echo 'vm.unprivileged_userfaultfd = 1' | sudo tee /etc/sysctl.d/90-agent-swarm-live.conf. With libvirt 10.1 and QEMU 8.0 or newer, /dev/userfaultfd does as well."

/** It ends with virsh, however that ends. */
const askTestGuest = async (context: Context, versions: string) => {
  const name = `as-probe-${randomBytes(4).toString('hex')}`
  const text = probeXml(name, rememberedType(context, versions)?.type ?? 'qemu')
  const { stdout } = await withFile(context, text, file =>
    context.virsh.ask(
      [
        ['create', file, '--paused', '--autodestroy'],
        monitor(name, 'query-version'),
        setLive(name, true),
        readLive(name),
      ],
      { deadline: DEADLINE_MS },
    ),
  )
  return { qemu: parseQemuVersion(stdout), isAccepted: isLiveIn(stdout) === true }
}

export const checkLive = async (context: Context, versions: string): Promise<Diagnosis> => {
  const { kvmLiveCheckpoints } = context.settings
  if (kvmLiveCheckpoints === 'off') return ok(`${STANDS_STILL}: AGENT_SWARM_KVM_LIVE_CHECKPOINTS is off`)
  const { qemu, isAccepted } = await askTestGuest(context, versions)
  if (qemu === null) return warning('a test guest does not tell whether checkpoints can be live', null)
  const isSafe = qemu >= SAFE_SINCE
  if (!isSafe && kvmLiveCheckpoints === 'auto')
    return ok(`${STANDS_STILL}: live ones need QEMU 10 or newer, or AGENT_SWARM_KVM_LIVE_CHECKPOINTS=on (docs/kvm.md)`)
  if (!isAccepted)
    return warning(`${STANDS_STILL}: this host does not let QEMU protect a guest's memory (userfaultfd)`, USERFAULTFD)
  return isSafe
    ? ok('checkpoints of running machines are live: a test guest accepts them')
    : warning(
        'checkpoints of running machines are live with a QEMU that may lose a guest whose checkpoint is cancelled by hand (virsh domjobabort)',
        'Use QEMU 10 or newer, or AGENT_SWARM_KVM_LIVE_CHECKPOINTS=auto.',
      )
}
