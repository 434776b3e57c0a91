import { expect, onTestFinished, test, vi } from 'vitest'
import { openPollLoop } from '../../src/bot/poll-loop.ts'
import { openLog } from '../../src/log.ts'

test('a server that asks to wait for years is asked again within the hour, and not at once', async () => {
  vi.useFakeTimers()
  onTestFinished(() => void vi.useRealTimers())
  let rounds = 0
  const polling = openPollLoop(
    'polling',
    async () => {
      rounds += 1
      return 1e12
    },
    openLog('silent'),
  )
  await vi.advanceTimersByTimeAsync(59 * 60_000)
  expect(rounds).toBe(1)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(rounds).toBe(2)
  await polling.close(0)
})
