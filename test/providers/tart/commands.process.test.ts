/** The exact commands of a life, recorded for owners of a Mac in docs/commands-tart.md; and how many there are, which does not grow. */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { HOME_ID, IMAGE, imageVm, openTartBench, ready, type TartBench, tartOptions } from '../../support/tart/bench.ts'
import { installSoftnet } from '../../support/tart/install.ts'

const PAGE = resolve(import.meta.dirname, '../../../docs/commands-tart.md')
const ID = 'as-drop-2100-1a2b3c4d'
const EARLIER = 'as-drop-2-0000000b'
const FORKS = [
  { ...tartOptions('as-drop-2100-1-0000000c'), ticket: 'DROP-2100~1' },
  { ...tartOptions('as-drop-2100-2-0000000d'), ticket: 'DROP-2100~2' },
  { ...tartOptions('as-drop-2100-3-0000000e'), ticket: 'DROP-2100~3' },
]

/** What the shell does that leaves `tart run` behind, and what differs between two hosts. */
const shown = ({ home, mac }: TartBench, program: string, argv: readonly string[]): string => {
  const words = [program, ...argv].map(word =>
    word.replaceAll(home, '~/.agent-swarm').replaceAll(mac.tartHome, '~/.tart').replaceAll(HOME_ID, 'HOME'),
  )
  if (program === '/bin/sh' && argv.includes('run'))
    return `${words.slice(6).join(' ')} </dev/null >~/.agent-swarm/tart/machines/${ID}/run.log 2>&1 &`
  if (program === '/bin/sh') return words.at(-1) ?? ''
  return program === 'kill' ? 'kill -USR2 PID' : words.join(' ')
}

const record = (bench: TartBench) => {
  let commands: string[] = []
  const provider = bench.open({
    onCommand: ({ program, argv }) => {
      const line = shown(bench, program, argv)
      // It looks until the machine runs or has stopped.
      if (commands.at(-1) !== line) commands.push(line)
    },
  })
  const step = async (work: () => Promise<unknown>): Promise<string[]> => {
    commands = []
    await work()
    return commands
  }
  return { provider, step }
}

test('the commands of a life are those of docs/commands-tart.md', async () => {
  const bench = openTartBench()
  onTestFinished(bench.close)
  const { provider, step } = record(bench)
  const lives: [string, string[]][] = [
    ['available', await step(() => provider.available())],
    ['create', await step(() => provider.createVm('DROP-2100', IMAGE, tartOptions(ID)))],
    ['start', await step(() => provider.startVm(ID))],
  ]
  await ready(bench, ID)
  lives.push(
    ['address', await step(() => provider.sshInfo(ID))],
    ['list', await step(() => provider.listVms())],
    ['usage', await step(async () => provider.usage?.())],
    ['assign', await step(async () => provider.assign?.(ID, 'DROP-2101'))],
    ['checkpoint of a running machine', await step(() => provider.checkpoint(ID, 'before-refactor'))],
  )
  await ready(bench, ID)
  lives.push(['restore', await step(() => provider.restore(ID, 'before-refactor'))])
  await ready(bench, ID)
  lives.push(['two forks of a running machine', await step(async () => provider.fork?.(ID, null, FORKS.slice(0, 2)))])
  await ready(bench, ID)
  lives.push(
    ['fork of a checkpoint', await step(async () => provider.fork?.(ID, 'before-refactor', FORKS.slice(2)))],
    ['stop', await step(() => provider.stopVm(ID))],
    ['delete a checkpoint', await step(async () => provider.deleteCheckpoint?.(ID, 'before-refactor'))],
    ['delete', await step(() => provider.deleteVm(ID))],
    ['capacity', await step(async () => provider.capacity?.())],
  )
  const page = [
    '# The commands of Tart',
    '',
    'A test records these on a stand-in for Tart 2.35.0: `AGENT_SWARM_TEST_RECORD=1 npx vitest run test/providers/tart/commands`. They have never run on a real Mac ([tart.md](tart.md)). Each runs with `TART_NO_AUTO_PRUNE=1`. A command that is repeated until a machine runs or has stopped stands here once.',
    ...lives.flatMap(([name, lines]) => ['', `## ${name}`, '', '```sh', ...lines, '```']),
    '',
  ].join('\n')
  if (process.env.AGENT_SWARM_TEST_RECORD === '1') writeFileSync(PAGE, page)
  expect(page).toBe(readFileSync(PAGE, 'utf8'))
})

test('a machine with Softnet starts with it, and with the ranges that the operator opened', async ({ skip }) => {
  if (process.getuid?.() !== 0) skip('only root makes a program with the SUID bit of root')
  const bench = openTartBench()
  onTestFinished(bench.close)
  await bench.provider.createVm('DROP-2', IMAGE, tartOptions(EARLIER))
  await bench.provider.startVm(EARLIER)
  installSoftnet(bench.mac.bin, 0o4755)
  const commands: string[] = []
  const provider = bench.open({
    tartAllow: ['10.1.0.0/16', '10.2.0.0/16'],
    onCommand: ({ argv }) => commands.push(argv.join(' ')),
  })
  await provider.createVm('DROP-1', IMAGE, tartOptions(ID))
  await provider.startVm(ID)
  expect(commands.find(command => command.includes(' run '))).toMatch(
    / --net-softnet --net-softnet-allow 10\.1\.0\.0\/16,10\.2\.0\.0\/16$/,
  )
  expect(await provider.isolated?.()).toMatchObject({
    isolated: false,
    reason: `${EARLIER} started before Softnet could be used`,
  })
  await provider.stopVm(EARLIER)
  expect(await provider.isolated?.()).toMatchObject({ isolated: true, note: expect.stringContaining('10.1.0.0/16') })
  // What the operator closes again stays open to machines that run.
  expect(await bench.open({ tartAllow: ['10.1.0.0/16'] }).isolated?.()).toMatchObject({
    isolated: false,
    reason: `${ID} started with ranges that AGENT_SWARM_TART_ALLOW does not have any more`,
  })
  expect(await bench.open({ tartAllow: ['10.0.0.0/8'] }).isolated?.()).toMatchObject({ isolated: true })
})

test('tart of Homebrew is used where PATH lacks it', async () => {
  const bench = openTartBench()
  onTestFinished(bench.close)
  const environment = { ...process.env, TART_HOME: bench.mac.tartHome }
  const provider = bench.open({ homebrew: bench.mac.bin, environment })
  expect(await provider.available()).toEqual({ available: true })
  await provider.createVm('DROP-1', IMAGE, tartOptions(ID))
  await provider.startVm(ID)
  expect(await provider.status(ID)).toBe('running')
  expect(await bench.open({ environment }).available()).toMatchObject({
    available: false,
    reason: expect.stringContaining('tart is not installed'),
    remedy: expect.stringContaining('brew install'),
  })
})

/** Copies the image's folder, as so many machines with a checkpoint each. */
const makeMachines = ({ mac }: TartBench, count: number): void => {
  for (let n = 1; n <= count; n += 1) {
    const vmId = `as-drop-${n}-${n.toString(16).padStart(8, '0')}`
    for (const name of [`${vmId}.DROP-${n}.${HOME_ID}`, `${vmId}.stopped.0001.one.${HOME_ID}`]) {
      const folder = join(mac.tartHome, 'vms', name)
      mkdirSync(folder)
      for (const file of ['config.json', 'nvram.bin'])
        cpSync(join(mac.tartHome, 'vms', imageVm(), file), join(folder, file))
      writeFileSync(join(folder, 'disk.img'), '')
    }
  }
}

test('list, usage and what is left take as many commands for 100 machines as for one', async () => {
  const bench = openTartBench()
  onTestFinished(bench.close)
  const commands: string[] = []
  const provider = bench.open({ onCommand: ({ program }) => commands.push(program) })
  const count = async (machines: number) => {
    commands.length = 0
    expect(await provider.listVms()).toHaveLength(machines)
    expect((await provider.usage?.())?.size).toBe(machines)
    expect(await provider.leftovers?.()).toEqual([])
    expect(await provider.listForeign?.()).toEqual([])
    return commands.length
  }
  makeMachines(bench, 1)
  const one = await count(1)
  for (const name of bench.mac.vms().filter(each => each.startsWith('as-'))) bench.mac.tart('delete', name)
  makeMachines(bench, 100)
  expect([one, await count(100)]).toEqual([4, 4])
})
