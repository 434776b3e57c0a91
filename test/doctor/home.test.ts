/** What doctor says of the home. */
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { writeBackup } from '../../src/backups.ts'
import type { Check } from '../../src/check.ts'
import { DAY_MS } from '../../src/clock.ts'
import { openRegistry } from '../../src/registry/registry.ts'
import { openCli } from '../support/cli.ts'

test('backups of a clock that was ahead hide neither the newest one nor that there is none', async () => {
  const cli = openCli()
  onTestFinished(() => cli.close())
  const path = join(cli.home, 'state', 'registry.db')
  openRegistry(path).close()
  const backup = async () => {
    const { stdout } = await cli.swarm(['doctor', '--json'], { PATH: '/nowhere' })
    const checks: Check[] = JSON.parse(stdout).checks
    return checks.find(({ text }) => text.startsWith('the newest backup of'))
  }
  writeBackup(path, Date.now() + 400 * DAY_MS)
  expect(await backup()).toMatchObject({ status: 'warning', text: expect.stringContaining('still to come') })
  const { madeAt } = writeBackup(path, Date.now())
  expect(await backup()).toMatchObject({
    status: 'ok',
    text: expect.stringContaining(new Date(madeAt).toISOString()),
  })
})
