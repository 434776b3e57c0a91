/** Every provider by name, in order of detection. Each is loaded when it is asked for. */
import type { ProviderName } from '../src/domain.ts'
import type { Run } from '../src/exec.ts'
import type { KvmSettings } from './kvm/settings.ts'
import type { Provider } from './provider.ts'

type ProviderTools = { run: Run; home: string; kvm: KvmSettings }
type Row = {
  /** Null: it is known, and not part of this version. */
  open: ((tools: ProviderTools) => Promise<Provider>) | null
  /** Chosen when nobody names one and it is available. */
  detected: boolean
  /** On which systems its tests have run for real. */
  provenOn: string | null
  /** Takes checkpoints without stopping the guest. */
  live: boolean
}

const providers = {
  kvm: {
    open: async ({ run, home, kvm }) => (await import('./kvm/index.ts')).openKvm({ run, home, settings: kvm }),
    detected: true,
    provenOn: 'Debian 12, libvirt 9.0, QEMU 7.2, software emulation',
    live: true,
  },
  tart: { open: null, detected: true, provenOn: null, live: false },
  hyperv: { open: null, detected: true, provenOn: null, live: false },
  aws: { open: null, detected: false, provenOn: null, live: false },
  synthetic: {
    open: async ({ run, home }) => (await import('./synthetic/index.ts')).openSynthetic({ run, home, settings: null }),
    detected: false,
    provenOn: 'any system with Node 24 (it makes directories, and no machine)',
    live: true,
  },
} satisfies Record<ProviderName, Row>

export const providerNames = Object.keys(providers) as ProviderName[]
export const providerRow = (name: ProviderName): Row => providers[name]
