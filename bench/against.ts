/** (i) Whole commands on real libvirt, compared with a shell script that does the same, and with vagrant where it is installed. */
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Row } from './main.ts'
import { entry, type Finished, finish, hasLibvirt, median, withHome } from './measure.ts'
import { openVagrant } from './vagrant.ts'

const ROUNDS = 3
/** How often a round runs the short commands. */
const REPEATS = 5
/** How much slower than the script a command may be. */
const MORE_MS = 300

const verbs = ['create', 'checkpoint', 'list', 'status', 'restore', 'delete'] as const
export type Verb = (typeof verbs)[number]
/** A program that does all of it. */
export type Way = { name: string; run(verb: Verb): Promise<Finished>; close?(): Promise<unknown> }

export const environmentFor = (home: string) => ({
  PATH: process.env.PATH,
  HOME: home,
  AGENT_SWARM_HOME: join(home, 'state'),
  AGENT_SWARM_PROVIDER: 'kvm',
  AGENT_SWARM_MEMORY_MIB: '1024',
  AGENT_SWARM_CPUS: '2',
  AGENT_SWARM_DISK_GIB: '8',
  PLAIN_HOME: join(home, 'plain'),
})
const words: Record<Verb, string[]> = {
  create: ['create', 'BENCH-1'],
  checkpoint: ['checkpoint', 'BENCH-1', 'one'],
  list: ['list'],
  status: ['status'],
  restore: ['restore', 'BENCH-1', 'one'],
  delete: ['delete', 'BENCH-1'],
}

export const against = (): Promise<Row[]> =>
  withHome(async home => {
    if (!hasLibvirt())
      return [
        {
          row: 'i',
          what: 'whole commands compared with a script and vagrant',
          measured: 'needs libvirt with a base image: test/kvm/run.sh --run npm run bench -- i',
          target: '',
          ok: null,
        },
      ]
    const environment = environmentFor(home)
    mkdirSync(environment.PLAIN_HOME)
    const ours: Way = {
      name: 'agent-swarm',
      run: verb => finish(process.execPath, [entry, ...words[verb]], environment),
    }
    const script: Way = {
      name: 'a script',
      run: verb => finish(join(import.meta.dirname, 'plain.sh'), [verb, '1'], environment),
    }
    const vagrant = spawnSync('vagrant', ['--version']).status === 0 ? await openVagrant(home, environment) : null
    const ways = [ours, script, ...(vagrant === null ? [] : [vagrant])]
    const times = new Map(ways.map(way => [way, new Map(verbs.map(verb => [verb, [] as number[]]))]))
    const timed = async (way: Way, verb: Verb) => {
      const ran = await way.run(verb)
      if (ran.code !== 0) throw new Error(`${way.name}: ${verb}: ${ran.stderr}${ran.stdout}`)
      times.get(way)?.get(verb)?.push(ran.milliseconds)
    }
    // The first call of a home fills its compile cache; people feel the later ones.
    await ours.run('list')
    try {
      for (let round = 0; round < ROUNDS; round += 1)
        for (const verb of verbs)
          for (let repeat = 0; repeat < (verb === 'list' || verb === 'status' ? REPEATS : 1); repeat += 1)
            // In turn, so that none always gets the host as the others left it.
            for (const at of ways.keys()) await timed(ways[(at + round + repeat) % ways.length] ?? ours, verb)
    } finally {
      for (const way of ways) await way.run('delete')
      for (const way of ways) await way.close?.()
    }
    const of = (way: Way, verb: Verb) => Math.round(median(times.get(way)?.get(verb) ?? []))
    return verbs.flatMap(verb =>
      ways.slice(1).map((other): Row => {
        const [own, theirs] = [of(ours, verb), of(other, verb)]
        return {
          row: 'i',
          what: `${verb} / ${other.name}, medians of ${times.get(other)?.get(verb)?.length} in turn`,
          measured: `${(own / theirs).toFixed(2)} (${own} / ${theirs} ms)`,
          target: other === script ? `<= script + ${MORE_MS} ms` : '< 1',
          ok: other === script ? own <= theirs + MORE_MS : own < theirs,
        }
      }),
    )
  })
