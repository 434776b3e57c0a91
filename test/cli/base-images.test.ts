/** `init-base --list` and `--delete` by the CLI, on a virsh that is a script. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openCli } from '../support/cli.ts'
import { knownMachine } from '../support/context.ts'
import { outputValidator } from '../support/json-outputs.ts'
import { standInVirsh } from '../support/virsh.ts'

const cli = openCli()
const bin = join(cli.home, 'bin')
const environment = { PATH: `${bin}:${process.env.PATH}`, AGENT_SWARM_PROVIDER: 'kvm' }
const isValid = outputValidator('init-base')
const proof = {
  profile: 'full',
  proven: [{ piece: 'redis', how: 'a round trip' }],
  unproven: [{ piece: 'gcloud', why: 'left out' }],
}
const manifest = {
  ...{ name: 'node-24', provider: 'kvm', sha256: 'ab', source: '\u001b[31mred', contents: [], ...proof },
  ...{ createdAt: '2026-11-28T10:00:00.000Z', sizeBytes: 900 * 1024 ** 2 },
}

beforeAll(() => {
  mkdirSync(bin)
  writeFileSync(join(cli.home, 'manifest.json'), JSON.stringify(manifest))
  // Of the three images, a machine of another home uses one.
  const volumes = ['node-24.qcow2', 'node-24.manifest.json', 'shared.qcow2', 'unused.qcow2', 'as-x-1-0000000a.qcow2']
  standInVirsh(bin, {
    volumes,
    answers: `*vol-delete*) echo "$last" >>${cli.home}/deleted ;;
  *vol-download*node-24.manifest*) for word; do case $word in */file) cp ${cli.home}/manifest.json "$word" ;; esac; done ;;
  *vol-dumpxml*) echo "<volume><name>as-x-1-0000000a.qcow2</name><backingStore><path>/pool/shared.qcow2</path></backingStore></volume>" ;;`,
  })
})
afterAll(() => cli.close())

const swarm = (...words: string[]) =>
  cli.swarm(['init-base', ...words], { ...environment, AGENT_SWARM_BASE_IMAGE: 'node-24' })

test('the list: name, size, profile, source, age, and who uses it', async () => {
  const { stdout } = await swarm('--list')
  expect(stdout).toMatch(/^IMAGE +SIZE +PROFILE +CREATED +USED BY +SOURCE\n/)
  expect(stdout).toMatch(/node-24 +900 MiB +full +2026-11-28T10:00:00.000Z +.*\?\[31mred/)
  expect(stdout).toMatch(/shared +- +- +- +1 other +cannot be used/)
  expect(stdout).toContain('node-24: proven redis\nnode-24: unproven gcloud: left out')
})

test('the list as JSON', async () => {
  const rows = JSON.parse((await swarm('--list', '--json')).stdout)
  expect(isValid(rows)).toBe('valid')
  expect(rows).toMatchObject([
    { name: 'node-24', sizeBytes: 900 * 1024 ** 2, ...proof },
    { name: 'shared', profile: null, sizeBytes: null, tickets: [], machines: ['as-x-1-0000000a'] },
    { name: 'unused', machines: [] },
  ])
})

test.for([
  ['a dry run', ['unused', '--dry-run'], 0, 'would delete it. Nothing uses it.'],
  [
    'one that another home uses',
    ['shared'],
    1,
    'disks that are not of an environment of this home depend on it: as-x-1-0000000a',
  ],
  ['one that does not exist', ['nothing'], 1, 'There are: node-24, shared, unused'],
] as const)('%s deletes nothing', async ([, [name, ...more], code, text]) => {
  const ran = await swarm('--delete', name, ...more)
  expect(ran).toMatchObject({ code })
  expect(ran.stdout + ran.stderr).toContain(text)
  expect(existsSync(join(cli.home, 'deleted'))).toBe(false)
})

test('an image that an environment uses stays, also when its machine is lost', async () => {
  cli.know(registry => {
    knownMachine(registry, 'DROP-8', '192.0.2.8', 22, 'node-24')
    registry.setStatus('DROP-8', 'lost')
  })
  expect((await swarm('--list')).stdout).toMatch(/node-24 .* DROP-8 /)
  for (const more of [[], ['--dry-run']])
    expect(await swarm('--delete', 'node-24', ...more)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /the machine of DROP-8 and its checkpoints depend on it\n.*agent-swarm delete DROP-8/,
      ),
    })
  expect(existsSync(join(cli.home, 'deleted'))).toBe(false)
})

test('a deleted image', async () => {
  const { stdout } = await swarm('--delete', 'unused', '--json')
  expect(isValid(JSON.parse(stdout))).toBe('valid')
  expect(JSON.parse(stdout)).toEqual({ name: 'unused', result: 'deleted' })
  expect(readFileSync(join(cli.home, 'deleted'), 'utf8')).toContain('unused.qcow2')
})
