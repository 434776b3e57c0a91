/** XML text. Every value is escaped, even one that is known to be harmless. */

export const escapeXml = (value: string | number): string =>
  String(value)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&apos;')

export const unescapeXml = (text: string): string =>
  text
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&apos;', "'")
    .replaceAll('&amp;', '&')

/** A piece made by `xml`, which is not escaped again. */
export type Piece = { piece: string }
const escapeValue = (value: string | number | Piece) => (typeof value === 'object' ? value.piece : escapeXml(value))
/** A template whose values are escaped. */
export const xml = (text: TemplateStringsArray, ...values: (string | number | Piece)[]): Piece => ({
  piece: text.map((part, at) => part + (at < values.length ? escapeValue(values[at] ?? '') : '')).join(''),
})
export const NOTHING = xml``
