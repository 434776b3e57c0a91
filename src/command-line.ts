/** Outside commands as a person reads them, ready to paste. */
import type { OnCommand } from './exec.ts'
import { shellWord } from './shell-word.ts'

export const shellCommand = (program: string, argv: readonly string[]): string =>
  [program, ...argv].map(shellWord).join(' ')

/** A command that ended: `+ virsh list  # 12 ms`. */
export const commandLine = ({ program, argv, milliseconds, exitCode, input }: Parameters<OnCommand>[0]): string => {
  const status = exitCode === 0 ? '' : `, exit ${exitCode ?? 'none'}`
  const withInput = input ? ', with input on stdin' : ''
  return `+ ${shellCommand(program, argv)}  # ${Math.round(milliseconds)} ms${status}${withInput}`
}
