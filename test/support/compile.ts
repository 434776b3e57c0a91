/** Loads all that the whole processes of the tests load: with NODE_COMPILE_CACHE set, it is compiled when they start. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../..')
for (const room of ['src', 'providers'])
  for (const name of readdirSync(join(root, room), { recursive: true, encoding: 'utf8' }))
    if (name.endsWith('.ts')) await import(join(root, room, name))
const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
for (const name of [...Object.keys(dependencies), 'jira.js/core']) await import(name)
