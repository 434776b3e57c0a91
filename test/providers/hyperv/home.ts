/** A home on the stand-in's Hyper-V for the tests of one group, which share its machine. */
import { afterAll, beforeAll, expect } from 'vitest'
import { hypervOptions, openHypervHome } from '../../support/hyperv/bench.ts'

export const VM = 'as-ab-1-0000000a'
export const options = hypervOptions(VM)
/** PowerShell takes seconds to start. */
export const timeout = 600_000

export type Home = Awaited<ReturnType<typeof openHypervHome>>

export const failsWith = (kind: string, words?: RegExp) => ({
  failure: { kind, ...(words && { message: expect.stringMatching(words) }) },
})

/** Opens the home before the group's tests. At its end, nothing was done that Windows does not forgive. */
export const homeOf = (
  parameters: Parameters<typeof openHypervHome>,
  prepare: (home: Home) => Promise<unknown>,
): (() => Home) => {
  let home: Home | null = null
  const opened = () => {
    if (home === null) throw new Error('the home is not open')
    return home
  }
  beforeAll(async () => {
    home = await openHypervHome(...parameters)
    await prepare(home)
  }, timeout)
  afterAll(async () => {
    try {
      expect((await home?.standIn.violations()) ?? '').toBe('')
    } finally {
      home?.close()
    }
  }, timeout)
  return opened
}
