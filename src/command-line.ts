/** Outside commands as a person reads them, ready to paste. */
import type { OnCommand } from './exec.ts'
import { shellWord } from './shell-word.ts'

export const shellCommand = (program: string, argv: readonly string[]): string =>
  [program, ...argv].map(shellWord).join(' ')

/** Our scripts for PowerShell begin with their name. Encoded, they are thousands of characters that nobody can read. */
const SCRIPT_NAME = /^# agent-swarm: ([a-z]{1,30}\.ps1)\n/
const scriptIn = (argv: readonly string[]): { at: number; name: string } | null => {
  const at = argv.indexOf('-EncodedCommand') + 1
  const text = at === 0 ? '' : Buffer.from(argv[at] ?? '', 'base64').toString('utf16le')
  const name = SCRIPT_NAME.exec(text)?.[1]
  return name === undefined ? null : { at, name }
}

/** A command that ended: `+ virsh list  # 12 ms`. */
export const commandLine = ({ program, argv, milliseconds, exitCode, input }: Parameters<OnCommand>[0]): string => {
  const script = scriptIn(argv)
  const notes = [
    `${Math.round(milliseconds)} ms`,
    ...(exitCode === 0 ? [] : [`exit ${exitCode ?? 'none'}`]),
    ...(script === null ? [] : [`SCRIPT is ${script.name}`]),
    ...(input ? ['with input on stdin'] : []),
  ]
  return `+ ${shellCommand(program, script === null ? argv : argv.with(script.at, 'SCRIPT'))}  # ${notes.join(', ')}`
}
