import { expect, test } from 'vitest'
import { handlers } from '../../handlers/index.ts'
import { environment, pushEvent, pushFacts, rules, summarize } from './fixtures.ts'

test.for([
  ['a branch of the ticket', {}, {}, 'checkpoint DROP-1 push-abcdef0'],
  ['lower case in the branch', { ref: 'refs/heads/feature/drop-1' }, {}, 'checkpoint DROP-1 push-abcdef0'],
  ['a deleted branch', { deleted: true }, {}, 'ignored: the branch was deleted'],
  ['a tag', { ref: 'refs/tags/DROP-1' }, {}, 'ignored: not a branch'],
  ['no ticket', { ref: 'refs/heads/main' }, {}, 'ignored: no ticket in the branch name'],
  ['another project', { ref: 'refs/heads/UTF-8' }, {}, 'ignored: no ticket in the branch name'],
  ['no environment', {}, { environment: null }, 'ignored: DROP-1 has no machine'],
  ['a stopped machine', {}, { environment: environment('stopped') }, 'ignored: DROP-1 is stopped'],
  [
    'a provider that would stop the machine',
    {},
    { live: false },
    'ignored: kvm cannot make a checkpoint without stopping the machine',
  ],
] as const)('push: %s', ([, event, facts, expected]) =>
  expect(summarize(handlers.push(pushEvent(event), pushFacts(facts), rules))).toBe(expected),
)

test('a push asks for as many checkpoints to be kept as the rules say', () => {
  const keep = { newest: 2, days: 7 }
  expect(handlers.push(pushEvent(), pushFacts(), { ...rules, keep })).toMatchObject({
    actions: [{ kind: 'checkpoint', keep }],
  })
})
