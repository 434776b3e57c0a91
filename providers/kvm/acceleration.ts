/** What `doctor` says of hardware virtualization: it boots a guest now, whatever is remembered. */
import { existsSync, readFileSync } from 'node:fs'
import { ok, problem, warning } from '../../src/check.ts'
import { shellWord } from '../../src/shell-word.ts'
import type { Diagnosis } from '../provider.ts'
import type { Context } from './context.ts'
import { proveKvm, rememberedType } from './domain-type.ts'
import { isSession } from './settings.ts'

const DEVICE = '/dev/kvm'
const SLOWER = 'machines are emulated by software, which is several times slower'

/** What the host shows of its processors. `cpuinfo`: the text of /proc/cpuinfo. */
export type Processors = { hasDevice: boolean; cpuinfo: string }

const CPUINFO = '/proc/cpuinfo'
const thisHost = (): Processors => ({
  hasDevice: existsSync(DEVICE),
  cpuinfo: existsSync(CPUINFO) ? readFileSync(CPUINFO, 'utf8') : '',
})

/** What to do where no guest boots with KVM. `why`: libvirt's reason. */
export const accelerationRemedy = ({ hasDevice, cpuinfo }: Processors, session: boolean, why: string): string => {
  if (!hasDevice) {
    const flags = cpuinfo.match(/^flags\s*:(.*)$/m)?.[1]?.split(' ') ?? []
    if (flags.includes('vmx')) return 'sudo modprobe kvm_intel'
    if (flags.includes('svm')) return 'sudo modprobe kvm_amd'
    return 'Turn on virtualization (VT-x, AMD-V) in the firmware of this computer. If it is a virtual machine itself, its host must allow nested virtualization.'
  }
  if (!/permission denied/i.test(why)) return `See why: ls -l ${DEVICE}; sudo dmesg | grep -i kvm`
  return session
    ? 'Join the group kvm: sudo usermod -aG kvm "$USER". Then log in again.'
    : `Let QEMU's user use it: sudo chgrp kvm ${DEVICE} && sudo chmod 660 ${DEVICE}`
}

/** `versions`: of libvirt and QEMU, as they are remembered. `cleanUp`: see `proveKvm`. */
export const checkAcceleration = async (
  context: Context,
  cleanUp: Context,
  versions: string,
  processors = thisHost(),
): Promise<Diagnosis> => {
  const { settings } = context
  const { kvmDomainType } = settings
  if (kvmDomainType === 'qemu') return ok(`${SLOWER}, because AGENT_SWARM_KVM_DOMAIN_TYPE is qemu`)
  const proof = await proveKvm(context, cleanUp)
  const known = kvmDomainType === 'auto' ? rememberedType(context, versions) : null
  const forget = known === null ? null : `Forget what was found before: rm ${shellWord(known.file)}`
  if (proof.boots)
    return known?.type === 'qemu'
      ? warning('a test guest boots with KVM now, but did not before: new machines are still emulated', forget)
      : ok('a test guest boots with hardware virtualization (KVM)')
  const remedy = accelerationRemedy(processors, isSession(settings), proof.why)
  if (kvmDomainType === 'kvm')
    return problem(`no guest boots with KVM, which AGENT_SWARM_KVM_DOMAIN_TYPE demands: ${proof.why}`, remedy)
  return known?.type === 'kvm'
    ? problem(
        `no guest boots with KVM any more, and new machines are defined with it: ${proof.why}`,
        `${remedy} ${forget}`,
      )
    : warning(`no guest boots with KVM: ${proof.why}; ${SLOWER}`, remedy)
}
