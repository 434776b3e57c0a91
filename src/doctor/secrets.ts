/** Every secret that this host holds for agent-swarm, so that a text can be searched for it. */
import { type Dirent, existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Config } from '../config/config.ts'
import { isSecretName } from '../log.ts'

/** Files of a folder, and bytes of a file: keys, and a project's own settings, are small. */
const MOST_FILES = 1_000
const MOST_BYTES = 64 * 1024
/** A shorter value of a file is an ordinary word, for example `true`. */
const SHORTEST = 8

const filesIn = (folder: string): string[] =>
  existsSync(folder)
    ? readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry: Dirent) => entry.isFile() && !entry.name.endsWith('.pub') && entry.name !== 'known_hosts')
        .slice(0, MOST_FILES)
        .map((entry: Dirent) => join(entry.parentPath, entry.name))
    : []

const isSmallFile = (path: string): boolean => {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  return stats?.isFile() === true && stats.size <= MOST_BYTES
}

/**
 * What may be a secret in a file: what follows `:` or `=`, as a word or in quotes; the rest of such a word after each further
 * `:` and `=`, to its end or to an `@`, as in `host:5432:shop:user:password`, `//registry/:_authToken=…` and addresses with a
 * password; and the words of `.netrc`.
 */
const VALUES = [
  /[:=][ \t]*["']?([^\s"',}]+)/g,
  /[:=][ \t]*"([^"\n]+)"/g,
  /[:=][ \t]*'([^'\n]+)'/g,
  /(?=[:=]([^\s"',}]{8,200})(?:[\s"',}]|$))/g,
  /(?=[:=]([^\s"',}@]{8,200})@)/g,
  /\b(?:login|account|password)\s+(\S+)/g,
] as const

/** A whole file, and its values. */
const secretsIn = (path: string): string[] => {
  if (!isSmallFile(path)) return []
  const text = readFileSync(path, 'utf8').trim()
  const values = VALUES.flatMap(pattern => [...text.matchAll(pattern)].map(([, value = '']) => value))
  return [text, ...values].filter(secret => secret.length >= SHORTEST)
}

/** Of the settings, the environment, and the files of the home that hold keys, tokens, or what an operator gives to machines. */
export const knownSecrets = ({ home, secrets, environment }: Config): string[] => {
  const variables = Object.entries(environment).flatMap(([name, value]) =>
    value !== undefined && isSecretName(name) ? [value] : [],
  )
  const keys = existsSync(home) ? readdirSync(home).filter(name => name.endsWith('.pem')) : []
  const files = [
    ...[...keys, 'operator.json'].map(name => join(home, name)),
    ...['ssh', 'model-keys', 'files'].flatMap(name => filesIn(join(home, name))),
  ]
  return [...new Set([...secrets, ...variables, ...files.flatMap(secretsIn)])]
}
