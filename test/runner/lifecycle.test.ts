import { expect, test } from 'vitest'
import { nextStep } from '../../src/runner/lifecycle.ts'

const desiredStates = ['running', 'stopped', 'absent'] as const
const observedStates = ['unmade', 'gone', 'creating', 'stopped', 'running', 'stuck', 'held', 'taken'] as const

test.for(desiredStates.flatMap(desired => observedStates.map(observed => [desired, observed] as const)))(
  'desired %s, observed %s: there is a step',
  ([desired, observed]) => {
    expect(nextStep[desired][observed]).toMatch(/^(create|start|resume|stop|delete|forget|lose|wait|none)$/)
  },
)

test('following the steps reaches the desired state from every observed one', () => {
  const stateAfter = {
    create: 'stopped',
    start: 'running',
    resume: 'running',
    stop: 'stopped',
    wait: 'stopped',
    delete: 'end',
    forget: 'end',
    lose: 'end',
    none: 'end',
  } as const
  for (const desired of desiredStates) {
    for (const start of observedStates) {
      let observed: (typeof observedStates)[number] | 'end' = start
      for (let steps = 0; observed !== 'end'; steps += 1) {
        expect(steps).toBeLessThan(5)
        observed = stateAfter[nextStep[desired][observed]]
      }
    }
  }
})

test('only the desired state "absent" deletes', () => {
  for (const desired of ['running', 'stopped'] as const)
    expect(Object.values(nextStep[desired])).not.toContain('delete')
})
