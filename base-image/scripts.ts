/** The shell scripts beside this file, which turn a machine into a base image, as texts to run in it. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { IMAGE_PROFILES, type ImageProfile } from '../src/domain.ts'
import { fail } from '../src/errors.ts'

export type Profile = ImageProfile

export type ImageStep = { name: string; summary: string; profiles: Profile[] }

export type SetupOptions = {
  profile: Profile
  /** The project's own steps, in order: what lies in its `base-image.d/`. `name` is the file's, without `.sh`. */
  extra: readonly { name: string; text: string }[]
  /** Names of steps; see `imageSteps`, and the names of `extra`. */
  only?: readonly string[]
  skip?: readonly string[]
  /** SHA-256 in hexadecimal, by the names that setup-base.sh knows, for files that no checksum is pinned for. */
  sha256?: Readonly<Record<string, string>>
  /** Mirrors and other sources, by the names of setup-base.sh: `{SWARM_APT_MIRROR: 'http://mirror.example/debian'}`. */
  mirrors?: Readonly<Record<string, string>>
}

const read = (...path: string[]): string => readFileSync(join(import.meta.dirname, ...path), 'utf8')
const stepFiles = (): string[] => readdirSync(join(import.meta.dirname, 'steps')).sort()

/** contents.sh lists the packages; seal.sh removes what belongs to one machine. */
export const baseScript = (file: 'contents.sh' | 'seal.sh'): string => read(file)

/** What setup-base.sh does, in order. Each step's file begins with its line `step NAME PROFILES 'SUMMARY'`. */
export const imageSteps = (): ImageStep[] =>
  stepFiles().map(file => {
    const [, name = '', profiles = '', summary = ''] =
      read('steps', file).match(/^step ([a-z]+) '?([a-z ]+?)'? '(.*)'$/m) ?? []
    return { name, summary, profiles: IMAGE_PROFILES.filter(profile => profiles.split(' ').includes(profile)) }
  })

/**
 * The whole of setup-base.sh as one text for `sh -s`, as root. On standard output it prints `step NAME` as each step begins; the
 * rest is on standard error. Exit code 1: a step failed; 2: wrong options.
 */
export const setupScript = ({
  profile,
  extra,
  only = [],
  skip = [],
  sha256 = {},
  mirrors = {},
}: SetupOptions): string =>
  [
    ...Object.entries(mirrors).map(([name, value]) => `export ${checkedName(name)}=${quote(value)}`),
    ...(extra.length === 0 ? [] : ['swarm_extra=$(mktemp -d)', ...extra.map(embedded)]),
    `set -- ${[
      ...['--profile', profile],
      ...only.flatMap(name => ['--only', name]),
      ...skip.flatMap(name => ['--skip', name]),
      ...Object.entries(sha256).flatMap(([name, hex]) => ['--sha256', `${name}=${hex}`]),
    ]
      .map(quote)
      .join(' ')}${extra.length === 0 ? '' : ' --extra "$swarm_extra"'}`,
    wholeScript(),
  ].join('\n')

/**
 * Proves each piece of the image by use, in the machine, as root. It prints a line a piece: `proven PIECE HOW` or
 * `unproven PIECE WHY`. Exit code 1: a piece that was set up does not work. What was left out of the image is `unproven` and no
 * failure.
 */
export const verifyScript = (profile: Profile): string => `set -- verify --profile ${profile}\n${wholeScript()}`

/** The names of the settings that say where things come from: those that setup-base.sh describes. */
export const sourceSettings = (): string[] => [
  ...new Set(
    read('setup-base.sh')
      .match(/^# .*$/gm)
      ?.flatMap(line => line.match(/\bSWARM_[A-Z0-9_]+/g) ?? []),
  ),
]

const wholeScript = (): string =>
  ['swarm_steps=here', read('lib.sh'), ...stepFiles().map(file => read('steps', file)), read('setup-base.sh')].join(
    '\n',
  )

const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

const checkedName = (name: string): string => {
  if (!/^SWARM_[A-Z0-9_]+$/.test(name))
    throw fail('usage', `"${name}" is not a setting of setup-base.sh`, 'Names begin with SWARM_.')
  return name
}

/** Writes the step's text to a file in the machine. The text itself never stands in the script. */
const embedded = ({ name, text }: { name: string; text: string }): string => {
  if (!/^[a-z0-9][a-z0-9._-]{0,36}$/.test(name))
    throw fail(
      'usage',
      `"${name}" is not a name of a step`,
      'Use lower-case letters, digits, and . _ - after the first one.',
    )
  const lines =
    Buffer.from(text)
      .toString('base64')
      .match(/.{1,76}/g) ?? []
  return [`base64 -d >"$swarm_extra/${name}.sh" <<'END'`, ...lines, 'END'].join('\n')
}
