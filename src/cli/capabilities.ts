import type { Provider } from '../../providers/provider.ts'

/** An optional member of a provider. Having it is the capability; that there is no machine, or a text for messages, is none. */
export type Capability = Exclude<
  NonNullable<
    { [Member in keyof Provider]: Provider extends Required<Pick<Provider, Member>> ? never : Member }[keyof Provider]
  >,
  'ownSystem' | 'beginning'
>
/** Each in the words of people. Null: a way of doing something, which nobody misses for itself. */
const words: Readonly<Record<Capability, string | null>> = {
  isolated: 'isolated machines',
  liveCheckpoints: 'checkpoints without a stop',
  memoryCheckpoints: 'checkpoints with memory',
  coldRestores: 'restores without memory',
  deleteCheckpoint: 'deleting checkpoints',
  save: 'saving the memory of machines (stop --save, idle, pools on disk)',
  suspend: 'ready machines in memory',
  fork: 'forks',
  memoryForks: 'forks with memory',
  recoverVm: 'recovering a machine from its disk',
  assign: 'giving a machine its ticket later (pools, moved tickets)',
  listForeign: 'listing machines of other homes',
  usage: 'usage of machines',
  prices: 'prices of machines',
  capacity: 'room of the host',
  consoleTail: 'the console',
  diagnose: 'checks of the host',
  buildBase: 'building base images',
  takeBase: 'base images from a registry',
  cloudImage: 'a cloud image to begin with',
  emulated: null,
  endings: null,
  settle: null,
  hasLeftDisk: null,
  leftovers: null,
  imageReferences: null,
  listBaseImages: null,
  describeBaseImages: null,
  deleteBaseImage: null,
  runInGuest: null,
  shellInGuest: null,
  versions: null,
}
export const capabilities = Object.keys(words) as Capability[]

/**
 * What it can do, and what it cannot: `With isolated machines, the console. Without checkpoints with memory.` Of `unknown` it says
 * neither.
 */
export const capabilityText = (present: readonly Capability[], unknown: readonly Capability[]): string => {
  const named = capabilities.filter(name => words[name] !== null && !unknown.includes(name))
  const list = (names: readonly Capability[]) => names.map(name => words[name]).join(', ')
  const missing = named.filter(name => !present.includes(name))
  return [['With', named.filter(name => present.includes(name))] as const, ['Without', missing] as const]
    .flatMap(([word, names]) => (names.length === 0 ? [] : [`${word} ${list(names)}.`]))
    .join(' ')
}
