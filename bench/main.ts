/** npm run bench [row…]: measures the promises about speed and memory. Compare ratios within a run; seconds depend on the machine. */
import { accepting } from './accepting.ts'
import { against } from './against.ts'
import { awsCommands } from './aws-commands.ts'
import { cold } from './cold.ts'
import { create } from './create.ts'
import { gitGateway } from './git-gateway.ts'
import { giveback } from './giveback.ts'
import { flood, growth } from './growth.ts'
import { hyperv } from './hyperv.ts'
import { idle } from './idle.ts'
import { isolation } from './isolation.ts'
import { latency } from './latency.ts'
import { memory } from './memory.ts'
import { polling } from './polling.ts'
import { project } from './project.ts'
import { reconciling } from './reconciling.ts'
import { start } from './start.ts'
import { tart } from './tart.ts'

/** One line of the table. `ok` null: there is no target. */
export type Row = { row: string; what: string; measured: string; target: string; ok: boolean | null }

const rows = {
  a: create,
  b: start,
  c: accepting,
  d: latency,
  e: memory,
  f: giveback,
  g: growth,
  h: flood,
  i: against,
  j: cold,
  k: isolation,
  l: gitGateway,
  m: project,
  n: idle,
  p: polling,
  r: reconciling,
  t: tart,
  y: hyperv,
  w: awsCommands,
} satisfies Record<string, () => Promise<Row[]>>

const names = process.argv.slice(2)
const unknown = names.filter(name => !Object.hasOwn(rows, name))
if (unknown.length > 0) {
  process.stderr.write(`Unknown row ${unknown.join(', ')}. Rows: ${Object.keys(rows).join(', ')}.\n`)
  process.exit(2)
}
// It multiplies the time that Node takes to start, and hides differences.
delete process.env.NODE_EXTRA_CA_CERTS
const results: Row[] = []
for (const [name, measure] of Object.entries(rows)) {
  if (names.length > 0 && !names.includes(name)) continue
  process.stderr.write(`measuring ${name}…\n`)
  results.push(...(await measure()))
}
const cells = [
  ['row', 'what', 'measured', 'target', ''],
  ...results.map(({ row, what, measured, target, ok }) => [
    ...[row, what, measured, target],
    ok === null ? '' : ok ? 'met' : 'NOT MET',
  ]),
]
const widths = cells[0]?.map((_, at) => Math.max(...cells.map(row => row[at]?.length ?? 0))) ?? []
for (const row of cells)
  process.stdout.write(
    `${row
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join('  ')
      .trimEnd()}\n`,
  )
process.stdout.write(`\nEach row: npm run bench -- <row>. Node ${process.versions.node}.\n`)
process.exit(0)
