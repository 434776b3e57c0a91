/** What a provider's `diagnose` is made of: checks of which one that fails does not keep the next from running. */
import { failed, ok, problem, warning } from '../src/check.ts'
import { failureOf } from '../src/errors.ts'
import type { Diagnosis } from './provider.ts'

const gib = (bytes: number): string => `${(bytes / 1024 ** 3).toFixed(1)} GiB`

/** `doing` begins the text of a check that throws something without a text of its own. One that does not apply gives null. */
export type DiagnosisCheck = readonly [doing: string, run: () => Promise<Diagnosis | null>]

/** In this order; they run at the same time. */
export const runDiagnosis = async (checks: readonly DiagnosisCheck[]): Promise<Diagnosis[]> =>
  (
    await Promise.all(checks.map(([doing, run]) => run().catch((error: unknown) => failed(failureOf(error, doing)))))
  ).filter(finding => finding !== null)

type Room = { available: number; total: number }
const LOW_DISK = 5 * 1024 ** 3
const NO_DISK = 1024 ** 3
const LOW_MEMORY = 1024 ** 3
const LOOK_AT_MACHINES = 'Delete machines that are not needed: agent-swarm list --sort disk, agent-swarm delete TICKET'

/** Bytes. `memory` null: machines need none of their own. `folder`: where their disks are. */
export const roomLeft = (folder: string, disk: Room, memory: Room | null): Diagnosis => {
  const parts = [
    `${gib(disk.available)} of ${gib(disk.total)} are free in ${folder}`,
    ...(memory === null ? [] : [`${gib(memory.available)} of ${gib(memory.total)} of memory are available`]),
  ]
  const text = parts.join(', and ')
  if (disk.available < NO_DISK) return problem(`${text}: machines pause when the disk is full`, LOOK_AT_MACHINES)
  if (disk.available < LOW_DISK) return warning(text, LOOK_AT_MACHINES)
  return memory !== null && memory.available < LOW_MEMORY
    ? warning(text, 'Stop machines that are not needed: agent-swarm list --status running, agent-swarm stop TICKET')
    : ok(text)
}
