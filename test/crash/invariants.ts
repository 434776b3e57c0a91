/** What has no owner, and what does not agree, in a home of synthetic machines where nothing is under way. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { lockFile } from '../../src/lock-file.ts'
import type { RunnerContext } from '../../src/runner/context.ts'
import { reconcile } from '../../src/runner/reconciler/reconcile.ts'

const namesIn = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder) : [])

const IN_MACHINE = ['checkpoints', 'disk']
/** Files and folders that no row of the registry accounts for. */
const ownerlessFiles = ({ home, registry }: RunnerContext): string[] => {
  const rows = registry.environments()
  const ids = [...rows, ...registry.poolMachines()].map(({ vmId }) => vmId)
  const idOf = (name: string) => name.split('.', 1).join('')
  const extra = (folder: string, names: readonly string[]) => names.map(name => `${folder}/${name}`)
  return [
    ...extra(
      'synthetic',
      namesIn(join(home, 'synthetic')).filter(name => !ids.includes(name)),
    ),
    ...ids.flatMap(id =>
      extra(
        `synthetic/${id}`,
        namesIn(join(home, 'synthetic', id)).filter(name => !IN_MACHINE.includes(name)),
      ),
    ),
    ...ids.filter(id => !existsSync(join(home, 'synthetic', id, 'disk'))).map(id => `${id} has no disk`),
    ...extra(
      'synthetic-state',
      namesIn(join(home, 'synthetic-state')).filter(name => !ids.includes(idOf(name))),
    ),
    ...extra(
      'ssh',
      namesIn(join(home, 'ssh')).filter(
        name => !['login', 'config'].includes(name) && !ids.some(id => name === `${id}.known_hosts`),
      ),
    ),
    ...namesIn(join(home, 'backups')).filter(name => !name.endsWith('.db')),
    ...namesIn(home).filter(name => name.endsWith('.new')),
  ]
}

const heldLocks = (home: string): string[] =>
  namesIn(join(home, 'locks')).flatMap(name => {
    const release = lockFile(join(home, 'locks', name))
    release?.()
    return release === null ? [`locks/${name} is held`] : []
  })

const disagreements = async (context: RunnerContext): Promise<string[]> => {
  const { registry } = context
  const provider = await context.provider('synthetic')
  const vms = new Map((await provider.listVms()).map(vm => [vm.vmId, vm]))
  const problems: string[] = []
  for (const { ticket, vmId, status, desired } of registry.environments()) {
    const vm = vms.get(vmId)
    if (vm?.status !== status || vm.ticket !== ticket)
      problems.push(`${ticket} is ${status}, and the hypervisor has ${JSON.stringify(vm ?? null)}`)
    if (desired !== status) problems.push(`${ticket} is ${status}, and wanted ${desired}`)
    if (vm === undefined) continue
    const names = registry.checkpoints(ticket).map(({ name }) => name)
    const there = await provider.listCheckpoints(vmId)
    if (names.toSorted().join() !== there.toSorted().join())
      problems.push(`${ticket} has the checkpoints ${there}, and the registry ${names}`)
  }
  return problems
}

/** Empty when all is well. */
export const problemsOf = async (context: RunnerContext): Promise<string[]> => {
  const { registry, home } = context
  const signal = new AbortController().signal
  const { findings, unread } = await reconcile(context, { dryRun: true, signal })
  return [
    ...ownerlessFiles(context),
    ...heldLocks(home),
    ...(await disagreements(context)),
    ...registry.openOperations().map(({ id, kind, ticket }) => `operation ${id}, ${kind} of ${ticket}, is open`),
    // One that is handed out, or was being made, is no pool's any more.
    ...registry
      .poolMachines()
      .filter(({ state, vmId }) => state !== 'ready' || registry.environmentOfMachine(vmId) !== null)
      .map(({ vmId, state }) => `${vmId} of a pool is ${state}`),
    ...registry.waiting().map(({ id }) => `row ${id} of the waiting ones`),
    ...findings.map(({ ticket, finding, step }) => `reconcile: ${ticket}: ${finding}; ${step}`),
    ...unread.map(({ message }) => message),
  ]
}
