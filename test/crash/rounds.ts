/**
 * The rounds of a crash matrix: points × rounds, each with a seed. `npm test` plays a few that the seed chooses, `npm run
 * test:long` all. AGENT_SWARM_TEST_SEED is the seed; AGENT_SWARM_TEST_PLAYED a folder that remembers what was played whole with it,
 * so that another run of the same seed goes on there. AGENT_SWARM_TEST_ROUNDS plays fewer rounds a point.
 */
import { createHash } from 'node:crypto'
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { isLong, numbers, type Sample } from '../support/samples.ts'
import type { Point } from './points.ts'

const seed = Number(process.env.AGENT_SWARM_TEST_SEED ?? 0)
const folder = process.env.AGENT_SWARM_TEST_PLAYED
const most = Number(process.env.AGENT_SWARM_TEST_ROUNDS ?? Number.POSITIVE_INFINITY)

/** The numbers of one round do not depend on those before it. */
const sampleOf = (name: string, at: number, round: number): Sample => {
  const hash = createHash('sha256').update(`${seed} ${name} ${at} ${round}`).digest()
  return { seed, next: numbers(hash.readUInt32BE()) }
}

const openPlayed = (name: string) => {
  const file = folder === undefined ? null : join(folder, `crash-${seed}.txt`)
  const played = new Set(file !== null && existsSync(file) ? readFileSync(file, 'utf8').split('\n') : [])
  return {
    has: (key: string) => played.has(`${name}\t${key}`),
    add: (key: string) => {
      if (file === null || folder === undefined) return
      mkdirSync(folder, { recursive: true })
      appendFileSync(file, `${name}\t${key}\n`)
    },
  }
}

/**
 * `all`: rounds a point of the long test. `some`, `points`: of the normal one, at so many points that the seed chooses. `isSample`: the
 * long one plays so many points, too.
 */
type Size = { all: number; some: number; points: number; isSample?: boolean }

export const openMatrix = (name: string, points: readonly Point[]) => {
  const played = openPlayed(name)
  const problems: string[] = []
  const failing = new Set<number>()
  let count = 0
  let earlier = 0
  let perPoint = 0
  const chosen = ({ points: few, isSample = false }: Size): number[] => {
    const every = points.map((_, at) => at)
    if (isLong && !isSample) return every
    const { next } = sampleOf(name, -1, 0)
    return Array.from({ length: Math.min(few, points.length) }, () => every.splice(next(every.length), 1)[0] ?? 0)
  }
  return {
    rounds: function* (size: Size): Generator<{ at: number; sample: Sample }> {
      perPoint = Math.min(most, isLong ? size.all : size.some)
      for (const at of chosen(size)) {
        const point = points[at]
        const key = `${at} ${point?.when} ${point?.name}`
        if (played.has(key)) {
          earlier += 1
          continue
        }
        for (let round = 0; round < perPoint; round += 1) yield { at, sample: sampleOf(name, at, round) }
        if (!failing.has(at)) played.add(key)
      }
    },
    played: (at: number, found: readonly string[]) => {
      count += 1
      if (found.length > 0) failing.add(at)
      const point = points[at]
      for (const problem of found) {
        problems.push(`killed ${point?.when} ${point?.name}, ${problem}`)
        // A run that is interrupted says it, too.
        process.stdout.write(`crash matrix: ${name}: ${problems.at(-1)}\n`)
      }
    },
    /** Says what was played, and returns what was wrong: of each kind the first. */
    end: (): string[] => {
      const resumed = earlier === 0 ? '' : `, ${earlier} points played before`
      process.stdout.write(
        `crash matrix: ${name}: ${points.length} points × ${perPoint} rounds, ${count} played${resumed}, seed ${seed}, ${problems.length} problems\n`,
      )
      return problems.slice(0, 20)
    },
  }
}
