import type { CheckpointName } from '../../domain.ts'
import { listCheckpoints } from '../../runner/checkpoints.ts'
import { requireEnvironment, resolveTicket } from '../../runner/context.ts'
import { machineArgument } from '../arguments.ts'
import type { Output } from '../json.ts'
import { print, printJson, printNote, type RunCommand, type Terminal } from '../terminal/output.ts'
import { table } from '../terminal/table.ts'
import { size, when } from '../terminal/text.ts'
import { withRunnerContext } from '../with-context.ts'

type Row = Output<'checkpoints'>[number]

/** A checkpoint that the registry does not know: only its name is known. */
const unknown = (name: CheckpointName): Row => ({
  ...{ name, why: null, commit: null, createdAt: null, withMemory: null, sizeBytes: null },
})

const checkpointTable = (rows: readonly Row[], now: Date, terminal: Terminal): string =>
  table(
    [{ title: 'NAME', whole: true }, 'CREATED', 'REASON', 'COMMIT', 'SIZE', 'MEMORY'],
    rows.map(({ name, createdAt, why, commit, sizeBytes, withMemory }) => [
      name,
      createdAt === null ? '-' : when(createdAt, now, terminal),
      why ?? '-',
      (terminal.stdout.isTTY === true ? commit?.slice(0, 7) : commit) ?? '-',
      size(sizeBytes),
      withMemory === null ? '-' : withMemory ? 'yes' : 'no',
    ]),
    terminal,
  )

export const run: RunCommand = async invocation => {
  const { json, terminal, words } = invocation
  const typed = await machineArgument(words[0], terminal)
  return withRunnerContext(invocation, async context => {
    const ticket = resolveTicket(context, typed)
    const row = requireEnvironment(context, ticket)
    const names = await listCheckpoints(await context.provider(row.provider), row)
    const known = new Map(context.registry.checkpoints(ticket).map(checkpoint => [checkpoint.name, checkpoint]))
    const rows = names.map(name => known.get(name) ?? unknown(name))
    if (json) printJson<'checkpoints'>(rows, terminal)
    else if (rows.length > 0) print(checkpointTable(rows, context.clock(), terminal), terminal)
    else printNote(`${ticket} has no checkpoints. Make one: agent-swarm checkpoint ${ticket} [name]`, terminal)
    return 0
  })
}
