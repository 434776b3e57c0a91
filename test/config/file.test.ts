import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readConfigFile, withChanges, writeConfigFile } from '../../src/config/file.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-config-file-'))
})
afterEach(() => rmSync(home, { recursive: true, force: true }))
const path = () => join(home, 'config.yaml')

test('answers go into the file, and everything else in it stays', async () => {
  writeFileSync(path(), '# mine\nport: 3000 # the usual\njiraHost: old.example.org\nother: 1\n')
  const file = await readConfigFile(home)
  const next = await withChanges(
    file,
    new Map<'port' | 'jiraHost' | 'jiraProjects', unknown>([
      ['jiraProjects', ['DROP', 'WEB']],
      ['port', 8080],
      ['jiraHost', null],
    ]),
  )
  expect(next).toBe('# mine\nport: 8080 # the usual\nother: 1\njiraProjects: [DROP, WEB]\n')
  writeConfigFile(file, next)
  expect(readFileSync(path(), 'utf8')).toBe(next)
  expect(statSync(path()).mode & 0o777).toBe(0o600)
})

test('a file that somebody changed in the meantime is not overwritten', async () => {
  const file = await readConfigFile(home)
  writeFileSync(path(), 'port: 1\n')
  expect(() => writeConfigFile(file, 'port: 2\n')).toThrow(/changed in the meantime/)
  expect(readFileSync(path(), 'utf8')).toBe('port: 1\n')
})

test('a file that is not lines of settings is refused', async () => {
  writeFileSync(path(), '- port\n')
  await expect(readConfigFile(home)).rejects.toThrow(/must be lines of "name: value"/)
})
