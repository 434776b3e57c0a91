/** Runs the scripts of this provider: each in one process of Windows PowerShell, data on stdin, one JSON line back. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { fail, isFailure } from '../../src/errors.ts'
import type { Run, RunOptions } from '../../src/exec.ts'
import { explain, explainRefusal, INSTALL } from './explain.ts'

/** Each script, and the parts that stand before it. */
export const SCRIPTS = {
  survey: ['common', 'rules'],
  look: ['common'],
  network: ['common'],
  create: ['common', 'rules', 'isolate'],
  assign: ['common'],
  start: ['common', 'steady', 'rules', 'isolate'],
  stop: ['common', 'steady'],
  save: ['common', 'steady'],
  checkpoint: ['common', 'steady'],
  restore: ['common', 'steady', 'rules', 'isolate'],
  forget: ['common', 'steady'],
  fork: ['common', 'steady'],
  delete: ['common', 'steady'],
  disk: ['common'],
  parents: ['common'],
} as const
export type ScriptName = keyof typeof SCRIPTS

const DEFAULT_DEADLINE_MS = 120_000
const FLAGS = ['-NoLogo', '-NoProfile', '-NonInteractive', '-ExecutionPolicy', 'Bypass', '-EncodedCommand']

/** Without its comments: a command line has room for about 11 KB. */
const partText = (part: string): string =>
  readFileSync(join(import.meta.dirname, 'scripts', `${part}.ps1`), 'utf8').replaceAll(/^ *#.*\n/gm, '')

/** The whole text that PowerShell runs. Constant: data never stands in it. Its name, first, is shown with `-v` (src/command-line.ts). */
export const scriptText = (name: ScriptName): string =>
  [`# agent-swarm: ${name}.ps1`, ...[...SCRIPTS[name], name].map(partText)].join('\n')

export const encodedScript = (name: ScriptName): string => Buffer.from(scriptText(name), 'utf16le').toString('base64')

const failed = v.object({
  error: v.object({ id: v.string(), category: v.string(), code: v.string(), message: v.string() }),
})
const refused = v.object({ refused: v.string() })

/** The last answer in what PowerShell printed: programs that a script calls may print, too. Undefined without one. */
export const answerIn = (stdout: string): unknown => {
  const line = stdout
    .split(/\r?\n/)
    .findLast(each => each.startsWith('<agent-swarm>') && each.endsWith('</agent-swarm>'))
  if (line === undefined) return undefined
  try {
    return JSON.parse(line.slice('<agent-swarm>'.length, -'</agent-swarm>'.length))
  } catch {
    return undefined
  }
}

type Options = Pick<RunOptions, 'deadline' | 'signal'> & { doing: string }
export type Script = <Schema extends v.GenericSchema>(
  name: ScriptName,
  data: Readonly<Record<string, unknown>>,
  schema: Schema,
  options: Options,
) => Promise<v.InferOutput<Schema>>

/** What a script refuses by itself: the reason is `refusal`. */
const REFUSAL = Symbol('refusal')
export const refusalOf = (error: unknown): string | null =>
  isFailure(error) && typeof error.cause === 'object' && error.cause !== null && REFUSAL in error.cause
    ? String(error.cause[REFUSAL])
    : null

export const openScripts =
  (run: Run): Script =>
  async (name, data, schema, { doing, deadline = DEFAULT_DEADLINE_MS, signal }) => {
    const ran = await run('powershell.exe', [...FLAGS, encodedScript(name)], {
      ...{ input: JSON.stringify(data), deadline, signal, doing, answers: [1] },
    }).catch(error => {
      if (!isFailure(error) || error.failure.kind !== 'provider-missing') throw error
      throw fail('provider-missing', `${doing}: Windows PowerShell is not installed`, INSTALL)
    })
    const answer = answerIn(ran.stdout)
    if (v.is(failed, answer)) throw explain(doing, answer.error)
    if (v.is(refused, answer))
      throw Object.assign(explainRefusal(doing, answer.refused), { cause: { [REFUSAL]: answer.refused } })
    const read = v.safeParse(schema, answer)
    if (read.success) return read.output
    // PowerShell writes errors as XML to stderr, which is for nobody.
    throw fail(
      'unknown',
      `${doing}: the script ${name} gave no answer that can be read (exit code ${ran.exitCode})`,
      'Security software may keep scripts from running. Try: powershell.exe -NoProfile -Command Get-VM',
    )
  }
