/** The last lines on a guest's console, made safe for a person's terminal: whoever is in the guest wrote them, perhaps to do harm. */

const MAX_LINES = 20
const MAX_LENGTH = 200
/** The end of the log that holds the last lines. */
const MAX_BYTES = 64 * 1024

/** CSI and OSC sequences and two-character escapes (ECMA-48). An OSC without its terminator extends to the end of the line. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: it matches control characters.
const ESCAPES = /\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b\r\n]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?/g

/** Empty lines are left out, and so is everything that moves the cursor or hides or reverses text. */
export const lastLines = (log: Buffer): string[] =>
  log
    .subarray(-MAX_BYTES)
    .toString('utf8')
    .replaceAll(ESCAPES, '')
    .split(/[\r\n]+/)
    .map(line => line.replaceAll('\t', ' ').replaceAll(/\p{C}/gu, '').trimEnd().slice(0, MAX_LENGTH).toWellFormed())
    .filter(line => line !== '')
    .slice(-MAX_LINES)
