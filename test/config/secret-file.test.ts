/** Files with secrets that others may read or change. */
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readConfig } from '../../src/config/config.ts'
import { secretFileFault } from '../../src/config/secret-file.ts'

const isRoot = process.geteuid?.() === 0
const OTHER = 65_534
const KEY = '-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm secret '))
})
afterEach(() => {
  process.seteuid?.(process.getuid?.() ?? 0)
  rmSync(home, { recursive: true })
})
const write = (name: string, content: string, mode: number) => {
  const path = join(home, name)
  writeFileSync(path, content)
  chmodSync(path, mode)
  return path
}
const config = (more = {}) => readConfig({}, { AGENT_SWARM_HOME: home, ...more })

test.for([
  [0o600, null],
  [0o400, null],
  [0o640, null],
  [0o440, null],
  [0o644, 'can be read by other users (mode 0644). Run: chmod 600'],
  [0o604, 'can be read by other users (mode 0604). Run: chmod 600'],
  [0o660, 'can be changed by other users (mode 0660). Run: chmod 640'],
  [0o666, 'can be changed by other users (mode 0666). Run: chmod 600'],
] as const)('a file of mode %o', ([mode, fault]) => {
  const path = write('key', KEY, mode)
  const found = secretFileFault(path)
  if (fault === null) expect(found).toBeNull()
  else expect(found).toEqual({ text: `${path} holds a secret, and ${fault} '${path}'`, isFinal: true })
})

test('config.yaml with a secret stops every command, and names its chmod', async () => {
  const path = write('config.yaml', 'port: 4000\njiraApiToken: hush\n', 0o644)
  await expect(config()).rejects.toThrow(`Run: chmod 600 '${path}'`)
  chmodSync(path, 0o600)
  expect(await config()).toMatchObject({ port: 4000, notices: [] })
})

test('config.yaml without a secret may be read by everybody', async () => {
  write('config.yaml', 'port: 4000\n', 0o644)
  expect(await config()).toMatchObject({ port: 4000, notices: [] })
})

test('PRIVATE_KEY_PATH keeps the bot from starting, and no other command', async () => {
  const path = write('app.pem', KEY, 0o644)
  const app = { APP_ID: '1', WEBHOOK_SECRET: 'a long secret of the webhook', PRIVATE_KEY_PATH: path }
  expect((await config(app)).botProblems.join()).toContain(`GitHub: PRIVATE_KEY_PATH ${path} holds a secret`)
  chmodSync(path, 0o640)
  expect((await config(app)).botProblems.join()).not.toContain('holds a secret')
})

test.skipIf(!isRoot)('a mounted secret, whose mode cannot be set, is taken with a warning', async () => {
  const key = write('app.pem', KEY, 0o644)
  const file = write('config.yaml', `jiraApiToken: hush\nprivateKeyPath: ${JSON.stringify(key)}\n`, 0o644)
  chownSync(home, OTHER, OTHER)
  // Root's files, read by an ordinary user.
  process.seteuid?.(OTHER)
  const { notices, botProblems } = await config()
  expect(notices).toEqual([
    `${file} holds a secret, and can be read by other users (mode 0644). Its permissions cannot be changed from here; whoever provides it should narrow them.`,
    expect.stringContaining(`PRIVATE_KEY_PATH ${key} holds a secret`),
  ])
  expect(botProblems.join()).not.toContain('holds a secret')
})
