/** What comments say of projects and their agents. What these wrote themselves is outside text. Pure. */
import type { EnvironmentKey, Ticket } from '../../domain.ts'
import type { PullRequestRef } from '../../schema/action.ts'
import type { AgentReport, Environment, Project, ProjectStep } from '../../schema/environment.ts'
import { counted } from '../../words.ts'
import { type Block, code, type Line, line, link, own } from './text.ts'
import { duration, moment, type Rendered, remedyLine, rendered, type TimeTexts } from './words.ts'

const seconds = (from: string | null, to: string | null): number | null => {
  const between = (Date.parse(to ?? '') - Date.parse(from ?? '')) / 1000
  return Number.isFinite(between) && between >= 0 ? between : null
}
const PROGRAMS = { claude: 'Claude Code', codex: 'Codex', command: 'a command of the operator' } as const

/** A cost where one is known, else tokens. */
const spent = ({ turns, tokens, usd }: AgentReport): string =>
  `${counted(turns, 'turn')}, ${usd === null ? '' : `${usd.toFixed(2)} US dollars, `}${tokens.toLocaleString('en-US')} tokens`

const RESULTS = {
  done: 'done',
  blocked: 'blocked: it has a question, or cannot go on alone',
  'out of time': 'stopped: out of time',
  'out of budget': 'stopped: out of budget',
  crashed: 'crashed',
  stopped: 'stopped',
} as const

/** One line about an agent, for the status comment and for answers. `observedAt`: when its numbers were so. */
export const agentLine = (
  agent: AgentReport,
  { status, observedAt }: Pick<Environment, 'status' | 'observedAt'>,
  { at, growing }: TimeTexts,
): Line => {
  const { use, state, result, reason, startedAt, rounds } = agent
  if (state !== 'ended' && status !== 'running')
    return own(`${PROGRAMS[use]} ${state === 'wanted' ? 'starts' : 'goes on'} when the machine runs again`)
  const why = reason === null ? [] : line`: ${reason}`
  const told = rounds === 0 ? '' : `; reviews and failed checks that it was told: ${rounds}`
  if (state === 'wanted') return line`${own(PROGRAMS[use])} starts as soon as it can${why}`
  if (state === 'running') {
    const since = startedAt === null ? '' : ` since ${moment(startedAt)}`
    return own(`${PROGRAMS[use]} is at work${since} (${growing(spent(agent))} as of ${at(observedAt)}${told})`)
  }
  return line`${own(`${PROGRAMS[use]}: ${RESULTS[result ?? 'stopped']}`)}${why}${own(` (${spent(agent)}${told})`)}`
}

const stepLine = (name: string, step: ProjectStep | null): Line => {
  if (step === null) return []
  const { state, exit, seconds, source } = step
  const took = seconds === null ? '' : ` after ${duration(seconds)}`
  const ended = state === 'running' ? 'is running' : state === 'done' ? `done${took}` : `failed${took}`
  return line`; ${own(name)} (${code(source)}) ${own(`${ended}${exit === null ? '' : `, exit status ${exit}`}`)}`
}

const hasFailed = (step: ProjectStep | null): boolean => step?.state === 'failed'

/** One line about the project of a ticket's machine. */
export const projectLine = (ticket: Ticket, { repo, branch, path, setup, start, problem }: Project): Line =>
  [
    line`${code(repo)}${branch === null ? [] : line` on ${code(branch)}`} in ${code(path)}${stepLine('setup', setup)}${stepLine('start', start)}`,
    hasFailed(setup) || hasFailed(start) ? own('. `/swarm logs` shows why') : [],
    problem === null ? [] : line`. Problem: ${remedyLine(problem, ticket)}`,
  ].flat()

/** For the answer to a question about the machine. */
export const projectBlocks = (
  { ticket, status, project, agent, observedAt }: Environment,
  times: TimeTexts,
): Block[] => [
  ...(project === undefined ? [] : [{ line: line`Project: ${projectLine(ticket, project)}.` }]),
  ...(agent === undefined ? [] : [{ line: line`Agent: ${agentLine(agent, { status, observedAt }, times)}.` }]),
]

/** A pull request as a comment names it; `webUrl` is GitHub's, for people. */
export type Place = PullRequestRef & { webUrl: string }
const placeLine = ({ repo, number, webUrl }: Place): Line => [
  link(`${repo}#${number}`, `${webUrl}/${repo}/pull/${number}`),
]

/** The comment on how a run ended. `pullRequest` null: there is none. */
export const agentEnd = (key: EnvironmentKey, run: AgentReport, pullRequest: Place | null): Rendered => {
  const { use, result, reason, summary, startedAt, endedAt } = run
  const took = seconds(startedAt, endedAt)
  return rendered(() => [
    { line: line`The agent of ${own(key)} (${own(PROGRAMS[use])}) has ended.` },
    {
      list: [
        line`Result: ${own(RESULTS[result ?? 'stopped'])}`,
        ...(reason === null ? [] : [line`Reason: ${reason}`]),
        line`Pull request: ${pullRequest === null ? own('none') : placeLine(pullRequest)}`,
        own(`Used: ${spent(run)} (tokens${run.usd === null ? '' : ' and cost'} of all its runs)`),
        ...(took === null ? [] : [own(`Time: ${duration(took)}`)]),
      ],
    },
    ...(summary === null || summary.trim() === ''
      ? []
      : [{ line: own('Its last words, as it wrote them:') }, { words: summary }]),
    ...(result === 'blocked'
      ? [{ line: own('To answer: `/swarm tell <answer>`. It goes on in the same session.') }]
      : []),
  ])
}

/** The comment that says that the agent gets no more reviews and checks. */
export const roundsOver = (ticket: Ticket, told: number): Rendered =>
  rendered(() => [
    {
      line: own(
        `Reviews and failed checks were passed on to the agent of ${ticket} ${counted(told, 'time')}, the most that \`agent.rounds\` allows. It gets no more of them. \`/swarm tell <text>\` still reaches it.`,
      ),
    },
  ])

/** GitHub's limit is 256 characters. */
const MAX_TITLE = 250
/** Title and text of a pull request that is opened for a branch. `summary` is outside text, which GitHub shows as it is in a title. */
export const pullRequestTitle = (ticket: Ticket, summary: string): string =>
  Array.from(`${ticket} ${summary.replaceAll(/\s+/g, ' ').replaceAll(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}]/gu, '')}`.trim())
    .slice(0, MAX_TITLE)
    .join('')

export const pullRequestBlocks = (
  ticket: Ticket,
  { page, byAgent, noDrafts }: { page: string | null; byAgent: boolean; noDrafts: boolean },
): Block[] => [
  { line: line`${own('Ticket:')} ${link(ticket, page)}` },
  {
    line: own(
      byAgent
        ? 'An agent wrote this branch, on the virtual machine of the ticket. No person has reviewed it yet.'
        : 'This branch was pushed from the virtual machine of the ticket.',
    ),
  },
  ...(noDrafts
    ? [{ line: own('It was meant to be a draft. This repository allows no drafts, so it is open for review.') }]
    : []),
]
