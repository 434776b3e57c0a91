/** The lanes of the inbox, as people name what they are about. */
import { isTicket } from '../../domain.ts'
import type { Store } from '../../store/port.ts'

const SHAPES: readonly [shape: RegExp, name: (...parts: string[]) => string][] = [
  [/^(?:jira|clock|runner):([A-Z][A-Z0-9_]*-\d+(?:~\d+)?)$/, (ticket = '') => ticket],
  [/^github:([^:]+):pr:(\d+)$/, (repo, number) => `${repo}#${number}`],
  [/^github:([^:]+):ref:refs\/(?:heads|tags)\/(.+)$/, (repo, name) => `${repo} ${name}`],
]

/** `DROP-1`, `acme/shop#7`, or `acme/shop a-branch`; null when the lane is about none of these. */
export const aboutOf = (lane: string): string | null => {
  for (const [shape, name] of SHAPES) {
    const match = lane.match(shape)
    if (match !== null) return name(...match.slice(1))
  }
  return null
}

/** The lanes that `word` names. A ticket also names the lanes of its pull requests and their branches. */
export const lanesOf = async ({ pullRequests }: Pick<Store, 'pullRequests'>, word: string): Promise<string[]> => {
  const pullRequest = word.match(/^([^#\s]+)#(\d+)$/)
  if (pullRequest !== null) return [`github:${pullRequest[1]}:pr:${pullRequest[2]}`]
  const ticket = word.toUpperCase()
  if (!isTicket(ticket)) return []
  const linked = (await pullRequests.ofTicket(ticket)).flatMap(({ repo, number, branch }) => [
    `github:${repo}:pr:${number}`,
    `github:${repo}:ref:refs/heads/${branch}`,
  ])
  return [`jira:${ticket}`, `clock:${ticket}`, `runner:${ticket}`, ...linked]
}
