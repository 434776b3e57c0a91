/** The table of traps is whole: each has its test, and each refusal of our EC2 is one that the provider understands. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { explainAws } from '../../../providers/aws/explain.ts'
import { titlesIn } from '../../support/titles.ts'
import { traps } from './traps.ts'

const support = resolve(import.meta.dirname, '../../support/ec2')

test('every trap names a test that there is, and that is its own', () => {
  const titles = traps.map(({ file, test: name, trap }) => {
    const found = titlesIn(readFileSync(join(import.meta.dirname, `${file}.test.ts`), 'utf8'), name)
    expect([trap, found.length]).toEqual([trap, 1])
    return `${file}: ${found[0]}`
  })
  expect(titles.filter((title, n) => titles.indexOf(title) !== n)).toEqual([])
  expect(new Set(traps.map(({ trap }) => trap)).size).toBe(traps.length)
})

/** What only wrong requests get: they would be our own mistakes. */
const MISTAKES = [
  ...['InvalidAction', 'InvalidParameterValue', 'InvalidInstanceID.Malformed', 'InvalidAMIID.Malformed', 'InvalidID'],
  ...['InvalidBlockDeviceMapping', 'IdempotentParameterMismatch', 'InvalidSpotInstanceRequestID.NotFound'],
  ...['InvalidParameterCombination', 'InvalidAMIName.Malformed'],
]

test('every refusal of our EC2 is one that the provider understands, or our own mistake', () => {
  const texts = readdirSync(support).map(name => readFileSync(join(support, name), 'utf8'))
  const codes = new Set(
    texts.flatMap(text => [...text.matchAll(/refuse\(\s*'([\w.]+)'/g)].map(([, code = '']) => code)),
  )
  const kindOf = (code: string) =>
    explainAws('x', 254, `\nAn error occurred (${code}) when calling the X operation: y\n`).failure.kind
  expect(codes.size).toBeGreaterThan(20)
  expect([...codes].filter(code => kindOf(code) === 'unknown' && !MISTAKES.includes(code))).toEqual([])
})

test('our EC2 and the provider share no code', () => {
  const own = readdirSync(support).filter(name => !['bench.ts', 'cli.ts', 'guest.ts', 'program.ts'].includes(name))
  expect(own.length).toBeGreaterThan(3)
  for (const name of own) expect(readFileSync(join(support, name), 'utf8'), name).not.toMatch(/providers\/|src\//)
})
