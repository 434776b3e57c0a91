/** A whole process is killed (-9) as AWS does what it asked for. The next command leaves one machine, or nothing. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { openAwsCli } from '../../support/ec2/cli.ts'

const open = async () => {
  const opened = await openAwsCli()
  onTestFinished(opened.close)
  const { cli, ec2, environment } = opened
  ec2.baseImage('agent-swarm-base', '00112233445566ff')
  /** Runs the command, and kills its process when AWS has done this. */
  const killedAt = async (wanted: string, ...words: string[]) => {
    const running = cli.processes.begin(words, environment)
    let isKilled = false
    ec2.watch(({ action, when }) => {
      if (action === wanted && when === 'after') isKilled = running.kill('SIGKILL')
    })
    await running.ended
    ec2.watch(() => {})
    expect(isKilled, running.output.stderr).toBe(true)
  }
  const keys = join(cli.home, 'state', 'ssh')
  const hostKeys = () =>
    readdirSync(keys)
      .filter(name => name.endsWith('.known_hosts'))
      .map(name => readFileSync(join(keys, name), 'utf8'))
  return { ...opened, killedAt, hostKeys }
}

test('create, restore and delete that were killed are finished by the same command', { timeout: 300_000 }, async () => {
  const { ec2, swarm, json, killedAt, hostKeys } = await open()
  const before = ec2.everything()
  await killedAt('RunInstances', 'create', 'AB-1')
  expect(ec2.state.instances.size).toBe(1)
  const pinned = hostKeys()
  expect(pinned).toHaveLength(1)
  await swarm('create', 'AB-1')
  // The same machine, with the key that it was launched with.
  expect(ec2.calls.filter(({ action }) => action === 'RunInstances')).toHaveLength(1)
  expect([ec2.state.instances.size, hostKeys()]).toEqual([1, pinned])
  const [{ vmId }] = await json('list')
  await ec2.script(vmId, 'echo saved >state')
  await killedAt('CreateSnapshot', 'checkpoint', 'AB-1', 'one')
  // AWS shows it by the time of the next command.
  for (const snapshot of ec2.state.snapshots.values()) snapshot.hidden = 0
  await swarm('reconcile')
  expect((await json('list'))[0].checkpoints).toEqual(['one'])
  await ec2.script(vmId, 'echo later >state')
  await killedAt('CreateReplaceRootVolumeTask', 'restore', 'AB-1', 'one')
  await swarm('restore', 'AB-1', 'one')
  expect(await ec2.script(vmId, 'cat state')).toBe('saved')
  expect(ec2.state.volumes.size).toBe(1)
  await killedAt('TerminateInstances', 'delete', 'AB-1')
  await swarm('reconcile')
  const { stderr } = await swarm('delete', 'AB-1').catch(error => ({ stderr: String(error) }))
  expect([ec2.everything(), await json('list'), await json('reconcile', '--dry-run')], stderr).toEqual([before, [], []])
})

test('a fork that was killed leaves no attempt, image or snapshot, and the next one makes it', {
  timeout: 600_000,
}, async () => {
  const { ec2, swarm, json, killedAt } = await open()
  await swarm('create', 'AB-1')
  const [{ vmId }] = await json('list')
  await ec2.script(vmId, 'echo saved >state')
  const before = ec2.everything()
  for (const action of ['RegisterImage', 'RunInstances']) {
    await killedAt(action, 'fork', 'AB-1')
    expect(ec2.everything().length, action).toBeGreaterThan(before.length)
    await swarm('reconcile')
    expect([action, ec2.everything(), await json('reconcile', '--dry-run')]).toEqual([action, before, []])
  }
  await swarm('fork', 'AB-1')
  const attempts = (await json('list')).filter((row: { vmId: string }) => row.vmId !== vmId)
  expect(attempts).toMatchObject([{ status: 'running', attempt: { of: 'AB-1' } }])
  expect(await ec2.script(attempts[0].vmId, 'cat state')).toBe('saved')
  await swarm('delete', 'AB-1', '--force')
  expect(await ec2.script(attempts[0].vmId, 'cat state')).toBe('saved')
})
