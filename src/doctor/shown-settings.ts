/** The settings that a support bundle shows. All others are named when they are set, and their values left out. */
import { existsSync, readFileSync } from 'node:fs'
import { type Config, settingsInEnvironment } from '../config/config.ts'
import { configFileIn } from '../config/home.ts'
import { type SettingName, settings } from '../config/settings.ts'

/** What each is in the configuration. No secret, no address, no person, no command: what is not listed here is not shown. */
const SHOWN = {
  githubRepositories: ({ github }) => github?.repositories ?? null,
  jiraProjects: ({ projects }) => projects,
  jiraExplain: ({ explain }) => explain,
  pollSeconds: ({ pollSeconds }) => pollSeconds,
  port: ({ port }) => port,
  logLevel: ({ logLevel }) => logLevel,
  runnerSlots: ({ runnerSlots }) => runnerSlots,
  machinesPerPerson: ({ machinesPerPerson }) => machinesPerPerson,
  provider: ({ provider }) => provider,
  baseImage: ({ baseImage }) => baseImage,
  bootMinutes: ({ bootMinutes }) => bootMinutes,
  retention: ({ retention }) => retention,
  idle: ({ idle }) => idle,
  cpus: ({ size }) => size.cpus,
  memoryMiB: ({ size }) => size.memoryMiB,
  diskGiB: ({ size }) => size.diskGiB,
  maxCpus: ({ limits }) => limits.cpus,
  maxMemoryMiB: ({ limits }) => limits.memoryMiB,
  maxDiskGiB: ({ limits }) => limits.diskGiB,
} satisfies Partial<Record<SettingName, (config: Config) => unknown>>
/** Of the providers. */
const SHOWN_OF_PROVIDERS: readonly string[] = [
  ...['kvmDomainType', 'kvmFirmware', 'kvmPool', 'kvmNetwork', 'kvmSessionNet', 'syntheticMemoryMiB'],
]

/** The known settings in the file, whatever else is in it. */
const namesInFile = async (home: string): Promise<string[]> => {
  const path = configFileIn(home)
  if (!existsSync(path)) return []
  const { parse } = await import('yaml')
  const content: unknown = parse(readFileSync(path, 'utf8'))
  return typeof content === 'object' && content !== null ? Object.keys(content) : []
}

export const shownSettings = async (config: Config) => {
  const given = new Set([
    ...Object.keys(settingsInEnvironment(config.environment)),
    ...(await namesInFile(config.home)),
  ])
  const shown = Object.entries(SHOWN).map(([name, valueIn]) => [name, valueIn(config)])
  const ofProviders = Object.values(config.providerSettings).flatMap(values =>
    Object.entries(values).filter(([name]) => SHOWN_OF_PROVIDERS.includes(name)),
  )
  const values: Record<string, unknown> = Object.fromEntries([...shown, ...ofProviders])
  return {
    values,
    setAndNotShown: Object.keys(settings).filter(name => given.has(name) && !Object.hasOwn(values, name)),
  }
}
