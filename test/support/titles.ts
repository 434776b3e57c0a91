/** The texts of a test file that name a test: for tables that say which test shows what. */

/** Those that contain `part`. A comment tests nothing. */
export const titlesIn = (source: string, part: string): string[] =>
  [
    ...source
      .replaceAll(/\/\*[\s\S]*?\*\/|^ *\/\/.*$/gm, '')
      .matchAll(/'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`/g),
  ]
    .map(([text]) => text.slice(1, -1))
    .filter(text => text.includes(part))
