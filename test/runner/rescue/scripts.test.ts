import { expect, test } from 'vitest'
import { bundleScript, unsavedWorkScript } from '../../../src/runner/rescue/scripts.ts'

test('a script begins with its variables, and then the part that both share', () => {
  expect(bundleScript(7, null, new Date(9_500))).toMatch(
    /^save_path_64=''\nsave_64=''\nmax_repositories=200\nmax_reflog=50000\nline=7\nsaved_at=9\nreport_only=0\n# shellcheck shell=sh\n/,
  )
  expect(unsavedWorkScript()).toMatch(
    /^save_path_64=''\nsave_64=''\nmerged=''\nmax_repositories=200\nmax_reflog=50000\n# shellcheck shell=sh\n/,
  )
})

test.for([1.5, -1, Number.NaN, Number.POSITIVE_INFINITY, '1; reboot'])('%j is not a line number', line => {
  expect(() => bundleScript(line as number, null, new Date())).toThrow(RangeError)
})
