/** The script for a restored guest, in a shell of this system: it changes nothing but the kernel's pool of random numbers. */
import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { restoredScript } from '../../src/runner/after-restore.ts'

test('the script puts the bytes into the pool, and tells the time', () => {
  const before = Date.now() / 1000
  // No port of a link: connections of this system stay.
  const input = `fresh=${Buffer.alloc(256, 7).toString('base64')}\nports=''\n${restoredScript()}`
  const output = execFileSync('sh', ['-s'], { input, encoding: 'utf8' })
  // Only root may count the bytes as random.
  expect(output).toMatch(process.getuid?.() === 0 ? /^random (reseeded|mixed)$/m : /^random mixed$/m)
  expect(output).toMatch(/^machine-id ([0-9a-f]{32}|none)$/m)
  const time = Number(output.match(/^clock (\d+\.\d+)$/m)?.[1])
  expect(time).toBeGreaterThanOrEqual(before - 1)
  expect(time).toBeLessThanOrEqual(Date.now() / 1000 + 1)
})
