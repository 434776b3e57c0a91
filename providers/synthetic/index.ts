/**
 * Environments that are directories with state, and no machines: the whole system runs with them on any computer, and
 * nothing is isolated. Never detected by itself; there is no SSH to it.
 *
 * One environment is `home/synthetic/<vmId>/`: `disk/` (its files) and `checkpoints/<name>/`. Its ticket and status are the
 * name of an empty file, `home/synthetic-state/<vmId>.<ticket>.<status>`: changed by one rename, and a thousand are listed
 * by one look at a folder. A change of many files is made beside and renamed into place, so that kill -9 leaves the old or
 * the new state.
 */
import { existsSync, readdirSync } from 'node:fs'
import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseCheckpointName } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import type { Provider, Tools, VmInfo, VmStatus } from '../provider.ts'

type State = { ticket: string; status: 'running' | 'stopped' }
type Taken = { createdAt: string; order: number; status: State['status'] }

const VM = /^as-[a-z0-9-]{1,51}-[0-9a-f]{8}$/
const STATE = /^(as-[a-z0-9-]{1,51}-[0-9a-f]{8})\.([A-Z][A-Z0-9_]{1,9}-\d{1,7})\.(running|stopped)$/

export const openSynthetic = ({ run, home }: Tools<null>): Provider => {
  const root = join(home, 'synthetic')
  /** Only names of our own pattern become paths. */
  const folder = (id: string, ...rest: string[]): string => {
    if (!VM.test(id)) throw fail('not-ours', `"${id}" is no synthetic environment of agent-swarm`)
    return join(root, id, ...rest)
  }
  const snapshot = (id: string, name: string): string => {
    if (parseCheckpointName(name) !== name) throw fail('usage', `"${name}" is no checkpoint name`)
    return folder(id, 'checkpoints', name)
  }
  const states = join(home, 'synthetic-state')
  const all = (): (VmInfo & State)[] => {
    const found: (VmInfo & State)[] = []
    for (const name of existsSync(states) ? readdirSync(states) : []) {
      const parts = STATE.exec(name)
      if (parts !== null)
        found.push({ vmId: parts[1] ?? '', ticket: parts[2] ?? '', ip: null, status: parts[3] as State['status'] })
    }
    return found
  }
  const marker = (id: string, { ticket, status }: State) => join(states, `${id}.${ticket}.${status}`)
  const find = (id: string): State | null => {
    folder(id)
    return all().find(one => one.vmId === id) ?? null
  }
  const read = async (id: string): Promise<State> => {
    const state = find(id)
    if (state === null) throw fail('no-such-vm', `there is no synthetic environment ${id}`)
    return state
  }
  const writeWhole = async (path: string, data: unknown) => {
    await writeFile(`${path}.new`, JSON.stringify(data), { mode: 0o600 })
    await rename(`${path}.new`, path)
  }
  const setStatus = async (id: string, status: State['status']) => {
    const state = await read(id)
    if (state.status !== status) await rename(marker(id, state), marker(id, { ...state, status }))
  }
  const taken = async (id: string): Promise<(Taken & { name: string })[]> => {
    const names = (await readdir(folder(id, 'checkpoints'))).filter(name => parseCheckpointName(name) === name)
    const found = await Promise.all(
      names.map(async name => ({
        name,
        ...(JSON.parse(await readFile(join(snapshot(id, name), 'taken.json'), 'utf8')) as Taken),
      })),
    )
    return found.sort((a, b) => a.order - b.order)
  }

  return {
    name: 'synthetic',
    available: async () => ({ available: true }),
    createVm: async (ticket, _baseImage, options, onPhase = () => {}) => {
      onPhase('disk')
      const id = options.vmId
      await mkdir(folder(id, 'disk'), { recursive: true, mode: 0o700 })
      await mkdir(folder(id, 'checkpoints'), { recursive: true, mode: 0o700 })
      await mkdir(states, { recursive: true, mode: 0o700 })
      const state = find(id) ?? { ticket, status: 'stopped' as const }
      await writeFile(marker(id, state), '', { mode: 0o600 })
      return { vmId: id, ticket: state.ticket, ip: null, status: state.status }
    },
    startVm: id => setStatus(id, 'running'),
    stopVm: id => setStatus(id, 'stopped'),
    deleteVm: async id => {
      // The state goes first: what is left of an interrupted delete is no environment any more.
      const state = find(id)
      if (state !== null) await rm(marker(id, state), { force: true })
      await rm(folder(id), { recursive: true, force: true })
    },
    sshInfo: async id => {
      await read(id)
      throw fail(
        'unsupported',
        `${id} is synthetic: there is no machine and no SSH`,
        'Commands run in its folder: agent-swarm ssh <TICKET> -- COMMAND',
      )
    },
    checkpoint: async (id, name) => {
      const state = await read(id)
      const earlier = await taken(id)
      if (earlier.some(one => one.name === name)) throw fail('already-exists', `${id} has a checkpoint ${name} already`)
      const beside = folder(id, `new-${name}`)
      await rm(beside, { recursive: true, force: true })
      await mkdir(beside, { mode: 0o700 })
      await cp(folder(id, 'disk'), join(beside, 'disk'), {
        recursive: true,
        preserveTimestamps: true,
        verbatimSymlinks: true,
      })
      const order = (earlier.at(-1)?.order ?? 0) + 1
      await writeWhole(join(beside, 'taken.json'), {
        createdAt: new Date().toISOString(),
        order,
        status: state.status,
      } satisfies Taken)
      await rename(beside, snapshot(id, name))
      return { sizeBytes: null }
    },
    restore: async (id, name) => {
      await read(id)
      const found = (await taken(id)).find(one => one.name === name)
      if (found === undefined) throw fail('no-such-checkpoint', `${id} has no checkpoint ${name}`)
      const beside = folder(id, 'disk.new')
      await rm(beside, { recursive: true, force: true })
      await cp(join(snapshot(id, name), 'disk'), beside, {
        recursive: true,
        preserveTimestamps: true,
        verbatimSymlinks: true,
      })
      await rm(folder(id, 'disk'), { recursive: true, force: true })
      await rename(beside, folder(id, 'disk'))
      await setStatus(id, found.status)
    },
    listCheckpoints: async id => {
      await read(id)
      return (await taken(id)).map(one => one.name)
    },
    status: async (id): Promise<VmStatus> => (await read(id)).status,
    listVms: async () => all(),
    liveCheckpoints: true,
    deleteCheckpoint: async (id, name) => {
      await read(id)
      await rm(snapshot(id, name), { recursive: true, force: true })
    },
    runInGuest: async (id, script, options = {}) => {
      if ((await read(id)).status !== 'running') throw fail('not-running', `${id} is stopped`)
      // In its folder, with its folder as home: a directory, not a fence.
      const disk = folder(id, 'disk')
      const ran = await run('/bin/sh', ['-c', 'cd "$HOME" && exec /bin/sh -s'], {
        ...options,
        input: script,
        env: { HOME: disk, AGENT_SWARM_GUEST_ROOTS: disk },
        doing: `running a script in ${id}`,
        answers: Array.from({ length: 255 }, (_, code) => code + 1),
      })
      return { stdout: ran.stdout, stderr: ran.stderr, exitCode: ran.exitCode }
    },
    shellInGuest: async (id, command) => {
      if ((await read(id)).status !== 'running') throw fail('not-running', `${id} is stopped`)
      const disk = folder(id, 'disk')
      return {
        program: '/bin/sh',
        argv: ['-c', `cd "$HOME" && ${command === null ? 'exec /bin/sh -i' : 'eval "$GUEST_COMMAND"'}`],
        env: { HOME: disk, PWD: disk, ...(command === null ? {} : { GUEST_COMMAND: command }) },
      }
    },
  }
}
