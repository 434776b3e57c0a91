import { expect, test } from 'vitest'
import { bundleScript, unsavedWorkScript } from '../../../src/runner/rescue/scripts.ts'

test('a script begins with its variables, and then the part that both share', () => {
  expect(bundleScript(7)).toMatch(/^save_path_64=''\nsave_64=''\nmax_repositories=200\nline=7\n# shellcheck shell=sh\n/)
  expect(unsavedWorkScript()).toMatch(
    /^save_path_64=''\nsave_64=''\nmerged=''\nmax_repositories=200\n# shellcheck shell=sh\n/,
  )
})

test.for([1.5, -1, Number.NaN, Number.POSITIVE_INFINITY, '1; reboot'])('%j is not a line number', line => {
  expect(() => bundleScript(line as number)).toThrow(RangeError)
})
