/** The side of `agent-swarm init` that is about machines: which hypervisor, and whether it has a base image. */
import { providerNames, providerRow } from '../../../providers/index.ts'
import { ANY_FILE, initBase } from '../../../providers/no-such-image.ts'
import type { Provider } from '../../../providers/provider.ts'
import { runChecks } from '../../bot/check.ts'
import { type Finding, ok, problem, warning } from '../../check.ts'
import type { Config } from '../../config/config.ts'
import type { ProviderName } from '../../domain.ts'
import { failureOf } from '../../errors.ts'
import { openRun } from '../../exec.ts'
import { detectedProviders, isForeign } from '../../runner/detection.ts'
import type { Ask } from '../terminal/prompt.ts'
import { candidateOf } from './answers.ts'
import { type Setup, unlessCancelled } from './setup.ts'

type Probe = { name: ProviderName; provider: Provider } & Awaited<ReturnType<Provider['available']>>
const probe = async (names: readonly ProviderName[], config: Config, signal: AbortSignal): Promise<Probe[]> => {
  const probes = names.map(async (name): Promise<Probe[]> => {
    const row = providerRow(name)
    const provider = await row.open?.({
      run: openRun(config.environment, { interrupt: signal, passOn: row.environment }),
      home: config.home,
      // Nothing here creates or changes a machine.
      homeId: '',
      knows: () => false,
      settings: config.providerSettings[name] ?? {},
    })
    return provider === undefined ? [] : [{ name, provider, ...(await provider.available()) }]
  })
  return (await Promise.all(probes)).flat()
}
/** None for another system than this one. */
const ofPlatform = (platform: NodeJS.Platform): ProviderName[] =>
  providerNames.filter(name => !isForeign(providerRow(name), platform))

export const chooseProvider = async (setup: Setup, ask: Ask): Promise<void> => {
  const { answers, invocation } = setup
  const { platform } = invocation.terminal
  const config = await candidateOf(answers)
  const probes = await unlessCancelled(setup, probe(ofPlatform(platform), config, invocation.signal))
  const detectable = detectedProviders(platform)
  const detected = probes.find(({ name, available }) => available && detectable.includes(name))?.name
  const choices = probes.map(({ name, ...result }) => ({
    value: name,
    label: name === 'synthetic' ? 'synthetic: directories instead of machines, to try agent-swarm' : name,
    ...(result.available ? {} : { hint: `not available: ${result.reason}` }),
  }))
  answers.values.set(
    'provider',
    await ask.choose('Which hypervisor?', choices, config.provider ?? detected ?? 'synthetic'),
  )
}

type Context = { config: Config; probes: readonly Probe[]; usable: Probe | undefined }
const checkHypervisor = ({ config: { provider, runnerToken }, probes, usable }: Context) => {
  if (usable !== undefined) return ok(`${usable.name} can be used`)
  const reasons = probes.map(({ name, ...result }) =>
    result.available ? '' : `${name}: ${result.reason} ${result.remedy ?? ''}`.trim(),
  )
  const text = `${provider === null ? 'no hypervisor' : provider} cannot be used here`
  // A runner on another host asks this bot for work.
  if (runnerToken !== null)
    return warning(`${text}; a runner on another host creates the machines. ${reasons.join(' ')}`)
  return problem(`${text}. ${reasons.join(' ')}`, 'To try agent-swarm without machines: --provider synthetic')
}
const checkBaseImage = async ({ config: { baseImage }, usable }: Context) => {
  const images = await usable?.provider.listBaseImages?.()
  if (images === undefined || images.includes(baseImage)) return null
  const next = initBase(baseImage, usable?.provider.beginning ?? ANY_FILE)
  return { ...warning(`the base image ${baseImage} does not exist yet; machines cannot be created without it`), next }
}

export const checkMachines = async (
  config: Config,
  signal: AbortSignal,
  platform: NodeJS.Platform,
): Promise<Finding[]> => {
  const names = config.provider === null ? detectedProviders(platform) : [config.provider]
  const probes = await probe(names, config, signal)
  return runChecks<Context>(
    { config, probes, usable: probes.find(({ available }) => available) },
    [
      ['checking the hypervisor', checkHypervisor],
      ['listing base images', checkBaseImage],
    ],
    (error, doing) => {
      const { message, remedy } = failureOf(error, doing)
      return warning(message, remedy)
    },
  )
}
