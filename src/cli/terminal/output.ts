/** What a command of the CLI is given, and how it writes. */
import type { Config } from '../../config/config.ts'
import type { Failure } from '../../schema/failure.ts'
import { visibleJson } from '../../visible-json.ts'
import type { Output, outputs } from '../json.ts'

// An import of node:util reads every member, and so loads everything behind them.
const { styleText } = process.getBuiltinModule('node:util')

type OutputStream = {
  write(text: string): unknown
  isTTY?: boolean
  columns?: number
  rows?: number
  getColorDepth?(environment?: object): number
}
export type EndSignal = 'SIGINT' | 'SIGTERM' | 'SIGBREAK' | 'SIGHUP'
/**
 * What asks us to end. Windows has no SIGTERM: Ctrl-C, Ctrl-Break and the closed window arrive as these, and after the last one it
 * leaves us a few seconds.
 */
export const endSignals = (platform: NodeJS.Platform): readonly EndSignal[] =>
  platform === 'win32' ? ['SIGINT', 'SIGBREAK', 'SIGHUP'] : ['SIGINT', 'SIGTERM']

/** The members of `process` that the CLI uses to meet its user. Tests pass an object of their own. */
export type Terminal = {
  stdin: Pick<NodeJS.ReadStream, 'isTTY' | 'on' | 'off' | 'pause'>
  stdout: OutputStream
  stderr: OutputStream
  env: Readonly<Record<string, string | undefined>>
  platform: NodeJS.Platform
  on(signal: EndSignal, listener: () => void): unknown
  off(signal: EndSignal, listener: () => void): unknown
}

export type Invocation = {
  words: string[]
  flags: Record<string, string | boolean | undefined>
  terminal: Terminal
  /** The configuration from file, environment and flags. */
  config(): Promise<Config>
  /** Aborted by Ctrl-C and SIGTERM, on Windows by what is there in their place. */
  signal: AbortSignal
  json: boolean
  /** Print only data and errors. */
  quiet: boolean
  /** Show each outside command. */
  verbose: boolean
}
/** Returns the exit code. */
export type RunCommand = (invocation: Invocation) => Promise<number>

const ESCAPE = '\u001b'
/** A colour or weight, as `styled` writes it, or a character that could move the cursor or hide text. Not line breaks and tabs. */
const STYLE_OR_CONTROL = /(?![\n\t])(?:(\p{Cc})(\[(?:0|1|2|22|3[1-79])m)|[\p{Cc}\p{Cf}])/gu
/** Text for a terminal. A guest, a hypervisor or a person may have written a part of it. */
export const harmless = (text: string): string =>
  text.replaceAll(STYLE_OR_CONTROL, (match, control, style) => {
    if (control === undefined) return '?'
    return control === ESCAPE ? match : `?${style}`
  })

export const print = (text: string, { stdout }: Pick<Terminal, 'stdout'> = process) =>
  void stdout.write(`${harmless(text)}\n`)
export const printNote = (text: string, { stderr }: Pick<Terminal, 'stderr'> = process) =>
  void stderr.write(`${harmless(text)}\n`)
/** `printJson<'list'>(rows)`: the type argument names the command whose documented form the value has. */
export const printJson = <Name extends keyof typeof outputs = never>(
  value: NoInfer<Output<Name>>,
  terminal: Pick<Terminal, 'stdout'> = process,
) => print(visibleJson(JSON.stringify(value, null, 2)), terminal)
/** Replaces every character that could move the cursor, set a colour or hide text. */
export const stripControls = (text: string) => text.replaceAll(/[\p{Cc}\p{Cf}]/gu, '?')
/** The same of a text that may have several lines. */
export const onOneLine = (text: string) => stripControls(text.trim().replaceAll(/\s+/g, ' '))

/** `agent-swarm create: what went wrong`, then what to do next. */
export const printFailure = (command: string, { message, remedy }: Failure, terminal: Terminal = process) =>
  printNote(
    `${styled(`agent-swarm ${command}:`, 'red', terminal.stderr, terminal)} ${message}${remedy === null ? '' : `\n${remedy}`}`,
    terminal,
  )

export type Style = Parameters<typeof styleText>[0]

const isOn = (value: string | undefined) => value !== undefined && value !== '0' && value !== 'false'
/** NO_COLOR and FORCE_COLOR decide, then what the terminal can show. */
const hasColors = ({ isTTY, getColorDepth }: OutputStream, { env }: Pick<Terminal, 'env'>): boolean => {
  if (env.FORCE_COLOR !== undefined) return isOn(env.FORCE_COLOR)
  if ((env.NO_COLOR ?? '') !== '' || env.TERM === 'dumb') return false
  return isTTY === true && (getColorDepth === undefined || getColorDepth(env) > 2)
}
export const styled = (text: string, style: Style, stream: OutputStream, terminal: Pick<Terminal, 'env'>): string =>
  hasColors(stream, terminal) ? styleText(style, text, { validateStream: false }) : text

/** Windows has no locale in the environment: its new terminal, and that of VS Code, show everything. */
const isUnicodeOnWindows = ({ WT_SESSION, TERM_PROGRAM, TERM }: Terminal['env']): boolean =>
  WT_SESSION !== undefined || TERM_PROGRAM === 'vscode' || TERM?.startsWith('xterm') === true
/** Whether locale and terminal show more than ASCII. */
export const showsUnicode = ({ env, platform }: Pick<Terminal, 'env' | 'platform'>): boolean => {
  if (env.TERM === 'dumb') return false
  return (
    /utf-?8/i.test(env.LC_ALL || env.LC_CTYPE || env.LANG || '') || (platform === 'win32' && isUnicodeOnWindows(env))
  )
}

/** The columns that text may fill: the terminal's; in a pipe COLUMNS, else 80. */
export const textWidth = ({ stdout, env }: Pick<Terminal, 'stdout' | 'env'>): number => {
  const columns = stdout.isTTY === true ? stdout.columns : Number(env.COLUMNS)
  return columns !== undefined && columns >= 20 ? columns : 80
}
