import { existsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { timestamp } from '../../domain.ts'
import { fail } from '../../errors.ts'
import { shellWord } from '../../shell-word.ts'
import { version } from '../serve.ts'
import { print, printJson, printNote, type RunCommand } from '../terminal/output.ts'
import { pairs } from '../terminal/table.ts'
import { size } from '../terminal/text.ts'

const exists = (file: string) =>
  fail('already-exists', `writing ${file}: it exists`, 'Name another file: agent-swarm support-bundle FILE')

export const run: RunCommand = async invocation => {
  const { json, quiet, signal, terminal, words } = invocation
  const name = `agent-swarm-support-${timestamp(new Date())}`
  const file = resolve(words[0] ?? `${name}.tar.gz`)
  // Before minutes are spent on checks.
  if (existsSync(file)) throw exists(file)
  if (!existsSync(dirname(file)))
    throw fail(
      'refused',
      `writing ${file}: there is no folder ${dirname(file)}`,
      'Make the folder, or name another file.',
    )
  const { LEFT_OUT, NAMED, writeBundle } = await import('../../doctor/bundle.ts')
  const config = await invocation.config()
  if (!json && !quiet && terminal.stderr.isTTY === true) printNote('Checking this host, and collecting…', terminal)
  const bundle = await writeBundle(config, { file, name, version: version(), signal })
  if (bundle === null) throw exists(file)
  const { bytes, contents, missing } = bundle
  if (json) {
    printJson<'support-bundle'>({ ...bundle, leftOut: [...LEFT_OUT] }, terminal)
    return 0
  }
  print(file, terminal)
  if (quiet) return 0
  const rows = contents.map(part => [part.name, part.holds] as const)
  printNote(
    [
      `\nIt has ${size(bytes)}, for you alone (0600), and holds:`,
      pairs(rows, terminal, null).replaceAll(/^/gm, '  '),
      ...missing.map(({ name, why }) => `Without ${name}: ${why}`),
      '\nIt does not hold:',
      ...LEFT_OUT.map(text => `  ${text}`),
      `\n${NAMED} Look through it before you send it:`,
      `  tar -xzOf ${shellWord(file)} | less`,
    ].join('\n'),
    terminal,
  )
  return 0
}
