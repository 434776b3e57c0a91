/** Formulas between dollar signs, as GitHub shows them. https://docs.github.com/get-started/writing-on-github */
import type { Token } from 'markdown-it'

/** A dollar sign, or two of them, in the text of a paragraph. `token`: the index of the token that it stands in. */
type Sign = { token: number; opens: boolean; closes: boolean }

const signsIn = (tokens: readonly Token[], count: 1 | 2): Sign[] =>
  tokens.flatMap(({ type, content }, token) =>
    type !== 'text' || !content.includes('$')
      ? []
      : [...content.matchAll(/\$+/g)].flatMap(({ 0: run, index }) => {
          if (run.length !== count) return []
          const [before = '', after = ''] = [content[index - 1], content[index + count]]
          const isAlone = content.trim() === run
          return {
            token,
            opens: isAlone || count === 2 || (/^[^\w\\]?$/.test(before) && /^\S$/.test(after)),
            closes: isAlone || count === 2 || (/^\S$/.test(before) && /^\W?$/.test(after)),
          }
        }),
  )

/** Marks what stands between the first sign that opens and the next one that closes. */
const markPairs = (signs: readonly Sign[], within: Set<number>): void => {
  let open: Sign | null = null
  for (const sign of signs) {
    if (open !== null && sign.closes) {
      for (let token = open.token; token <= sign.token; token += 1) within.add(token)
      open = null
    } else if (open === null && sign.opens) open = sign
  }
}

/** The indices of the tokens of a paragraph that are in a formula, as a whole or in part. */
export const mathIn = (tokens: readonly Token[]): ReadonlySet<number> => {
  const within = new Set<number>()
  markPairs(signsIn(tokens, 2), within)
  const inline = signsIn(tokens, 1).filter(({ token }) => !within.has(token))
  markPairs(inline, within)
  return within
}
