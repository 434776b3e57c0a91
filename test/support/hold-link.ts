/** A process that holds a machine's link until it is killed. Arguments: home, vmId, the address of its sshd, where our files lie in it. */
import { openLog } from '../../src/log.ts'
import { openRunnerContext } from '../../src/runner/context.ts'
import { holdLink } from '../../src/runner/link/link.ts'
import type { LinkHandler } from '../../src/runner/link/types.ts'
import { configFor, wrapProviders } from './context.ts'

const [home = '', vmId = '', ssh = '', guest = ''] = process.argv.slice(2)
const context = openRunnerContext(await configFor(home))
context.guest = JSON.parse(guest)
// A machine that is reached over SSH alone.
wrapProviders(context, ({ runInGuest: _, shellInGuest: __, ownSystem: ___, ...provider }) => ({
  ...provider,
  sshInfo: async () => JSON.parse(ssh),
}))
const says: LinkHandler = (_machine, _request, response) => void response.end('the other process\n')
await holdLink(
  context,
  { vmId, provider: 'synthetic' },
  { git: says, model: says, requests: says },
  { log: openLog('warn') },
)
