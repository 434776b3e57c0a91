import { providerNames, providerRow } from '../../../providers/index.ts'
import type { IsolationReport } from '../../../providers/provider.ts'
import type { ProviderName } from '../../domain.ts'
import type { RunnerContext } from '../../runner/context.ts'
import { type Capability, capabilities } from '../capabilities.ts'
import type { Output } from '../json.ts'
import { print, printJson, type RunCommand, type Terminal, textWidth } from '../terminal/output.ts'
import { pairs } from '../terminal/table.ts'
import { withRunnerContext } from '../with-context.ts'

type Row = Output<'providers'>[number] & { remedy: string | null; isolation: string }

/** Whether guests are kept from each other, the host and private networks. */
const isolationText = (report: IsolationReport | undefined): string => {
  if (report === undefined) return 'Machines are not isolated.'
  if (report.isolated) return `Machines are isolated. ${report.note}`
  return [`Machines are not isolated: ${report.reason}.`, report.remedy].filter(text => text !== null).join(' ')
}

const look = async (context: RunnerContext, name: ProviderName): Promise<Row> => {
  const { open, provenOn } = providerRow(name)
  if (open === null) {
    const reason = 'not part of this version'
    return { name, available: false, reason, remedy: null, capabilities: [] as Capability[], provenOn, isolation: '' }
  }
  const provider = await context.provider(name)
  const answer = await provider.available()
  const report = answer.available ? await provider.isolated?.() : undefined
  return {
    name,
    available: answer.available,
    reason: answer.available ? null : answer.reason,
    remedy: answer.available ? null : answer.remedy,
    capabilities: capabilities.filter(
      member => provider[member] !== undefined && (member !== 'isolated' || report?.isolated === true),
    ),
    provenOn,
    isolation: isolationText(report),
  }
}

/** One line a provider; on a terminal its note wraps, because it may say what to install. */
const page = (rows: readonly Row[], terminal: Terminal): string => {
  const longest = Math.max(...rows.map(({ name }) => name.length), 'PROVIDER'.length)
  const lineOf = ({ name, available, provenOn, reason, remedy, isolation }: Row) =>
    [
      `${name.padEnd(longest)}  ${available ? 'yes' : 'no'}`,
      available ? `tested on ${provenOn}. ${isolation}` : [reason, remedy].filter(Boolean).join(' '),
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
        rows.map(({ remedy: _, isolation: __, ...row }) => row),
        terminal,
      )
    else print(page(rows, terminal), terminal)
    return 0
  })
