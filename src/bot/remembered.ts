/** Runs `ask` once and remembers its result; a failure is not remembered. */
export const remembered = <Result>(ask: () => Promise<Result>): (() => Promise<Result>) => {
  let known: Promise<Result> | null = null
  return () => {
    known ??= ask().catch((error: unknown) => {
      known = null
      throw error
    })
    return known
  }
}
