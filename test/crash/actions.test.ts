/**
 * The crash matrix in this process: each action dies before, in the middle of and after each of its steps. How, and what this can
 * show: crash.ts.
 */
import { expect, test } from 'vitest'
import { planOf, playRound } from './matrix.ts'
import { openMatrix } from './rounds.ts'
import { prepare, remove, scenarios } from './scenarios.ts'

test.for(scenarios.map(scenario => [scenario.name, scenario] as const))('%s', async ([name, scenario]) => {
  const template = await prepare(scenario)
  try {
    const plan = await planOf(scenario, template)
    expect(plan.points.length).toBeGreaterThan(0)
    const matrix = openMatrix(name, plan.points)
    for (const { at, sample } of matrix.rounds({ all: 50, some: 1, points: 6 }))
      matrix.played(at, await playRound(plan, at, sample))
    expect(matrix.end()).toEqual([])
  } finally {
    remove(template)
  }
})
