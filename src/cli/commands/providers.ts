import { providerNames, providerRow } from '../../../providers/index.ts'
import type { Provider } from '../../../providers/provider.ts'
import { columns, print, printJson, type RunCommand } from '../terminal/output.ts'
import { withRunnerContext } from '../with-context.ts'

/** A member that a provider need not have: having it is the capability. */
type Capability = NonNullable<
  { [Member in keyof Provider]: Provider extends Required<Pick<Provider, Member>> ? never : Member }[keyof Provider]
>
const CAPABILITIES = Object.keys({
  liveCheckpoints: true,
  memoryCheckpoints: true,
  deleteCheckpoint: true,
  usage: true,
  capacity: true,
  consoleTail: true,
  listBaseImages: true,
  buildBase: true,
  runInGuest: true,
  shellInGuest: true,
} satisfies Record<Capability, true>) as Capability[]

export const run: RunCommand = invocation =>
  withRunnerContext(invocation, async world => {
    const found = await Promise.all(
      providerNames.map(async name => {
        const { open, provenOn } = providerRow(name)
        if (open === null)
          return {
            name,
            available: false,
            reason: 'not part of this version',
            remedy: null,
            capabilities: [] as Capability[],
            provenOn,
          }
        const provider = await world.provider(name)
        const answer = await provider.available()
        const capabilities = CAPABILITIES.filter(member => provider[member] !== undefined)
        return answer.available
          ? { name, available: true, reason: null, remedy: null, capabilities, provenOn }
          : { name, available: false, reason: answer.reason, remedy: answer.remedy, capabilities, provenOn }
      }),
    )
    if (invocation.json) printJson<'providers'>(found.map(({ remedy: _, ...one }) => one))
    else {
      const said = (one: (typeof found)[number]) =>
        one.available ? `proven on ${one.provenOn}` : [one.reason, one.remedy].filter(Boolean).join(' ')
      print(
        columns([
          ['PROVIDER', 'AVAILABLE', ''],
          ...found.map(one => [one.name, one.available ? 'yes' : 'no', said(one)]),
        ]),
      )
    }
    return 0
  })
