import { findPackageJSON } from 'node:module'
import { dirname, join } from 'node:path'
import { providerNames, providerRow } from '../../../providers/index.ts'
import type { IsolationReport, Provider } from '../../../providers/provider.ts'
import type { ProviderName } from '../../domain.ts'
import type { RunnerContext } from '../../runner/context.ts'
import { isForeign, platformName } from '../../runner/detection.ts'
import { isolationOf } from '../../runner/isolation.ts'
import { provenOn } from '../../selftest/proven.ts'
import { type Capability, capabilities, capabilityText } from '../capabilities.ts'
import type { Output } from '../json.ts'
import { print, printJson, type RunCommand, type Terminal, textWidth } from '../terminal/output.ts'
import { pairs } from '../terminal/table.ts'
import { withRunnerContext } from '../with-context.ts'

/** `isolation`: null where nobody could be asked. */
type Row = Output<'providers'>[number] & { remedy: string | null; isolation: string | null }

/** Whether guests are kept from each other, the host and private networks. */
const isolationText = (report: IsolationReport | undefined): string => {
  if (report === undefined) return 'Machines are not isolated.'
  if (report.isolated) return `Machines are isolated. ${report.note}`
  return [`Machines are not isolated: ${report.reason}.`, report.remedy].filter(text => text !== null).join(' ')
}

/** The transcripts of the package. */
const shipped = join(dirname(findPackageJSON(import.meta.url) ?? '.'), 'docs', 'proven')

/** The optional members that it has. Isolation is no member: it is there where the provider says that it is in force. */
const capabilitiesOf = (provider: Provider, isIsolated: boolean): Capability[] =>
  capabilities.filter(member => (member === 'isolated' ? isIsolated : provider[member] !== undefined))

const look = async (context: RunnerContext, name: ProviderName): Promise<Row> => {
  const row = providerRow(name)
  const proven = provenOn(name, { shipped, home: context.home, now: context.clock() })
  const none = { name, available: false, remedy: null, isolation: null, provenOn: proven }
  if (row.open === null) return { ...none, reason: 'not part of this version', capabilities: [] }
  const provider = await context.provider(name)
  if (isForeign(row, context.platform)) {
    const reason = `for ${platformName(row.platform ?? context.platform)}`
    return { ...none, reason, capabilities: capabilitiesOf(provider, false) }
  }
  const answer = await provider.available()
  if (!answer.available)
    return { ...none, reason: answer.reason, remedy: answer.remedy, capabilities: capabilitiesOf(provider, false) }
  const report = await isolationOf(provider)
  return {
    ...{ name, available: true, reason: null, remedy: null, provenOn: proven },
    capabilities: capabilitiesOf(provider, report?.isolated === true),
    isolation: isolationText(report),
  }
}

/** The day of its proof stands at the end of `provenOn`. */
const provenDay = (proven: string | null): string => proven?.slice(-'2026-11-29'.length) ?? 'unproven'
const provenText = (proven: string | null): string | null => {
  if (proven === null) return null
  const [, where] = /^(.*), \S+$/.exec(proven) ?? []
  return where === 'here' ? 'Proven here.' : `Proven on ${where}.`
}
const sentence = (text: string) => (/[.:!?]$/.test(text) ? text : `${text}.`)

/** Lines: whether it works here, and why not; then what it can do, and where that was tried. */
const notesOf = ({ reason, remedy, isolation, provenOn: proven, capabilities: present }: Row): string[] =>
  [
    [reason === null ? null : sentence(reason), remedy, isolation],
    [provenText(proven), present.length === 0 ? null : capabilityText(present, isolation === null ? ['isolated'] : [])],
  ]
    .map(parts => parts.filter(text => text !== null).join(' '))
    .filter(text => text !== '')

/** On a terminal the notes wrap, because they may say what to install. */
const page = (rows: readonly Row[], terminal: Terminal): string => {
  const longest = Math.max(...rows.map(({ name }) => name.length), 'PROVIDER'.length)
  const start = (name: string, available: string, proven: string) =>
    `${name.padEnd(longest)}  ${available.padEnd('AVAILABLE'.length)}  ${proven.padEnd('2026-11-29'.length)}`
  const lines = rows.flatMap(row => {
    const { name, available, provenOn: proven } = row
    const [first = '', ...more] = notesOf(row)
    const line = [start(name, available ? 'yes' : 'no', provenDay(proven)), first] as const
    return [line, ...more.map(note => ['', note] as const)]
  })
  const all = [[start('PROVIDER', 'AVAILABLE', 'PROVEN'), 'NOTE'] as const, ...lines]
  return pairs(all, terminal, terminal.stdout.isTTY === true ? textWidth(terminal) : null)
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
