/** Set-up: asks for GitHub, Jira and the hypervisor (or takes flags), tries every answer for real, and writes config.yaml. */
import { problem, warning } from '../../bot/check.ts'
import { homeIn } from '../../config/config.ts'
import { fail, isFailure } from '../../errors.ts'
import type { Desk } from '../init/desk.ts'
import { isWrong, openDesk } from '../init/desk.ts'
import { setUpGitHub } from '../init/github.ts'
import { setUpJira } from '../init/jira.ts'
import { setUpMachines } from '../init/machines.ts'
import { type Invocation, printJson, printNote, type RunCommand, stripControls } from '../terminal/output.ts'

const mayWrite = async ({ ask, checks, dryRun }: Desk): Promise<boolean> => {
  if (dryRun) return false
  const bad = checks.filter(one => one.found === 'error').length
  if (ask === null) return bad === 0
  if (bad === 0) return ask.agree('Write it?', true)
  return ask.agree(`${bad === 1 ? 'One thing is' : `${bad} things are`} wrong. Write it all the same?`, false)
}

const setUp = async (desk: Desk, invocation: Invocation): Promise<number> => {
  const { answers, checks, dryRun, say } = desk
  const withGitHub = await setUpGitHub(desk)
  await setUpJira(desk, withGitHub)
  const imageFirst = await setUpMachines(desk)

  const { botProblems } = await answers.candidate()
  if (!isWrong(checks)) desk.note(botProblems.map(problem => problem('Configuration', problem, null)))
  desk.note(
    answers
      .overruled()
      .map(name =>
        warning(
          'Configuration',
          `${name} is set in this shell to something else, and counts before the file`,
          `Give it with a flag to write it, or before agent-swarm up: unset ${name}`,
        ),
      ),
  )

  const changes = answers.shownChanges()
  const changed = [...answers.changes()].map(([name, value]) => ({
    setting: name,
    change: value === null ? ('removed' as const) : ('set' as const),
  }))
  say(
    changes.length === 0
      ? `${answers.path} holds all of this.`
      : `${answers.path}${answers.isNew() ? ', a new file' : ''}:\n${changes.map(one => `  ${stripControls(one)}`).join('\n')}`,
  )
  const written = changes.length > 0 && (await mayWrite(desk))
  if (written) await answers.write()
  const settled = written || changes.length === 0
  const next = settled ? [...(imageFirst === null ? [] : [imageFirst]), 'agent-swarm up'] : []
  if (invocation.json) printJson<'init'>({ path: answers.path, written, checks: [...checks], changes: changed, next })
  if (written) say('Written, for your eyes alone.')
  else if (changes.length > 0) printNote(dryRun ? 'Nothing was written: this is a dry run.' : 'Nothing was written.')
  const fine = !isWrong(checks)
  if (settled && fine) say(`Next: ${next.join(', then ')}`)
  return fine && (settled || dryRun) ? 0 : 1
}

export const run: RunCommand = async invocation => {
  const desk = await openDesk(invocation, homeIn())
  try {
    return await setUp(desk, invocation)
  } catch (error) {
    if (!isFailure(error) || error.failure.kind !== 'cancelled' || !desk.answers.isBegun()) throw error
    // GitHub gives the key of an App once: it is written before the other questions.
    throw fail('cancelled', `cancelled; ${desk.answers.path} has the App that was made`, 'Go on: agent-swarm init')
  }
}
