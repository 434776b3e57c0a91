import type { ProviderDescription } from '../provider.ts'
import { type KvmSettings, kvmSettings } from './settings.ts'

export const kvm: ProviderDescription<KvmSettings> = {
  name: 'kvm',
  label: 'KVM',
  platform: 'linux',
  detected: true,
  needs: 'libvirt with QEMU',
  live: true,
  settings: kvmSettings,
  // A user's own libvirt has its sockets and its definitions in the XDG folders.
  environment: ['XDG_RUNTIME_DIR', 'XDG_CONFIG_HOME', 'XDG_CACHE_HOME', 'LIBVIRT_DEFAULT_URI'],
  open: async tools => (await import('./index.ts')).openKvm(tools),
}
