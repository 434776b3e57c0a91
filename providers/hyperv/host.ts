/** What this host has and lacks for machines of Hyper-V. Reads alone, each in one process. */
import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { ok, problem, warning } from '../../src/check.ts'
import { failureOf } from '../../src/errors.ts'
import { roomLeft, runDiagnosis } from '../diagnosis.ts'
import type { Diagnosis, Provider } from '../provider.ts'
import { type Context, freeSpace, surveyHost } from './context.ts'
import { isolationIn } from './isolation.ts'
import { makeNetworkText, networkIn, whyNoFixedAddresses } from './network.ts'
import type { Host } from './parse.ts'
import { doesConvert } from './qemu-img.ts'
import { DEFAULT_SWITCH } from './settings.ts'

export const available = async (context: Context): ReturnType<Provider['available']> => {
  try {
    await surveyHost(context)
    return { available: true }
  } catch (error) {
    const { message, remedy } = failureOf(error, 'looking at Hyper-V')
    return { available: false, reason: message, remedy }
  }
}

const checkNetwork = ({ settings }: Context, host: Host): Diagnosis => {
  const { hypervSwitch: name } = settings
  const network = networkIn(host, name)
  if (network !== null)
    return network.own === null
      ? ok(`machines get their addresses on the ${name}, by DHCP`)
      : ok(`the switch ${name} has NAT, and machines get fixed addresses on it`)
  if (name === DEFAULT_SWITCH)
    return problem(
      `this Windows has no ${name}`,
      'Leave AGENT_SWARM_HYPERV_SWITCH out: agent-swarm makes its own switch.',
    )
  const wrong = whyNoFixedAddresses(host, name)
  if (wrong !== null) return problem(wrong.reason, wrong.remedy)
  const fallback = networkIn(host, DEFAULT_SWITCH) === null ? '' : `; until then, machines get the ${DEFAULT_SWITCH}`
  return warning(
    `the switch ${name} with NAT does not exist. The first machine makes it, if that is done as Administrator${fallback}`,
    makeNetworkText(name, host),
  )
}

const checkIsolation = (context: Context, host: Host): Diagnosis => {
  const report = isolationIn(context, host)
  return report.isolated
    ? ok(`machines are isolated. ${report.note}`)
    : warning(`machines are not isolated: ${report.reason}`, report.remedy)
}

const existing = (folder: string): string =>
  existsSync(folder) || dirname(folder) === folder ? folder : existing(dirname(folder))

const checkRoom = ({ home }: Context, { memory, free }: Host): Diagnosis => {
  const folder = existing(home)
  return roomLeft(folder, freeSpace({ home: folder }), { total: memory, available: free })
}

const checkQemuImg = async ({ run }: Context): Promise<Diagnosis> =>
  (await doesConvert(run))
    ? ok('qemu-img is installed: base images can begin with a qcow2 or raw file')
    : warning(
        'qemu-img is not installed: base images can begin with a VHDX file alone',
        'Install QEMU for Windows, and put its folder on PATH.',
      )

/** `system`: Windows with its version, which is Hyper-V's, too. */
const toolsText = ({ system, version }: Host): string => {
  const at = system.lastIndexOf(' ')
  return `Hyper-V ${system.slice(at + 1)} of ${system.slice(0, at).trim()}, with Windows PowerShell ${version}`
}

/** `signal` ends it. Without Hyper-V, only that is reported. */
export const diagnose = async (context: Context, signal: AbortSignal): Promise<Diagnosis[]> => {
  let host: Host
  try {
    host = await surveyHost(context, signal)
  } catch (error) {
    const { message, remedy } = failureOf(error, 'looking at Hyper-V')
    return [problem(message, remedy)]
  }
  return [
    ok(`this user may use ${toolsText(host)}`),
    ...(await runDiagnosis([
      ['looking at the network', async () => checkNetwork(context, host)],
      ['looking for room', async () => checkRoom(context, host)],
      ['looking for qemu-img', () => checkQemuImg(context)],
      ['looking at isolation', async () => checkIsolation(context, host)],
    ])),
  ]
}
