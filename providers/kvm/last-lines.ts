/** What a guest wrote on its console, made fit for a person's terminal: whoever is in the guest wrote it, and may mean harm. */

const [LINES, LENGTH] = [20, 200]
/** Enough for the last lines, whatever came before them. */
const BYTES = 64 * 1024

/** CSI and OSC sequences, and the two-character escapes (ECMA-48). An OSC without its end goes to the end of its line. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const ESCAPES = /\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b\r\n]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?/g

/** The last lines with something in them. Nothing is left that moves a cursor, hides or turns text around. */
export const lastLines = (log: Buffer): string[] =>
  log
    .subarray(-BYTES)
    .toString('utf8')
    .replaceAll(ESCAPES, '')
    .split(/[\r\n]+/)
    .map(line => line.replaceAll('\t', ' ').replaceAll(/\p{C}/gu, '').trimEnd().slice(0, LENGTH).toWellFormed())
    .filter(line => line !== '')
    .slice(-LINES)
