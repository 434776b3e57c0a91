/** Texts of paths in the files of services. None may hold a control character: it could end a line. */
import { fail } from '../errors.ts'

const checkPath = (path: string): string => {
  if (!/\p{Cc}/u.test(path)) return path
  throw fail('usage', `writing a service: ${JSON.stringify(path)} holds a control character`, 'Use another folder.')
}

/** A word of a unit file: quoted, and `%` is not a specifier (systemd.unit, systemd.syntax). */
export const unitWord = (text: string): string =>
  `"${checkPath(text).replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%')}"`
/** An argument of ExecStart, where `$` would be a variable. */
export const unitArgument = (text: string): string => unitWord(text.replaceAll('$', '$$$$'))

const XML = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
export const xmlText = (text: string): string =>
  checkPath(text).replaceAll(/[&<>"]/g, character => XML[character as keyof typeof XML])
