import fc from 'fast-check'
import { expect, test } from 'vitest'
import { commands } from '../src/cli/command-table.ts'
import { nearest } from '../src/nearest.ts'

const names = Object.keys(commands)

test.for([
  ['chekpoint', names, 'checkpoint'],
  ['chekpoints', names, 'checkpoints'],
  ['Create', names, 'create'],
  ['sotp', names, 'stop'],
  ['lst', names, 'list'],
  ['DRPO-2100', ['DROP-21', 'DROP-2100', 'WEB-2100'], 'DROP-2100'],
  ['drop-2100', ['DROP-2101', 'DROP-2100'], 'DROP-2100'],
  ['befor-refactor', ['push-1234567', 'before-refactor'], 'before-refactor'],
  ['--forse', ['--force', '--json', '--help'], '--force'],
  ['rm', names, null],
  ['explode', names, null],
  ['', names, null],
  ['anything', [], null],
] as const)('%j of %j is %j', ([word, candidates, expected]) => expect(nearest(word, candidates)).toBe(expected))

test('a known word is its own nearest, and a suggestion is always a known word', () => {
  fc.assert(
    fc.property(fc.string(), fc.array(fc.string()), (word, candidates) => {
      const suggestion = nearest(word, candidates)
      expect(suggestion === null || candidates.includes(suggestion)).toBe(true)
      if (candidates.includes(word)) expect(suggestion?.toLowerCase()).toBe(word.toLowerCase())
    }),
    { seed: 1, numRuns: 50 },
  )
})
