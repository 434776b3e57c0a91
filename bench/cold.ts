/**
 * (j) A create of our image, and what takes the place of a create, each compared with the plain script's create of the untrimmed
 * image of the same release in the same run.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { environmentFor } from './against.ts'
import type { Row } from './main.ts'
import { entry, finish, finishMeasured, hasLibvirt, median, withHome } from './measure.ts'

const ROUNDS = 3
/** Made once, of the same packages as the base image. */
const UNTRIMMED = 'untrimmed'
const MAKE = `init-base ${UNTRIMMED} --from debian-packages --profile minimal --skip base,time,seed,boot`
/** Processor time that a create may take beyond the script's, without QEMU. */
const MORE_MS = 300
const MOST = { create: 0.6, wake: 0.06, fork: 0.2, forks: 0.35 }
const MOST_PAUSE_MS = 100

type Environment = Record<string, string | undefined>

/** What is done to the machine of BENCH-1 between its create and its delete. `needs`: a word in the help of the command. */
const steps = {
  wake: { needs: ['stop', '--save'], before: [['stop', 'BENCH-1', '--save']], words: ['start', 'BENCH-1'] },
  fork: { needs: ['fork', '--count'], before: [], words: ['fork', 'BENCH-1'] },
  forks: { needs: ['fork', '--count'], before: [], words: ['fork', 'BENCH-1', '--count', '3'] },
} as const
type Step = keyof typeof steps
const titles = { wake: 'wake of a saved machine', fork: 'one fork of a running machine', forks: 'three forks' }

const missing = (what: string): Row => ({ row: 'j', what, measured: 'not in this version', target: '', ok: null })

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
    const environment: Environment = { ...environmentFor(home), PLAIN_IMAGE: UNTRIMMED }
    mkdirSync(join(home, 'plain'))
    const own = async (...words: string[]) => {
      const ran = await finishMeasured(process.execPath, [entry, ...words], environment)
      if (ran.code !== 0) throw new Error(`${words.join(' ')}: ${ran.stderr}`)
      return ran
    }
    const script = async (verb: 'create' | 'delete') => {
      const ran = await finishMeasured(join(import.meta.dirname, 'plain.sh'), [verb, '1'], environment)
      if (ran.code !== 0) throw new Error(`the script: ${verb}: ${ran.stderr}`)
      return ran
    }
    const knows = async (command: string, word: string) =>
      (await finish(process.execPath, [entry, command, '--help'], environment)).stdout.includes(word)
    const known: Step[] = []
    for (const step of Object.keys(steps) as Step[]) {
      const [command, word] = steps[step].needs
      if (await knows(command, word)) known.push(step)
    }
    const times = new Map<string, number[]>()
    const note = (name: string, value: number) => times.set(name, [...(times.get(name) ?? []), value])
    // The first call of a home fills its compile cache; people feel the later ones.
    await own('list')
    for (let round = 0; round < ROUNDS; round += 1) {
      const plain = await script('create')
      note('plain', plain.milliseconds)
      note('plain cpu', plain.processorMs)
      await script('delete')
      const created = await own('create', 'BENCH-1')
      note('create', created.milliseconds)
      note('create cpu', created.processorMs)
      for (const step of known) {
        const { before, words } = steps[step]
        for (const first of before) await own(...first)
        note(step, (await own(...words)).milliseconds)
      }
      const { pauseMs } = JSON.parse((await own('checkpoint', 'BENCH-1', 'one', '--json')).stdout)
      if (pauseMs !== undefined) note('pause', pauseMs)
      await own('delete', 'BENCH-1', '--force')
    }
    const of = (name: string) => median(times.get(name) ?? [])
    const ratio = (name: keyof typeof MOST, title: string): Row => ({
      row: 'j',
      what: `${title} / a plain create of the untrimmed image, medians of ${ROUNDS}`,
      measured: `${(of(name) / of('plain')).toFixed(3)} (${Math.round(of(name))} / ${Math.round(of('plain'))} ms)`,
      target: `<= ${MOST[name]}`,
      ok: of(name) <= MOST[name] * of('plain'),
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
      ...(Object.keys(steps) as Step[]).map(step =>
        known.includes(step) ? ratio(step, titles[step]) : missing(titles[step]),
      ),
      times.has('pause')
        ? {
            row: 'j',
            what: 'pause of a live checkpoint',
            measured: `${Math.round(of('pause'))} ms`,
            target: `<= ${MOST_PAUSE_MS} ms`,
            ok: of('pause') <= MOST_PAUSE_MS,
          }
        : missing('pause of a live checkpoint'),
    ]
  })
