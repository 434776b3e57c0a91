import { describe, expect, test } from 'vitest'
import type { Facts } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import { environment, type Of, rules, said } from './fixtures.ts'

describe('push', () => {
  const push = (more: Partial<Of<'push'>> = {}): Of<'push'> => ({
    kind: 'push',
    repo: 'acme/shop',
    ref: 'refs/heads/DROP-1-x',
    after: 'ABCDEF0123'.padEnd(40, '0'),
    deleted: false,
    pusher: 'dev',
    ...more,
  })
  const facts = (more: Partial<Facts['push']> = {}): Facts['push'] => ({
    environment: environment(),
    live: true,
    ...more,
  })
  test.for<[string, Of<'push'>, Facts['push'], string]>([
    ['a push to the ticket branch', push(), facts(), 'checkpoint DROP-1 push-abcdef0'],
    ['lower case in the branch', push({ ref: 'refs/heads/feature/drop-1' }), facts(), 'checkpoint DROP-1 push-abcdef0'],
    ['a deleted branch', push({ deleted: true }), facts(), 'ignored: the branch was deleted'],
    ['a tag', push({ ref: 'refs/tags/DROP-1' }), facts(), 'ignored: no branch'],
    ['no ticket', push({ ref: 'refs/heads/main' }), facts(), 'ignored: no ticket in the branch name'],
    ['another project', push({ ref: 'refs/heads/UTF-8' }), facts(), 'ignored: no ticket in the branch name'],
    ['no environment', push(), facts({ environment: null }), 'ignored: DROP-1 has no environment'],
    ['a stopped one', push(), facts({ environment: environment('stopped') }), 'ignored: DROP-1 is stopped'],
    [
      'a provider that would stop the guest',
      push(),
      facts({ live: false }),
      'ignored: kvm cannot make a checkpoint without stopping the machine',
    ],
  ])('%s', ([, event, given, expected]) => expect(said(handlers.push(event, given, rules))).toBe(expected))
})
