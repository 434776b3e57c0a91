/**
 * The system's libvirt, used by a member of the group libvirt who is not root. AGENT_SWARM_KVM_FIRMWARE=uefi with
 * AGENT_SWARM_BASE_IMAGE, an image that boots with it, runs this with UEFI.
 */
import { rmSync } from 'node:fs'
import { expect, test } from 'vitest'
import { kvm } from '../../providers/kvm/description.ts'
import { keepsItsPromises } from '../providers/conformance.ts'
import { BASE, ensureBase, program, succeed } from './cli.ts'
import { becomeUser, benchAs, USER, userFolder } from './user.ts'

const { AGENT_SWARM_BASE_IMAGE: image, AGENT_SWARM_KVM_FIRMWARE: firmware } = process.env

keepsItsPromises(
  kvm,
  async () => {
    if (image === undefined) await ensureBase()
    const group = Number((await succeed(program('getent', ['group', 'libvirt']))).split(':')[2])
    const user = userFolder()
    await becomeUser(user.folder, [group])
    const settings = { kvmFirmware: firmware === 'uefi' ? 'uefi' : 'bios' } as const
    return {
      ...benchAs(user, settings, image ?? BASE),
      close: async () => rmSync(user.folder, { recursive: true }),
    }
  },
  { machines: 1, timeout: 10 * 60_000 },
)

test('all of this ran without root', () => expect(process.getuid?.()).toBe(USER))
