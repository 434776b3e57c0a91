/** Setup: asks for GitHub, Jira and the hypervisor (or takes flags), tries every answer for real, and writes config.yaml. */
import { type Check, hasError, problem, warning } from '../../check.ts'
import { homeIn } from '../../config/home.ts'
import { servingWarnings } from '../../config/serving.ts'
import { fail, isFailure } from '../../errors.ts'
import { candidateOf, changesOf, describeChanges, overridesOf, writeAnswers } from '../init/answers.ts'
import { type AnswerName, answerNames, subjectOf } from '../init/questions.ts'
import { openSetup, type Setup } from '../init/setup.ts'
import { machines, projectsOnly, sides } from '../init/sides.ts'
import { record, setUpSide, takeWay } from '../init/steps.ts'
import { printJson, printNote, type RunCommand, stripControls } from '../terminal/output.ts'

/** The answers to write; null for none. What works is not lost because something else does not. */
const whatToWrite = async ({ answers, ask, checks, dryRun }: Setup): Promise<readonly AnswerName[] | null> => {
  const wrong = new Set(checks.filter(({ status }) => status === 'error').map(({ subject }) => subject))
  if (dryRun || ask === null) return !dryRun && wrong.size === 0 ? answerNames : null
  if (wrong.size === 0) return (await ask.agree('Write these settings?', true)) ? answerNames : null
  const right = answerNames.filter(name => !wrong.has(subjectOf(name)))
  const written = [...changesOf(answers, right).keys()]
  const choice = await ask.choose(
    `${[...wrong].join(' and ')}: there are errors. What should be written?`,
    [
      ...(written.length === 0 ? [] : [{ value: 'right', label: `Only the rest: ${written.join(', ')}` }]),
      { value: 'all', label: 'All of it, with the errors' },
      { value: 'nothing', label: 'Nothing' },
    ],
    written.length === 0 ? 'nothing' : 'right',
  )
  return choice === 'nothing' ? null : choice === 'all' ? answerNames : right
}

/** What concerns more than one side. */
const checkConfiguration = async ({ answers, checks }: Setup): Promise<Check[]> => {
  const candidate = hasError(checks) ? null : await candidateOf(answers)
  const overrides = overridesOf(answers).map(name =>
    warning(
      `${name} has another value in this shell, which wins over the file`,
      `To write that value, give it with a flag. To use the file, before agent-swarm up: unset ${name}`,
    ),
  )
  const findings = [
    ...(candidate?.botProblems ?? []).map(text => problem(text, null)),
    ...(candidate === null ? [] : servingWarnings(candidate.serving)).map(text => warning(text)),
    ...overrides,
  ]
  return findings.map(finding => ({ subject: 'Configuration', ...finding }))
}

const setUp = async (setup: Setup): Promise<number> => {
  const { answers, checks, dryRun, say, invocation } = setup
  const github = await setUpSide(setup, 'github', sides.github)
  const jira = await setUpSide(setup, 'jira', sides.jira)
  if (github !== 'none' && jira === 'none') await takeWay(setup, 'Configuration', projectsOnly)
  await takeWay(setup, 'Machines', machines)
  record(setup, await checkConfiguration(setup))

  const { path, content } = answers.file
  const lines = describeChanges(answers).map(line => `  ${stripControls(line)}`)
  const changes = [...changesOf(answers)].map(([setting, value]) => {
    return { setting, change: value === null ? ('removed' as const) : ('set' as const) }
  })
  if (changes.length === 0) say(`${path} already has these settings.`)
  else say(`${path}${content === null ? ', a new file' : ''}:\n${lines.join('\n')}`)
  const names = changes.length === 0 ? null : await whatToWrite(setup)
  const written = names !== null
  const settings = names === null ? [] : [...changesOf(answers, names).keys()]
  if (names !== null) await writeAnswers(answers, names)
  const isSettled = written || changes.length === 0
  const next = isSettled ? [...setup.next, 'agent-swarm up'] : []
  if (invocation.json) printJson<'init'>({ path, written, checks, changes, next }, invocation.terminal)
  if (written) say(`Wrote ${settings.join(', ')} to ${path}. Only you can read the file.`)
  else if (!isSettled) printNote(`Nothing was written${dryRun ? ': this is a dry run' : ''}.`, invocation.terminal)
  if (isSettled && !hasError(checks)) say(`Next: ${next.join(', then ')}`)
  return !hasError(checks) && (isSettled || dryRun) ? 0 : 1
}

export const run: RunCommand = async invocation => {
  const setup = await openSetup(invocation, homeIn(invocation.terminal.env))
  try {
    return await setUp(setup)
  } catch (error) {
    const { written, file } = setup.answers
    if (!isFailure(error) || error.failure.kind !== 'cancelled' || !written) throw error
    // GitHub shows the key of an App only once, so it is written before the other questions.
    throw fail('cancelled', `cancelled; the new App is in ${file.path}`, 'Continue: agent-swarm init')
  }
}
