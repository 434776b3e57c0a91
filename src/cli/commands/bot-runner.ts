import * as v from 'valibot'
import { runnerName, runnerNameOrId } from '../../bot/http/operator.ts'
import { fail } from '../../errors.ts'
import { type ForgottenRunner, isConnected, RUNNER_AWAY_MS } from '../../store/port.ts'
import { counted } from '../../words.ts'
import { type Inbox, iso, withInbox, withStore } from '../inbox.ts'
import { isAgreed } from '../terminal/confirm.ts'
import { type Invocation, print, printJson, printNote, type RunCommand, stripControls } from '../terminal/output.ts'
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
      connected: seenAt !== null && isConnected(seenAt, now.getTime()),
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

// ── Forget ──

const askToForget = async (inbox: Inbox | null, typed: string, dryRun: boolean): Promise<ForgottenRunner> => {
  const doing = `forgetting the runner ${typed}`
  const runner = v.safeParse(runnerNameOrId, typed)
  const answer =
    inbox === null || !runner.success
      ? ({ problem: 'unknown-runner' } as const)
      : await inbox.ask({ ask: 'forget-runner', runner: runner.output, dryRun })
  if (!('problem' in answer)) return answer
  if (answer.problem === 'unknown-runner')
    throw fail('refused', `${doing}: no runner has this name or id`, 'See: agent-swarm bot runner list')
  if (answer.problem === 'connected')
    throw fail(
      'refused',
      `${doing}: it is connected`,
      'Stop it first. To end its token alone: agent-swarm bot runner revoke NAME',
    )
  throw fail(
    'refused',
    `${doing}: ${inbox?.runs ? 'the bot has just started, and' : 'the bot does not run, so'} it is not known whether the runner is connected`,
    `${inbox?.runs ? 'Wait' : 'Start the bot (agent-swarm bot), wait'} ${RUNNER_AWAY_MS / 1000} s, and try again.`,
  )
}

const actionsText = (actions: ForgottenRunner['ended']): string =>
  actions.map(({ kind, ticket }) => `${kind} ${ticket}`).join(', ')

const showForgotten = (
  { name, id, host, seenAt, machines, tickets, released, ended }: ForgottenRunner,
  { terminal }: Invocation,
): void => {
  const now = new Date()
  const seen = seenAt === null ? 'never seen' : `last seen ${when(iso(seenAt), now, terminal)}`
  print(`The runner ${name ?? id}${host === null ? '' : ` on ${stripControls(host)}`}, ${seen}:`, terminal)
  if (machines.length > 0)
    print(
      table(
        [{ title: 'TICKET', whole: true }, { title: 'MACHINE', whole: true }, 'PROVIDER', 'STATE', 'AS OF'],
        machines.map(({ ticket, vmId, provider, status, heardAt }) => [
          ...[ticket, vmId, provider, status],
          when(iso(heardAt), now, terminal),
        ]),
        terminal,
      ),
      terminal,
    )
  else print('  no machines', terminal)
  if (tickets.length > 0) print(`Tickets that wait for it, without a machine: ${tickets.join(', ')}`, terminal)
  if (released.length > 0) print(`Any runner can then do: ${actionsText(released)}`, terminal)
  if (ended.length > 0) print(`Ends as failed: ${actionsText(ended)}`, terminal)
}

export const forget: RunCommand = invocation =>
  withInbox(invocation, async inbox => {
    const { json, terminal, words } = invocation
    const [typed = ''] = words
    const plan = await askToForget(inbox, typed, true)
    if (!json) showForgotten(plan, invocation)
    const agreed = await isAgreed(
      'Forget it? Its machines count as gone, and a comment on each ticket says so.',
      invocation,
    )
    const forgotten = agreed ? await askToForget(inbox, typed, false) : plan
    if (json)
      printJson<'bot runner forget'>(
        {
          ...forgotten,
          result: agreed ? 'done' : 'planned',
          seenAt: forgotten.seenAt === null ? null : iso(forgotten.seenAt),
          machines: forgotten.machines.map(({ heardAt, ...machine }) => ({ ...machine, heardAt: iso(heardAt) })),
        },
        terminal,
      )
    else if (agreed)
      printNote(
        `Forgotten: ${counted(forgotten.machines.length, 'machine')} counted as gone, ${counted(forgotten.ended.length, 'action')} ended. Its token has stopped working.`,
        terminal,
      )
    else printNote('Nothing was changed. To forget it: --yes', terminal)
    return 0
  })
