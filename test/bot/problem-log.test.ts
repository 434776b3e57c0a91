import { Writable } from 'node:stream'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { openProblemLog } from '../../src/bot/problem-log.ts'

test('a problem is logged once, until it is another one or solved', () => {
  const messages: string[] = []
  const stream = new Writable({
    write: (chunk, _, done) => {
      messages.push(JSON.parse(String(chunk)).msg)
      done()
    },
  })
  const problems = openProblemLog(pino(stream) as never)
  const report = (message: string) => problems.report('polling', { message, remedy: null })
  problems.clear('polling')
  report('no answer')
  report('no answer')
  report('answered 503')
  problems.clear('polling')
  problems.clear('polling')
  report('no answer')
  expect(messages).toEqual(['no answer', 'answered 503', 'polling: works again', 'no answer'])
})
