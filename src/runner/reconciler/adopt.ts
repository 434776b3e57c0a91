/** Makes a row for one of our machines that has none. */
import type { Provider, VmInfo } from '../../../providers/provider.ts'
import type { Ticket } from '../../domain.ts'
import { allow } from '../../errors.ts'
import type { EnvironmentRow } from '../../registry/registry.ts'
import { syncCheckpoints } from '../checkpoints.ts'
import { type RunnerContext, requireEnvironment } from '../context.ts'

/** The image that it was cloned from. Where the provider cannot tell, the configured one. */
const baseImageOf = async ({ config }: RunnerContext, provider: Provider, vmId: string): Promise<string> => {
  const images = (await provider.describeBaseImages?.().catch(() => [])) ?? []
  return images.find(({ machines }) => machines.includes(vmId))?.name ?? config.baseImage
}

/** The caller holds the ticket's lock, and the ticket has no machine. Its present state becomes the desired one. */
export const adoptMachine = async (
  context: RunnerContext,
  provider: Provider,
  { vmId, status }: Pick<VmInfo, 'vmId' | 'status'>,
  ticket: Ticket,
): Promise<EnvironmentRow> => {
  const { registry } = context
  const baseImage = await baseImageOf(context, provider, vmId)
  const adopted = status === 'stopped' ? 'stopped' : 'running'
  registry.adopt({ ticket, provider: provider.name, vmId, baseImage, status: adopted })
  const row = requireEnvironment(context, ticket)
  if (adopted === 'running')
    registry.setAddress(ticket, (await provider.sshInfo(vmId).catch(allow('no-address-yet', 'unsupported'))) ?? null)
  await syncCheckpoints({ context, provider, row })
  return requireEnvironment(context, ticket)
}
