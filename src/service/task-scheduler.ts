/**
 * The Task Scheduler of Windows: a task that runs whether its user is logged on or not (S4U: no password is stored). Its
 * elements are those of [MS-TSCH] 2.5 in that order, and the flags those of schtasks. Never run on Windows.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { explainBy, fail } from '../errors.ts'
import type { Host, Launch, ServiceState, ServiceSystem, Step } from './system.ts'
import { xmlText } from './words.ts'

/** The Task Scheduler puts the values of variables into the words of a task. */
const checkWord = (word: string): void => {
  if (/%[^%]+%/.test(word))
    throw fail(
      'usage',
      `writing a task: Windows would read a variable in ${JSON.stringify(word)}`,
      'Use another folder.',
    )
}

const MARK = '<Source>agent-swarm service install</Source>'
/** SCHED_S_TASK_RUNNING, the last result of a task that runs. It is the same in every language. */
const RUNNING = '267009'

/** A command line's word as Windows programs read it: backslashes before the last mark count twice. No path holds a mark. */
const quoted = (word: string) => `"${word.replace(/\\+$/, '$&$&')}"`

/**
 * The trigger is a time in the past, repeated every minute: a running task is left alone, and one that ended starts again.
 * "Restart on failure" would not do that, since it is for a task that could not be started ([MS-TSCH] 2.5.4.2).
 */
const taskText = ({ name, node, entry, home }: Launch, userId: string, log: string): string => {
  for (const word of [node, entry, home]) checkWord(word)
  const argv = [quoted(entry), name, '--home', quoted(home), '--log', quoted(log)].join(' ')
  return `<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    ${MARK}
    <Description>agent-swarm ${name}</Description>
  </RegistrationInfo>
  <Triggers>
    <TimeTrigger>
      <Enabled>true</Enabled>
      <StartBoundary>2020-01-01T00:00:00</StartBoundary>
      <Repetition>
        <Interval>PT1M</Interval>
      </Repetition>
    </TimeTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>${xmlText(userId)}</UserId>
      <LogonType>S4U</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <AllowStartOnDemand>true</AllowStartOnDemand>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>255</Count>
    </RestartOnFailure>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>5</Priority>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>${xmlText(node)}</Command>
      <Arguments>${xmlText(argv)}</Arguments>
      <WorkingDirectory>${xmlText(home)}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
`
}

/** What it says is in the language of the system, so most refusals look alike. */
const explainSchtasks = (more = '') =>
  explainBy([
    [/[Aa]ccess is denied|0x80070005/, 'permission', 'Run it in a terminal that was opened as administrator.'],
    [/^/, 'unknown', `If a right is missing: run it in a terminal that was opened as administrator.${more}`],
  ])

/** A query of a task that is there fails as one of none does where the user may not see it. */
const stateOf = (csv: string | null, isInstalled: boolean): ServiceState => ({
  enabled: csv !== null,
  running: csv !== null ? csv.includes(`"${RUNNING}"`) : isInstalled ? null : false,
  pid: null,
  restarts: null,
  startsAt: 'boot',
  survivesLogout: csv !== null,
  notes:
    csv !== null
      ? ['After an end or a start of the system, it starts within a minute.']
      : isInstalled
        ? ['Windows does not show its task: it was removed (install it again), or only an administrator sees it.']
        : [],
})

export const openTaskScheduler = ({ run, environment }: Host, launch: Launch): ServiceSystem => {
  const { name, home, user } = launch
  const task = `agent-swarm-${name}`
  const file = join(home, 'service', `${task}.xml`)
  const log = join(home, 'service', `${name}.log`)
  const domain = environment.USERDOMAIN ?? ''
  // Nobody but an administrator sees whether a task is gone, and an error does not tell.
  const ifRemoved = ` If somebody removed the task by hand: remove its file, too, ${file}`
  const schtasks = (doing: string, ...argv: string[]): Step => ({ program: 'schtasks', argv, doing })
  const ask = ({ program, argv, doing, answers = [] }: Step) =>
    run(program, argv, { doing, answers, explain: explainSchtasks(argv[0] === '/Delete' ? ifRemoved : '') })
  const ending = { ...schtasks(`ending ${task}`, '/End', '/TN', task), answers: [1] }
  const starting = schtasks(`starting ${task}`, '/Run', '/TN', task)
  const content = taskText(launch, domain === '' ? user.name : `${domain}\\${user.name}`, log)
  return {
    label: 'Task Scheduler',
    file,
    content,
    user,
    programs: [launch.node, launch.entry],
    home,
    isCurrent: text => text === content,
    encoding: 'utf16le',
    isOurs: text => text.includes(MARK),
    install: [ending, schtasks(`creating ${task}`, '/Create', '/TN', task, '/XML', file, '/F'), starting],
    restart: [ending, starting],
    end: [ending, schtasks(`deleting ${task}`, '/Delete', '/TN', task, '/F')],
    forget: [],
    state: async () => {
      const { stdout, exitCode } = await ask({
        ...schtasks(`looking at ${task}`, '/Query', '/TN', task, '/FO', 'CSV', '/NH', '/V'),
        answers: [1],
      })
      return stateOf(exitCode === 0 ? stdout : null, existsSync(file))
    },
    log: { file: log },
    runStep: async step => void (await ask(step)),
  }
}
