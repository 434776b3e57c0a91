import type { Provider } from '../../providers/provider.ts'

/** An optional member of a provider. Having it is the capability; that there is no machine is none. */
export type Capability = Exclude<
  NonNullable<
    { [Member in keyof Provider]: Provider extends Required<Pick<Provider, Member>> ? never : Member }[keyof Provider]
  >,
  'ownSystem'
>
export const capabilities = Object.keys({
  assign: true,
  liveCheckpoints: true,
  memoryCheckpoints: true,
  isolated: true,
  emulated: true,
  listForeign: true,
  deleteCheckpoint: true,
  coldRestores: true,
  diagnose: true,
  save: true,
  hasLeftDisk: true,
  leftovers: true,
  recoverVm: true,
  usage: true,
  prices: true,
  capacity: true,
  consoleTail: true,
  listBaseImages: true,
  describeBaseImages: true,
  imageReferences: true,
  buildBase: true,
  cloudImage: true,
  deleteBaseImage: true,
  runInGuest: true,
  shellInGuest: true,
} satisfies Record<Capability, true>) as Capability[]
