import * as v from 'valibot'
import { runnerName } from '../../bot/http/operator.ts'
import { fail } from '../../errors.ts'
import { RUNNER_AWAY_MS } from '../../store/port.ts'
import { iso, withInbox, withStore } from '../inbox.ts'
import { print, printJson, printNote, type RunCommand, stripControls } from '../terminal/output.ts'
import { table } from '../terminal/table.ts'
import { when } from '../terminal/text.ts'

const nameOf = ([typed = '']: readonly string[]): string => {
  const name = v.safeParse(runnerName, typed)
  if (name.success) return name.output
  throw fail(
    'usage',
    `"${typed}" is not a name for a runner.`,
    'Use lower-case letters, digits, dots and hyphens, for example studio.',
  )
}

export const add: RunCommand = invocation => {
  const { flags, json, terminal, words } = invocation
  const name = nameOf(words)
  const as = typeof flags.as === 'string' ? flags.as : null
  return withStore(invocation, async ({ ask }) => {
    const added = await ask({ ask: 'add-runner', name, as })
    if ('token' in added) {
      if (json) printJson<'bot runner add'>({ name, id: added.runnerId, token: added.token }, terminal)
      else {
        printNote(
          `Token of the runner ${name}, shown this once. On its host, set AGENT_SWARM_RUNNER_TOKEN to:`,
          terminal,
        )
        print(added.token, terminal)
      }
      return 0
    }
    const doing = `adding the runner ${name}`
    if (added.problem === 'unknown-runner')
      throw fail('refused', `${doing}: the bot knows no runner with the id ${as}`, 'See: agent-swarm bot runner list')
    if (added.problem === 'name-taken')
      throw fail(
        'already-exists',
        `${doing}: a runner of this name has a token`,
        `Use another name, or revoke that token first: agent-swarm bot runner revoke ${name}`,
      )
    throw fail(
      'already-exists',
      `${doing}: the runner ${as} has a token, under the name ${added.name}`,
      `Revoke that token first: agent-swarm bot runner revoke ${added.name}`,
    )
  })
}

export const list: RunCommand = invocation =>
  withInbox(invocation, async inbox => {
    const { json, terminal } = invocation
    const runners = (await inbox?.ask({ ask: 'list-runners' })) ?? []
    const now = new Date()
    const rows = runners.map(({ seenAt, ...runner }) => ({
      ...runner,
      connected: seenAt !== null && now.getTime() - seenAt <= RUNNER_AWAY_MS,
      seenAt: seenAt === null ? null : iso(seenAt),
    }))
    if (json) printJson<'bot runner list'>(rows, terminal)
    else if (rows.length > 0)
      print(
        table(
          ['NAME', 'HOST', 'STATE', 'LAST SEEN', 'TOKEN', { title: 'ID', whole: true }],
          rows.map(({ name, host, connected, seenAt, token, id }) => [
            name ?? '-',
            host === null ? '-' : stripControls(host),
            connected ? 'connected' : 'away',
            seenAt === null ? 'never' : when(seenAt, now, terminal),
            token === 'shared' ? 'AGENT_SWARM_RUNNER_TOKEN' : token,
            id,
          ]),
          terminal,
        ),
        terminal,
      )
    else if (inbox !== null)
      printNote('No runners yet. Make a token for one: agent-swarm bot runner add NAME', terminal)
    return 0
  })

export const revoke: RunCommand = invocation => {
  const { json, terminal, words } = invocation
  const name = nameOf(words)
  return withInbox(invocation, async inbox => {
    const { runnerId: id } = (await inbox?.ask({ ask: 'revoke-runner', name })) ?? { runnerId: null }
    if (id === null)
      throw fail(
        'refused',
        `revoking the token of ${name}: no runner has this name`,
        'See: agent-swarm bot runner list',
      )
    if (json) printJson<'bot runner revoke'>({ name, id }, terminal)
    else
      print(
        `Revoked the token of ${name}. To give this runner a new one: agent-swarm bot runner add ${name} --as ${id}`,
        terminal,
      )
    return 0
  })
}
