import { expect, test } from 'vitest'
import { nextStep } from '../../src/runner/lifecycle.ts'

const desired = ['running', 'stopped', 'absent'] as const
const observed = ['unmade', 'gone', 'creating', 'stopped', 'running'] as const

test.for(desired.flatMap(wish => observed.map(sight => [wish, sight] as const)))(
  '%s, and %s is seen: there is a step',
  ([wish, sight]) => {
    expect(nextStep[wish][sight]).toMatch(/^(create|start|stop|delete|forget|lose|wait|none)$/)
  },
)

test('every way ends: following the steps reaches what was wanted', () => {
  const after = {
    create: 'stopped',
    start: 'running',
    stop: 'stopped',
    wait: 'stopped',
    delete: 'end',
    forget: 'end',
    lose: 'end',
    none: 'end',
  } as const
  for (const wish of desired) {
    for (const from of observed) {
      let sight: (typeof observed)[number] | 'end' = from
      for (let steps = 0; sight !== 'end'; steps += 1) {
        expect(steps).toBeLessThan(5)
        sight = after[nextStep[wish][sight]]
      }
    }
  }
})

test('nothing but the wish for absence deletes', () => {
  for (const wish of ['running', 'stopped'] as const) expect(Object.values(nextStep[wish])).not.toContain('delete')
})
