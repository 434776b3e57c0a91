/**
 * Which hypervisor a home uses when none is configured: the first one of this platform that is available. Those of other platforms
 * are never asked. The answer is kept for a day in a file of the home, and dropped as soon as the hypervisor seems to be gone.
 */
import { readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { providers } from '../../providers/index.ts'
import type { Provider, ProviderDescription } from '../../providers/provider.ts'
import { DAY_MS } from '../clock.ts'
import type { Config } from '../config/config.ts'
import type { FailureKind, ProviderName } from '../domain.ts'
import { fail, isFailure } from '../errors.ts'
import { writeFileAtomic } from '../files.ts'
import { providerName, time } from '../schema/basics.ts'

type Platform = NodeJS.Platform

const PLATFORM_NAMES: Readonly<Partial<Record<Platform, string>>> = {
  linux: 'Linux',
  darwin: 'macOS',
  win32: 'Windows',
}
export const platformName = (platform: Platform): string => PLATFORM_NAMES[platform] ?? platform

/** Whether the provider is for hosts with another system than this one. */
export const isForeign = (row: Pick<ProviderDescription, 'platform'>, platform: Platform): boolean =>
  row.platform !== null && row.platform !== platform

const detectable = (platform: Platform): ProviderDescription[] =>
  providers.filter(row => row.detected && row.open !== null && !isForeign(row, platform))
/** Those that are chosen on this platform when they are available and none is configured, in this order. */
export const detectedProviders = (platform: Platform): ProviderName[] => detectable(platform).map(({ name }) => name)

// ── The answer of the last day ──

/** `for`: what the answer depends on. */
const remembered = v.strictObject({ provider: providerName, at: time, for: v.string() })
const MAX_FILE = 64 * 1024
const fileIn = (home: string) => join(home, 'detected-provider.json')

type Asking = { config: Config; home: string; platform: Platform; clock: () => Date }

/** Of the settings and variables that decide what the providers of this platform find: no value of theirs is on disk. */
const basisOf = async ({ config, platform }: Asking): Promise<string> => {
  // Not for a home with a configured provider.
  const { createHash } = await import('node:crypto')
  const text = JSON.stringify([
    platform,
    config.environment.PATH,
    detectable(platform).map(({ name, settings, environment }) => [
      name,
      Object.entries(config.providerSettings[name] ?? {}).filter(([setting]) => settings[setting]?.secret !== true),
      environment.map(variable => config.environment[variable]),
    ]),
  ])
  return createHash('sha256').update(text).digest('hex')
}

/** Null: it is not known, or older than a day, or holds for another configuration, or the file is damaged. */
const recall = async (asking: Asking): Promise<ProviderName | null> => {
  const file = fileIn(asking.home)
  try {
    if ((statSync(file, { throwIfNoEntry: false })?.size ?? MAX_FILE) >= MAX_FILE) return null
    const { provider, at, for: basis } = v.parse(remembered, JSON.parse(readFileSync(file, 'utf8')))
    const age = asking.clock().getTime() - Date.parse(at)
    const isCurrent = age >= 0 && age < DAY_MS && basis === (await basisOf(asking))
    return isCurrent && detectedProviders(asking.platform).includes(provider) ? provider : null
  } catch {
    return null
  }
}

const remember = async (asking: Asking, provider: ProviderName): Promise<void> => {
  const answer = { provider, at: asking.clock().toISOString(), for: await basisOf(asking) }
  try {
    writeFileAtomic(fileIn(asking.home), `${JSON.stringify(answer)}\n`)
  } catch {
    // Without it the next command asks again.
  }
}

export const forgetDetected = (home: string): void => rmSync(fileIn(home), { force: true })

/** What a hypervisor's command fails with when it was removed, does not run any more, or keeps this user out. */
const GONE: readonly FailureKind[] = ['provider-missing', 'hypervisor-unreachable', 'permission']

/** The same provider. Calls `onGone` when one of its methods says that the hypervisor does not work here any more. */
export const watched = (provider: Provider, onGone: () => void): Provider => ({
  ...(Object.fromEntries(
    Object.entries<unknown>(provider).map(([name, member]) => [
      name,
      typeof member !== 'function'
        ? member
        : async (...values: unknown[]) => {
            try {
              return await member(...values)
            } catch (error) {
              if (isFailure(error) && GONE.includes(error.failure.kind)) onGone()
              throw error
            }
          },
    ]),
  ) as Provider),
  available: async () => {
    const state = await provider.available()
    if (!state.available) onGone()
    return state
  },
})

// ── Detection ──

const sentence = (text: string) => (/[.:?!]$/.test(text) ? text : `${text}.`)

/** What people would install: on this platform, or, where there is no hypervisor for it, elsewhere. */
const whatToInstall = (platform: Platform, remedies: readonly string[]): string[] => {
  const all = providers.filter(row => row.detected && row.needs !== null)
  const here = all.filter(row => !isForeign(row, platform))
  const isTold = here.every(({ needs }) => needs !== null && remedies.some(text => text.includes(needs)))
  if (here.length > 0)
    return isTold
      ? []
      : [`On ${platformName(platform)}, agent-swarm needs ${here.map(({ needs }) => needs).join(' or ')}.`]
  const elsewhere = all.map(
    ({ platform: other, needs }) => `${needs}${other === null ? '' : ` on ${platformName(other)}`}`,
  )
  return [`agent-swarm makes machines with ${elsewhere.join(', ')}, and not on ${platformName(platform)}.`]
}

/** Asks one provider after the other, unless the answer is known. Fails with `provider-missing` when none is available. */
export const detectProvider = async (
  asking: Asking,
  open: (name: ProviderName) => Promise<Provider>,
): Promise<Provider> => {
  const known = await recall(asking)
  if (known !== null) return open(known)
  const reasons: string[] = []
  const remedies: string[] = []
  for (const name of detectedProviders(asking.platform)) {
    const provider = await open(name)
    const state = await provider.available()
    if (state.available) {
      await remember(asking, name)
      return provider
    }
    reasons.push(`${name}: ${sentence(state.reason)}`)
    if (state.remedy !== null) remedies.push(sentence(state.remedy))
  }
  throw fail(
    'provider-missing',
    ['no hypervisor is available here.', ...reasons].join(' '),
    [
      ...remedies,
      ...whatToInstall(asking.platform, remedies),
      'To try everything out without machines, set AGENT_SWARM_PROVIDER=synthetic.',
    ].join('\n'),
  )
}
