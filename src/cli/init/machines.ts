/** What machines are made with on this machine. */
import { providerNames, providerRow } from '../../../providers/index.ts'
import type { Provider } from '../../../providers/provider.ts'
import { type Check, ok, problem, warning } from '../../bot/check.ts'
import { homeId } from '../../config/home.ts'
import type { ProviderName } from '../../domain.ts'
import { failureOf } from '../../errors.ts'
import { openRun } from '../../exec.ts'
import type { Desk } from './desk.ts'

const OF = 'Machines'

/** Returns the command that makes the base image, where there has to be one and there is none. */
export const setUpMachines = async ({ answers, ask, home, note: keep, signal, unlessCancelled }: Desk) => {
  const open = async (name: ProviderName): Promise<Provider | null> => {
    const { environment, providerSettings } = await answers.candidate()
    const row = providerRow(name)
    return (
      (await row.open?.({
        run: openRun(environment, { interrupt: signal, passOn: row.environment }),
        home,
        homeId: homeId(home),
        knows: () => false,
        settings: providerSettings[name] ?? {},
      })) ?? null
    )
  }
  const found = await unlessCancelled(
    Promise.all(
      providerNames
        .filter(name => providerRow(name).open !== null)
        .map(async name => {
          const answer = await (await open(name))?.available()
          return { name, ...(answer ?? { available: false as const, reason: 'it cannot be opened.', remedy: null }) }
        }),
    ),
  )
  const detected = found.find(({ name, available }) => available && providerRow(name).detected)?.name ?? null
  const present = (await answers.candidate()).provider
  if (ask !== null && !answers.isFlagged('provider')) {
    const chosen = await ask.choose<ProviderName>(
      'What are the machines made with?',
      found.map(one => ({
        value: one.name,
        label: one.name === 'synthetic' ? 'synthetic: directories, to try everything out' : one.name,
        ...(one.available ? {} : { hint: `not here: ${one.reason}` }),
      })),
      present ?? detected ?? 'synthetic',
    )
    answers.set('provider', chosen)
  }

  const { baseImage, provider, runnerToken } = await answers.candidate()
  const name = provider ?? detected
  const chosen = found.find(one => one.name === name)
  const image = async (): Promise<{ checks: Check[]; next: string | null }> => {
    const opened = name === null ? null : await open(name)
    const usable = ok(OF, `${name} can be used`)
    try {
      const images = await opened?.listBaseImages?.()
      if (images === undefined || images.includes(baseImage)) return { checks: [usable], next: null }
      const says = `there is no base image ${baseImage} yet, and without it no machine is made`
      return { checks: [usable, warning(OF, says)], next: 'agent-swarm init-base --from debian-packages' }
    } catch (error) {
      const { message, remedy } = failureOf(error, `asking ${name} for its base images`)
      return { checks: [usable, warning(OF, message, remedy)], next: null }
    }
  }
  if (chosen?.available) {
    const { checks, next } = await unlessCancelled(image())
    keep(checks)
    return next
  }
  const reasons = found
    .filter(one => (name === null ? providerRow(one.name).detected : one.name === name))
    .map(one => (one.available ? '' : `${one.name}: ${one.reason}${one.remedy === null ? '' : ` ${one.remedy}`}`))
  const says = name === null ? 'no hypervisor can be used here' : `${name} cannot be used here`
  // A runner on another machine asks this bot for work.
  if (runnerToken !== null) keep([warning(OF, `${says}; a runner elsewhere makes them. ${reasons.join(' ')}`)])
  else
    keep([problem(OF, `${says}. ${reasons.join(' ')}`, 'To try everything out without machines: --provider synthetic')])
  return null
}
