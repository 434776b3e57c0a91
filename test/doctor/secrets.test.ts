/** What a support bundle hides of the files that an operator gives to machines. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { Config } from '../../src/config/config.ts'
import { knownSecrets } from '../../src/doctor/secrets.ts'
import { openHide } from '../../src/log.ts'

test.for([
  ['.env', 'API_KEY=canary-secret-1'],
  ['.env', 'PHRASE="canary secret of five words"', 'canary secret of five words'],
  ['.env', 'DATABASE_URL=postgres://shop:canary-secret-1@db.example.org/shop'],
  ['.npmrc', '//registry.example.org/:_authToken=canary-secret-1'],
  ['.pgpass', 'db.example.org:5432:shop:shop:canary-secret-1'],
  ['.netrc', 'machine example.org\n  login shop\n  password canary-secret-1'],
  ['.netrc', 'machine example.org login shop password canary-secret-1'],
  ['.git-credentials', 'https://shop:canary-secret-1@example.org'],
  ['.docker/config.json', '{"auths":{"example.org":{"auth":"canary-secret-1"}}}'],
])('%s: %s', ([name = '', content = '', secret = 'canary-secret-1']) => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-secrets-'))
  onTestFinished(() => rmSync(home, { recursive: true }))
  const path = join(home, 'files', 'acme', 'shop', name)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, `# for the shop\n${content}\nOTHER=1\n`)
  const hide = openHide(knownSecrets({ home, secrets: [], environment: {} } as unknown as Config))
  expect(hide(`it printed ${secret} while it began`)).toBe('it printed [redacted] while it began')
  expect(hide('the machine of the shop runs')).toBe('the machine of the shop runs')
})
