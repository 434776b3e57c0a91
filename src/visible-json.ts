/** JSON that a terminal may show as it is. */

const unit = (code: number) => `\\u${code.toString(16).padStart(4, '0')}`

/**
 * Escapes in JSON what moves a cursor or hides text, and what JSON itself leaves as it is: C1 control characters, and characters
 * that are invisible or reverse the direction of text. The value stays the same.
 */
export const visibleJson = (json: string): string =>
  json.replaceAll(/[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}]/gu, character =>
    Array.from({ length: character.length }, (_, index) => unit(character.charCodeAt(index))).join(''),
  )
