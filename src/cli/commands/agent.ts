/** The commands that write down what the agent of a machine shall do. The runner acts on it. */
import { machineArgument } from '../arguments.ts'
import { runChange } from '../change.ts'
import type { RunCommand } from '../terminal/output.ts'

const onAgent =
  (what: 'start' | 'stop'): RunCommand =>
  async invocation => {
    const ticket = await machineArgument(invocation.words[0], invocation.terminal)
    return runChange(invocation, { kind: 'agent', ticket, what })
  }

export const startAgent = onAgent('start')
export const stopAgent = onAgent('stop')

export const tellAgent: RunCommand = async invocation => {
  const [word, ...text] = invocation.words
  const ticket = await machineArgument(word, invocation.terminal)
  return runChange(invocation, { kind: 'tell', ticket, text: text.join(' ') })
}
