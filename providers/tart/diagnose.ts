/** What this Mac has and lacks for machines. Changes nothing. */
import { ok, problem, warning } from '../../src/check.ts'
import { failureOf, isFailure } from '../../src/errors.ts'
import type { Run } from '../../src/exec.ts'
import { roomLeft, runDiagnosis } from '../diagnosis.ts'
import type { Diagnosis } from '../provider.ts'
import { type Context, listAll, runTart } from './context.ts'
import { isolationReport } from './isolation.ts'
import { readIfThere } from './machines.ts'
import { parseLeaseFile } from './parse.ts'
import { capacityOfHost, diskRoom } from './usage.ts'

const DEADLINE_MS = 10_000
/** The version whose commands and messages this provider is written for. */
const WRITTEN_FOR = [2, 35] as const
/** macOS' DHCP server has about 253 addresses, and lends one for a day. */
const MANY_LEASES = 200
const SHORT_LEASES =
  'Let leases last ten minutes: sudo defaults write /Library/Preferences/SystemConfiguration/com.apple.InternetSharing.default.plist bootpd -dict DHCPLeaseTimeSecs -int 600. Softnet does it by itself.'

const checkVersion = async (context: Context): Promise<Diagnosis> => {
  const version = (await runTart(context, ['--version'], { deadline: DEADLINE_MS })).trim()
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const [wantMajor, wantMinor] = WRITTEN_FOR
  const isOlder = major < wantMajor || (major === wantMajor && minor < wantMinor)
  return isOlder
    ? warning(
        `Tart ${version} is older than ${WRITTEN_FOR.join('.')}, which this version is written for`,
        'brew upgrade openai/tools/tart',
      )
    : ok(`Tart ${version} is installed`)
}

const checkList = async (context: Context): Promise<Diagnosis> =>
  ok(`Tart lists its VMs: ${(await listAll(context)).length}`)

const checkQemuImg = async ({ run }: Context): Promise<Diagnosis> => {
  const ran = await run('qemu-img', ['--version'], { deadline: DEADLINE_MS }).catch((error: unknown) => {
    if (isFailure(error)) return null
    throw error
  })
  return ran === null
    ? warning('qemu-img is not installed: base images can be built of raw disks alone', 'brew install qemu')
    : ok('qemu-img is installed, which makes raw disks of cloud images')
}

const checkLeases = (context: Context): Diagnosis | null => {
  const text = readIfThere(context.host.leases)
  if (text === undefined) return null
  const { size } = parseLeaseFile(text, Date.now() / 1000)
  return size < MANY_LEASES
    ? ok(`${size} addresses of macOS' DHCP server are lent`)
    : warning(`${size} of about 253 addresses of macOS' DHCP server are lent`, SHORT_LEASES)
}

const checkRoom = async (context: Context): Promise<Diagnosis> => {
  const { folder, ...disk } = diskRoom(context)
  return roomLeft(folder, disk, (await capacityOfHost(context)).memoryBytes)
}

const checkIsolation = async (context: Context): Promise<Diagnosis> => {
  const report = await isolationReport(context)
  return report.isolated
    ? ok(`machines are isolated. ${report.note}`)
    : warning(`machines are not isolated: ${report.reason}`, report.remedy)
}

/** `signal` ends it. Without Tart, only that is reported. */
export const diagnose = async (given: Context, signal: AbortSignal): Promise<Diagnosis[]> => {
  const run: Run = (program, argv, options = {}) => given.run(program, argv, { ...options, signal })
  const context: Context = { ...given, run }
  let version: Diagnosis
  try {
    version = await checkVersion(context)
  } catch (error) {
    const { message, remedy } = failureOf(error, 'asking for the version of Tart')
    return [problem(message, remedy)]
  }
  return [
    version,
    ...(await runDiagnosis([
      ['listing the VMs', () => checkList(context)],
      ['looking for qemu-img', () => checkQemuImg(context)],
      ['looking for room', () => checkRoom(context)],
      ['reading the leases', async () => checkLeases(context)],
      ['looking at isolation', () => checkIsolation(context)],
    ])),
  ]
}
