/** `doctor --selftest`: each promise with its time as it ends, on a terminal with a live line for the one that is being tried. */
import { providerRow } from '../../providers/index.ts'
import { fail } from '../errors.ts'
import type { PromiseResult } from '../selftest/run.ts'
import { type Plan, type Selftest, selftest } from '../selftest/selftest.ts'
import { summaryOf } from '../selftest/transcript.ts'
import { counted } from '../words.ts'
import { cliUser } from './change.ts'
import { version } from './serve.ts'
import { type Invocation, print, printJson, printNote, styled } from './terminal/output.ts'
import { openProgress } from './terminal/progress.ts'
import { size as sizeText } from './terminal/text.ts'

const MIB = 1024 ** 2
const MARKS = { ok: ['✓', 'green'], failed: ['✗', 'red'], 'left-out': ['-', 'dim'] } as const

const requireAlone = ({ flags }: Invocation): void => {
  const other = ['rebuild-registry', 'home-id', 'yes'].find(name => flags[name] !== undefined)
  if (other !== undefined) throw fail('usage', `--selftest cannot be combined with --${other}`)
}

const introduction = ({ provider, machines, size, baseImage }: Plan): string =>
  `This makes ${counted(machines, 'machine')} of its own on ${provider} (${counted(size.cpus, 'CPU')}, ${sizeText(size.memoryMiB * MIB)} of memory${machines > 1 ? ' each' : ''}${baseImage === null ? '' : `, from ${baseImage}`}), and removes ${machines > 1 ? 'them' : 'it'} at the end. It does not touch your machines.`

const resultLine = ({ name, result, milliseconds, why }: PromiseResult, { json, terminal }: Invocation): string => {
  const stream = json ? terminal.stderr : terminal.stdout
  const [mark, style] = MARKS[result]
  const time = result === 'left-out' ? '' : `${(milliseconds / 1000).toFixed(1)} s`
  const line = `${styled(mark, style, stream, terminal)} ${time.padStart(8)}  ${name}`
  if (why === null) return line
  if (result === 'left-out') return `${line} (left out: ${why})`
  return [line, ...why.split('\n').map(text => `             ${text}`)].join('\n')
}

const openView = (invocation: Invocation) => {
  const { json, quiet, terminal, verbose } = invocation
  const isLive = terminal.stderr.isTTY === true && terminal.env.TERM !== 'dumb' && !quiet
  const live = isLive ? openProgress(invocation) : null
  const note = (text: string) => (live === null ? printNote(text, terminal) : live.note(text))
  return {
    onBegin: (plan: Plan) => {
      if (!quiet) note(introduction(plan))
    },
    onPromise: {
      begin: (name: string) => live?.phase(name),
      end: (result: PromiseResult) => {
        live?.drop()
        if (quiet && result.result !== 'failed') return
        const line = resultLine(result, invocation)
        if (json) printNote(line, terminal)
        else print(line, terminal)
      },
    },
    onCommand: (line: string) => {
      if (verbose) note(line)
    },
    close: () => live?.end(true),
  }
}

const show = ({ provider, results, transcript }: Selftest, { json, quiet, terminal }: Invocation): void => {
  if (json) printJson<'doctor'>({ provider, promises: [...results], transcript }, terminal)
  if (!quiet) printNote(`${summaryOf(results)}. Transcript: ${transcript}`, terminal)
}

/** Fails with `cancelled` after a Ctrl-C, when its machines are removed. */
export const showSelftest = async (invocation: Invocation): Promise<number> => {
  requireAlone(invocation)
  const config = await invocation.config()
  const view = openView(invocation)
  const { signal } = invocation
  const options = { by: cliUser(), version: version(), describe: providerRow, signal, ...view }
  const result = await selftest(config, options).finally(view.close)
  const { results, transcript } = result
  if (signal.aborted) {
    const isRemoved = results.at(-1)?.result === 'ok'
    throw fail(
      'cancelled',
      `the selftest was cancelled; ${isRemoved ? 'its machines are removed' : 'not all of its machines could be removed'}`,
      `What it did until then: ${transcript}`,
    )
  }
  show(result, invocation)
  return results.some(each => each.result === 'failed') ? 1 : 0
}
