/** Loads every module that the processes of the tests load. With NODE_COMPILE_CACHE set, they start with compiled code. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../..')
for (const folder of ['src', 'providers'])
  for (const name of readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }))
    if (name.endsWith('.ts')) await import(join(root, folder, name))
const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
for (const name of [...Object.keys(dependencies), 'jira.js/core']) await import(name)
