/** Agents from the wish in the registry to their end, with programs of bash in place of a model's. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { fail } from '../../../src/errors.ts'
import type { OperatorAgent } from '../../../src/schema/workspace.ts'
import { type AgentStage, openAgentStage } from '../../support/agent-stage.ts'
import { until } from '../../support/wait.ts'

const stageOf = async (command: string, more: Partial<OperatorAgent> = {}): Promise<AgentStage> => {
  const stage = await openAgentStage({ agent: { use: 'command', command, ...more } })
  onTestFinished(stage.close)
  return stage
}
const running = async (stage: AgentStage) => {
  const runner = await stage.runner()
  onTestFinished(runner.close)
  return runner
}
const words = (stage: AgentStage, text: string) =>
  until(text, () => {
    const run = stage.row()?.run
    try {
      return run !== undefined && stage.transcript(run).includes(text)
    } catch {
      return false
    }
  })

test('a program that ends with 0 is done; it works in the project, with the prompt on standard input and the task in a file', async () => {
  const stage = await stageOf(
    'pwd; cat; cat "$(dirname "$0")/../task.md" "$HOME"/var/lib/agent-swarm/agent/task.md; echo "Made it."',
  )
  await running(stage)
  expect(await stage.start()).toMatchObject({ result: 'done', summary: 'The agent of DROP-1 starts' })
  const row = await stage.ended()
  expect(row).toMatchObject({ result: 'done', reason: null, summary: 'Made it.', session: null, tokens: 0 })
  const transcript = stage.transcript(row.run)
  expect(transcript).toContain(`${stage.project}\nYou work on the ticket DROP-1`)
  expect(transcript).toContain('The project acme/shop is in the present folder, on the branch DROP-1-greeting.')
  expect(transcript).toContain('# DROP-1: A greeting\n\n## Description\n\nSay hello.')
  expect(transcript.match(/Say hello/g)).toHaveLength(1)
})

test.for([
  [
    'another exit status is a crash, with what it printed last',
    'echo no disk >&2; exit 3',
    'crashed',
    'no disk (exit status 3)',
  ],
  [
    'a last line that says so is "blocked"',
    'echo "Tried."; printf "BLOCKED: no access to the registry"',
    'blocked',
    'no access to the registry',
  ],
  [
    'a program that is not there',
    'no-such-agent',
    'crashed',
    expect.stringContaining('its program is not in the machine'),
  ],
  [
    'terminal sequences stay out of the reason',
    `printf '\\033]0;x\\007\\033[31mred\\033[0m' >&2; exit 1`,
    'crashed',
    'red (exit status 1)',
  ],
] as const)('%s', async ([, command, result, reason]) => {
  const stage = await stageOf(command)
  await running(stage)
  await stage.start()
  expect(await stage.ended()).toMatchObject({ result, reason })
})

test('a machine that never says that its agent has ended does not keep the run from ending', async () => {
  const stage = await stageOf('echo "at work"; sleep 600')
  const runner = await stage.runner(stage.context, {
    stoppingMs: 300,
    lies: guest => ({
      ...guest,
      stop: async () => {},
      look: async run => ({ ...(await guest.look(run)), active: true }),
    }),
  })
  onTestFinished(runner.close)
  await stage.start()
  await words(stage, 'at work')
  await stage.stop()
  expect(await stage.ended()).toMatchObject({ result: 'stopped', summary: 'at work' })
})

test('a machine that never says that its agent was started has no model for long', async () => {
  const stage = await stageOf('sleep 600')
  const runner = await stage.runner(stage.context, {
    startingMs: 300,
    lies: guest => ({
      ...guest,
      start: async (run, spec) => {
        await guest.start(run, spec)
        throw fail('guest-unreachable', 'an answer that cannot be read')
      },
    }),
  })
  onTestFinished(runner.close)
  await stage.start()
  expect(await stage.ended()).toMatchObject({
    result: 'crashed',
    reason: expect.stringContaining('did not say'),
  })
})

test('a machine that keeps a look waiting works meanwhile: its time counts', async () => {
  let now = Date.now()
  const stage = await stageOf('sleep 600', { minutes: 1 })
  const look = Promise.withResolvers<void>()
  let isHeld = false
  const runner = await stage.runner(
    { ...stage.context, clock: () => new Date(now) },
    {
      lies: guest => ({
        ...guest,
        look: async run => {
          isHeld = true
          await look.promise
          return guest.look(run)
        },
      }),
    },
  )
  onTestFinished(runner.close)
  await stage.start()
  await until('a look', () => isHeld)
  // A tick sees at most 30 s: the host may have slept.
  for (let n = 0; n < 3; n += 1) {
    now += 30_000
    const from = performance.now()
    await until('a tick', () => performance.now() - from > 250)
  }
  look.resolve()
  expect(await stage.ended()).toMatchObject({ result: 'out of time' })
})

test('a machine that drops its link does not work for nothing: its time counts, link after link', async () => {
  let now = Date.now()
  let isLinked = true
  let looks = 0
  const stage = await stageOf('echo begun; sleep 600', { minutes: 1 })
  const runner = await stage.runner(
    { ...stage.context, clock: () => new Date(now) },
    {
      lies: guest =>
        isLinked
          ? {
              ...guest,
              look: async run => {
                looks += 1
                return guest.look(run)
              },
            }
          : null,
    },
  )
  onTestFinished(runner.close)
  await stage.start()
  await until('the first look', () => looks > 0)
  for (const workedMs of [20_000, 40_000]) {
    now += 20_000
    isLinked = false
    await until(`${workedMs} ms`, () => stage.row()?.workedMs === workedMs, { within: 30_000 })
    const before = looks
    isLinked = true
    await until('a look over the next link', () => looks > before)
  }
  now += 20_000
  expect(await stage.ended()).toMatchObject({ result: 'out of time' })
})

test('a message waits for the end of the run, and begins the next one', async () => {
  const stage = await stageOf('cat; echo; until [ -e go ]; do sleep 0.05; done')
  await running(stage)
  await stage.start()
  await words(stage, 'You work on the ticket')
  expect(await stage.tell('Use tabs.')).toMatchObject({
    summary: expect.stringContaining('when it ends its present turn'),
  })
  const first = stage.row()?.run ?? ''
  writeFileSync(join(stage.project, 'go'), '')
  const row = await stage.ended(first)
  expect(row.run).not.toBe(first)
  expect(stage.transcript(row.run)).toContain('From ada (cli):\n\nUse tabs.')
  expect(stage.started()).toHaveLength(2)
})

test('a person stops it: its unit ends, and what waits does not start it again', async () => {
  const stage = await stageOf('echo begun; sleep 1000')
  await running(stage)
  await stage.start()
  await words(stage, 'begun')
  await stage.tell('never mind')
  expect(await stage.stop()).toMatchObject({ summary: 'The agent of DROP-1 is being stopped' })
  expect(await stage.ended()).toMatchObject({ result: 'stopped', reason: 'ada stopped it' })
  expect(await stage.stop()).toMatchObject({ result: 'skipped' })
  expect(await stage.tell('a review', { round: 1 })).toMatchObject({ result: 'skipped' })
  expect(stage.started()).toHaveLength(1)
})

test('it ends after its minutes of work; the time that another process saw counts, a clock that jumps does not', async () => {
  const stage = await stageOf('echo begun; sleep 1000', { minutes: 1 })
  let now = Date.parse('2026-11-28T10:00:00Z')
  stage.context.clock = () => new Date(now)
  const first = await stage.runner()
  await stage.start()
  await words(stage, 'begun')
  // The host slept for a day.
  now += 86_400_000
  first.nudge()
  await until('a tick after the jump', () => (stage.row()?.workedMs ?? 0) > 0)
  expect(stage.row()).toMatchObject({ state: 'running', workedMs: 30_000 })
  await first.close()
  await running(stage)
  const moving = setInterval(() => {
    now += 5_000
  }, 300)
  onTestFinished(() => clearInterval(moving))
  expect(await stage.ended()).toMatchObject({ result: 'out of time', reason: 'it worked for 1 minute' })
})

test('another process goes on with a run; nothing is started twice, and no line is lost or doubled', async () => {
  const stage = await stageOf('for i in 1 2 3; do echo "line $i"; until [ -e "$i" ]; do sleep 0.05; done; done')
  for (const n of [1, 2, 3]) {
    const runner = await stage.runner()
    if (n === 1) await stage.start()
    await words(stage, `line ${n}`)
    await runner.close()
    writeFileSync(join(stage.project, String(n)), '')
  }
  await running(stage)
  const row = await stage.ended()
  expect(row.result).toBe('done')
  expect(stage.transcript(row.run)).toBe('line 1\nline 2\nline 3\n')
  expect(stage.started()).toHaveLength(1)
})

test('a start that was cut off after the unit was there is not done again', async () => {
  const stage = await stageOf('echo begun; until [ -e go ]; do sleep 0.05; done')
  const first = await stage.runner()
  await stage.start()
  await words(stage, 'begun')
  await first.close()
  const run = stage.row()?.run ?? ''
  stage.context.registry.updateAgent('DROP-1', run, row => ({ progress: { ...row.progress, boot: null } }))
  await running(stage)
  await until('the boot', () => stage.row()?.progress.boot)
  writeFileSync(join(stage.project, 'go'), '')
  expect(await stage.ended()).toMatchObject({ run, result: 'done' })
  expect(stage.started()).toHaveLength(1)
})

test('after a restore it is started again, and told what happened and the note', async () => {
  const stage = await stageOf('cat; echo; until [ -e go ]; do sleep 0.05; done')
  await running(stage)
  await stage.start()
  await words(stage, 'You work on')
  stage.context.registry.setNote('DROP-1', { text: 'tried X, failed because Y', at: '2026-11-28T10:00:00Z' })
  const first = stage.row()?.run ?? ''
  stage.restored('before-refactor')
  await until('another run', () => stage.row()?.run !== first && stage.row()?.state === 'running')
  writeFileSync(join(stage.project, 'go'), '')
  const row = await stage.ended(first)
  const transcript = stage.transcript(row.run)
  expect(transcript).toContain('The machine was restored to the checkpoint before-refactor.')
  expect(transcript).toContain('tried X, failed because Y')
  expect(row.result).toBe('done')
})

test('a restored unit of a run that has ended is stopped', async () => {
  const stage = await stageOf('echo begun; sleep 1000')
  const runner = await running(stage)
  await stage.start()
  await words(stage, 'begun')
  const run = stage.row()?.run ?? ''
  // As after a restore of memory: the run is over, and its unit runs.
  stage.context.registry.updateAgent('DROP-1', run, () => ({ state: 'ended', result: 'done' }))
  stage.restored('earlier')
  await until('the end of the unit', async () => !(await runner.guest.look(run)).active)
  expect(stage.row()).toMatchObject({ run, state: 'ended', result: 'done' })
})

test('a machine that was restarted: the work goes on in another run; too many of them end it', async () => {
  const stage = await stageOf('cat; echo; until [ -e go ]; do sleep 0.05; done')
  const first = await stage.runner()
  await stage.start()
  await words(stage, 'You work on')
  await first.close()
  const { run = '' } = stage.row() ?? {}
  await first.guest.stop(run)
  const bootedBefore = (restarts: number) => {
    const { registry } = stage.context
    registry.updateAgent('DROP-1', stage.row()?.run ?? '', row => ({
      progress: { ...row.progress, boot: '00000000-0000-0000-0000-000000000000', restarts },
    }))
  }
  bootedBefore(0)
  const second = await running(stage)
  await until('another run', () => stage.row()?.run !== run && stage.row()?.progress.boot)
  await words(stage, 'The machine was restarted.')
  await second.close()
  await second.guest.stop(stage.row()?.run ?? '')
  bootedBefore(10)
  await running(stage)
  expect(await stage.ended()).toMatchObject({ result: 'crashed', reason: expect.stringContaining('too often') })
})

test('a unit that is gone in the same boot is a crash, without a second look at one that works', async () => {
  const stage = await stageOf(
    'until [ -e looked ]; do sleep 0.1; done; pkill -KILL -s "$(ps -o sid= -p $$ | tr -d " ")"',
  )
  let looks = 0
  const runner = await stage.runner(stage.context, {
    lies: guest => ({
      ...guest,
      look: async run => {
        const state = await guest.look(run)
        if (state.active) looks += 1
        writeFileSync(join(stage.project, 'looked'), '')
        return state
      },
    }),
  })
  onTestFinished(runner.close)
  await stage.start()
  expect(await stage.ended()).toMatchObject({
    result: 'crashed',
    reason: expect.stringContaining('without an exit status'),
  })
  expect(looks).toBe(1)
})

test('output without end and without lines costs the guest 64 MB and the runner no memory; the agent goes on', async () => {
  const stage = await stageOf(
    `head -c 3000000 /dev/zero; echo; head -c 70000000 /dev/zero | tr '\\0' x; echo; echo end; touch ended`,
  )
  await running(stage)
  await stage.start()
  const row = await stage.ended()
  expect(row).toMatchObject({ result: 'done', summary: null })
  expect(stage.transcript(row.run).length).toBe(64 * 1024 * 1024)
})

test('where machines are not isolated it waits, and says why, until the operator allows it', async () => {
  const stage = await openAgentStage({ agent: { use: 'command', command: 'echo ok' }, isolated: false })
  onTestFinished(stage.close)
  const runner = await stage.runner()
  await stage.start()
  await until('the reason', () => stage.row()?.reason?.includes('The isolation of machines is not in force: no filter'))
  await runner.close()
  Object.assign(stage.context.config.agent ?? {}, { allowUnisolated: true })
  await running(stage)
  expect(await stage.ended()).toMatchObject({ result: 'done', reason: null })
})

test('where nobody can check the isolation of machines it waits, and says why', async () => {
  const stage = await openAgentStage({ agent: { use: 'command', command: 'echo ok' }, isolated: null })
  onTestFinished(stage.close)
  await running(stage)
  await stage.start()
  await until('the reason', () => stage.row()?.reason?.includes('the check failed: looking at groups: no right'))
})

const startedAt = '2026-11-24T10:00:00.000Z'
const RUNNING = { state: 'running', source: 'config.yaml', exit: null, startedAt, seconds: null } as const
test.for([
  ['the setup of an interrupted create is unfinished', { setup: RUNNING }],
  ['its project could not be cloned', { prepared: false }],
] as const)('while %s it waits, and says how to go on', async ([, unfinished]) => {
  const stage = await stageOf('echo hi')
  const { registry } = stage.context
  const project = registry.project('DROP-1')
  if (project === null) throw new Error('the machine has no project')
  registry.setProject('DROP-1', { ...project, ...unfinished, problem: 'To go on: agent-swarm create DROP-1' })
  await running(stage)
  await stage.start()
  await until('the reason', () => stage.row()?.reason === 'To go on: agent-swarm create DROP-1')
  expect(stage.started()).toEqual([])
  registry.setProject('DROP-1', { ...project, problem: 'a file was left out' })
  expect(await stage.ended()).toMatchObject({ result: 'done', reason: null })
})

test('one that waits is judged again in time, or when something changed for it, and not at each look', async () => {
  const stage = await stageOf('echo hi')
  const { registry } = stage.context
  let [looks, reads] = [0, 0]
  const runner = await stage.runner(stage.context, {
    waitingMs: 3_600_000,
    closed: () => {
      looks += 1
      return null
    },
    repositoryAgent: async () => {
      reads += 1
      throw fail('network', 'GitHub is away')
    },
  })
  onTestFinished(runner.close)
  await stage.start()
  await until('the reason', () => stage.row()?.reason?.includes('GitHub is away'))
  const before = looks
  await until('more looks', () => {
    runner.nudge()
    return looks > before + 3
  })
  expect(reads).toBe(1)
  const project = registry.project('DROP-1')
  if (project === null) throw new Error('the machine has no project')
  registry.setProject('DROP-1', { ...project, ports: [3000] })
  await until('another judgement', () => reads === 2)
})

test('while nobody can read what its repository says of agents, it waits', async () => {
  const stage = await stageOf('echo hi')
  let isThere = false
  const runner = await stage.runner(stage.context, {
    waitingMs: 1,
    repositoryAgent: async () => {
      if (!isThere) throw fail('not-configured', 'there is no mirror of acme/shop on this host')
      return { use: 'none' }
    },
  })
  onTestFinished(runner.close)
  await stage.start()
  await until('a reason', () => stage.row()?.reason?.includes('no mirror of acme/shop'))
  expect(stage.started()).toEqual([])
  isThere = true
  expect(await stage.ended()).toMatchObject({ result: 'stopped', reason: expect.stringContaining('wants no agent') })
})

test('while the bot does not accept this runner, it waits', async () => {
  const stage = await stageOf('echo hi')
  let why: string | null = 'the token of this runner was revoked'
  const runner = await stage.runner(stage.context, { closed: () => why })
  onTestFinished(runner.close)
  await stage.start()
  await until('a reason', () => stage.row()?.reason?.includes('was revoked'))
  expect(stage.started()).toEqual([])
  why = null
  expect(await stage.ended()).toMatchObject({ result: 'done', reason: null })
})

test('without the key of its model it waits, and says what the operator has to do', async () => {
  const stage = await openAgentStage({ agent: { use: 'claude' } })
  onTestFinished(stage.close)
  await running(stage)
  await stage.start()
  expect(await until('the reason', () => stage.row()?.reason)).toMatch(
    /the key of the model is missing: .*model-keys\/anthropic/,
  )
  expect(stage.row()?.state).toBe('wanted')
})
