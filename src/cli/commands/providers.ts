import { providerNames, providerRow } from '../../../providers/index.ts'
import type { ProviderName } from '../../domain.ts'
import type { RunnerContext } from '../../runner/context.ts'
import { type Capability, capabilities } from '../capabilities.ts'
import type { Output } from '../json.ts'
import { print, printJson, type RunCommand, type Terminal, textWidth } from '../terminal/output.ts'
import { pairs } from '../terminal/table.ts'
import { withRunnerContext } from '../with-context.ts'

type Row = Output<'providers'>[number] & { remedy: string | null }

const look = async (context: RunnerContext, name: ProviderName): Promise<Row> => {
  const { open, provenOn } = providerRow(name)
  if (open === null) {
    const reason = 'not part of this version'
    return { name, available: false, reason, remedy: null, capabilities: [] as Capability[], provenOn }
  }
  const provider = await context.provider(name)
  const answer = await provider.available()
  return {
    name,
    available: answer.available,
    reason: answer.available ? null : answer.reason,
    remedy: answer.available ? null : answer.remedy,
    capabilities: capabilities.filter(member => provider[member] !== undefined),
    provenOn,
  }
}

/** One line a provider; on a terminal its note wraps, because it may say what to install. */
const page = (rows: readonly Row[], terminal: Terminal): string => {
  const longest = Math.max(...rows.map(({ name }) => name.length), 'PROVIDER'.length)
  const lineOf = ({ name, available, provenOn, reason, remedy }: Row) =>
    [
      `${name.padEnd(longest)}  ${available ? 'yes' : 'no'}`,
      available ? `tested on ${provenOn}` : [reason, remedy].filter(Boolean).join(' '),
    ] as const
  const header = [`${'PROVIDER'.padEnd(longest)}  AVAILABLE`, 'NOTE'] as const
  return pairs([header, ...rows.map(lineOf)], terminal, terminal.stdout.isTTY === true ? textWidth(terminal) : null)
}

export const run: RunCommand = invocation =>
  withRunnerContext(invocation, async context => {
    const { json, terminal } = invocation
    const rows = await Promise.all(providerNames.map(name => look(context, name)))
    if (json)
      printJson<'providers'>(
        rows.map(({ remedy: _, ...row }) => row),
        terminal,
      )
    else print(page(rows, terminal), terminal)
    return 0
  })
