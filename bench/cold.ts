/**
 * (j) A create of our image, and what takes the place of a create, each compared with the plain script's create of the untrimmed
 * image of the same release in the same run.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { environmentFor } from './against.ts'
import { emptyPool, fillPool, sharedMemory } from './claims.ts'
import type { Row } from './main.ts'
import { entry, finishMeasured, hasLibvirt, median, withHome } from './measure.ts'

const ROUNDS = 3
/** Made once, of the same packages as the base image. */
const UNTRIMMED = 'untrimmed'
const MAKE = `init-base ${UNTRIMMED} --from debian-packages --profile minimal --skip base,time,seed,boot`
/** Processor time that a create may take beyond the script's, without QEMU. */
const MORE_MS = 300
const MOST = { create: 0.6, claim: 0.04, 'claim saved': 0.06, wake: 0.06, fork: 0.2, forks: 0.35 }
const MOST_PAUSE_MS = 100
const TICKET = 'BENCH-1'

type Environment = Record<string, string | undefined>
type Times = { note(name: string, value: number): void; of(name: string): number; has(name: string): boolean }

const openTimes = (): Times => {
  const times = new Map<string, number[]>()
  return {
    note: (name, value) => times.set(name, [...(times.get(name) ?? []), value]),
    of: name => median(times.get(name) ?? []),
    has: name => times.has(name),
  }
}

type Run = (...words: string[]) => Promise<Awaited<ReturnType<typeof finishMeasured>>>
const runIn =
  (environment: Environment, file: string, ...first: string[]): Run =>
  async (...words) => {
    const ran = await finishMeasured(file, [...first, ...words], environment)
    if (ran.code !== 0) throw new Error(`${file} ${words.join(' ')}: ${ran.stderr}`)
    return ran
  }

/** Makes attempts, and deletes them again. */
const measureForks = async (own: Run, times: Times, name: 'fork' | 'forks', count: number): Promise<void> => {
  times.note(name, (await own('fork', TICKET, '--count', `${count}`)).milliseconds)
  const rows: { ticket: string; vmId: string }[] = JSON.parse((await own('list', '--json')).stdout)
  const attempts = rows.filter(({ ticket }) => ticket.startsWith(`${TICKET}~`))
  times.note(`memory of ${name}`, await sharedMemory(attempts.map(({ vmId }) => vmId)))
  for (const { ticket } of attempts) await own('delete', ticket, '--force')
}

/** A create that takes a ready machine. */
const measureClaim = async (own: Run, environment: Environment, times: Times, hold: 'memory' | 'disk') => {
  const vmId = await fillPool(environment, hold)
  if (hold === 'memory') times.note('memory of a ready machine', await sharedMemory([vmId]))
  const { milliseconds, stdout } = await own('create', TICKET)
  const rows: { vmId: string }[] = JSON.parse((await own('list', '--json')).stdout)
  if (!rows.some(row => row.vmId === vmId)) throw new Error(`no ready machine was taken: ${stdout}`)
  times.note(hold === 'memory' ? 'claim' : 'claim saved', milliseconds)
  await own('delete', TICKET, '--force')
}

const measureRound = async (own: Run, script: Run, times: Times): Promise<void> => {
  try {
    const plain = await script('create', '1')
    times.note('plain', plain.milliseconds)
    times.note('plain cpu', plain.processorMs)
  } finally {
    await script('delete', '1')
  }
  const created = await own('create', TICKET)
  times.note('create', created.milliseconds)
  times.note('create cpu', created.processorMs)
  const { pauseMs } = JSON.parse((await own('checkpoint', TICKET, 'one', '--json')).stdout)
  if (pauseMs !== undefined) times.note('pause', pauseMs)
  await own('stop', TICKET, '--save')
  times.note('wake', (await own('start', TICKET)).milliseconds)
  await measureForks(own, times, 'fork', 1)
  await measureForks(own, times, 'forks', 3)
  await own('delete', TICKET, '--force')
}

/** What a measurement that failed left. The home, which knows of it, goes. */
const removeMachines = async (own: Run, environment: Environment): Promise<void> => {
  const rows: { ticket: string }[] = JSON.parse((await own('list', '--json')).stdout)
  const report = (error: unknown) => void process.stderr.write(`not removed: ${error}\n`)
  for (const { ticket } of rows) await own('delete', ticket, '--force').catch(report)
  await emptyPool(environment).catch(report)
}

const resultsOf = ({ of, has }: Times): Row[] => {
  const ratio = (name: keyof typeof MOST, title: string): Row => ({
    row: 'j',
    what: `${title} / a plain create of the untrimmed image, medians of ${ROUNDS}`,
    measured: `${(of(name) / of('plain')).toFixed(3)} (${Math.round(of(name))} / ${Math.round(of('plain'))} ms)`,
    target: `<= ${MOST[name]}`,
    ok: of(name) <= MOST[name] * of('plain'),
  })
  const memory = (name: string): Row => ({
    ...{ row: 'j', what: `${name}, proportional set size`, measured: `${of(name)} MiB`, target: '', ok: null },
  })
  return [
    ratio('create', 'create'),
    {
      row: 'j',
      what: 'processor time of a create, without QEMU, beyond that of the script',
      measured: `${of('create cpu') - of('plain cpu')} ms (${of('create cpu')} / ${of('plain cpu')} ms)`,
      target: `<= ${MORE_MS} ms`,
      ok: of('create cpu') <= of('plain cpu') + MORE_MS,
    },
    ratio('claim', 'claim of a suspended machine'),
    ratio('claim saved', 'claim of a saved machine'),
    ratio('wake', 'wake of a saved machine'),
    ratio('fork', 'one fork of a running machine'),
    ratio('forks', 'three forks'),
    {
      row: 'j',
      what: 'pause of a live checkpoint',
      measured: has('pause') ? `${Math.round(of('pause'))} ms` : 'unknown: QEMU told no events',
      target: `<= ${MOST_PAUSE_MS} ms`,
      ok: of('pause') <= MOST_PAUSE_MS,
    },
    memory('memory of forks'),
    memory('memory of a ready machine'),
  ]
}

export const cold = (): Promise<Row[]> =>
  withHome(async home => {
    if (!hasLibvirt() || !hasLibvirt(UNTRIMMED))
      return [
        {
          row: 'j',
          what: 'a create against a plain one of the untrimmed image',
          measured: `needs libvirt with both images (${MAKE}): test/kvm/run.sh --run npm run bench -- j`,
          target: '',
          ok: null,
        },
      ]
    const environment: Environment = {
      ...environmentFor(home),
      PLAIN_IMAGE: UNTRIMMED,
      AGENT_SWARM_KVM_LIVE_CHECKPOINTS: 'on',
    }
    mkdirSync(join(home, 'plain'))
    const own = runIn(environment, process.execPath, entry)
    const script = runIn(environment, join(import.meta.dirname, 'plain.sh'))
    const times = openTimes()
    try {
      // The first call of a home fills its compile cache; people feel the later ones.
      await own('list')
      for (let round = 0; round < ROUNDS; round += 1) await measureRound(own, script, times)
      for (const hold of ['memory', 'disk'] as const)
        for (let round = 0; round < ROUNDS; round += 1) await measureClaim(own, environment, times, hold)
      return resultsOf(times)
    } finally {
      await removeMachines(own, environment)
    }
  })
