/** npm run bench [row…]: what is promised of speed and memory, measured. Ratios within one run count; seconds are the machine's. */
import { accepting } from './accepting.ts'
import { against } from './against.ts'
import { create } from './create.ts'
import { giveback } from './giveback.ts'
import { flood, growth } from './growth.ts'
import { latency } from './latency.ts'
import { memory } from './memory.ts'
import { polling } from './polling.ts'
import { start } from './start.ts'

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
  p: polling,
} satisfies Record<string, () => Promise<Row[]>>

const asked = process.argv.slice(2)
const unknown = asked.filter(name => !Object.hasOwn(rows, name))
if (unknown.length > 0) {
  process.stderr.write(`There is no row ${unknown.join(', ')}; the rows are ${Object.keys(rows).join(', ')}.\n`)
  process.exit(2)
}
// Where the environment sets it, it multiplies Node's start and hides differences.
delete process.env.NODE_EXTRA_CA_CERTS
const found: Row[] = []
for (const [name, measure] of Object.entries(rows)) {
  if (asked.length > 0 && !asked.includes(name)) continue
  process.stderr.write(`measuring ${name}…\n`)
  found.push(...(await measure()))
}
const cells = [
  ['row', 'what', 'measured', 'target', ''],
  ...found.map(one => [one.row, one.what, one.measured, one.target, one.ok === null ? '' : one.ok ? 'met' : 'NOT MET']),
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
