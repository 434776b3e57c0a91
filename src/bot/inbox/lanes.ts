/** What a lane of the inbox is about, as people name it, and the lanes of what they name. */
import { isTicket } from '../../domain.ts'
import type { Memory } from '../../store/sqlite/memory.ts'

const SHAPES: readonly [shape: RegExp, name: (...parts: string[]) => string][] = [
  [/^(?:jira|clock):([A-Z][A-Z0-9_]*-\d+)$/, (ticket = '') => ticket],
  [/^github:([^:]+):pr:(\d+)$/, (repo, number) => `${repo}#${number}`],
  [/^github:([^:]+):ref:refs\/(?:heads|tags)\/(.+)$/, (repo, name) => `${repo} ${name}`],
]

/** `DROP-1`, `acme/shop#7`, or `acme/shop a-branch`; null where nothing says. */
export const aboutOf = (lane: string): string | null => {
  for (const [shape, name] of SHAPES) {
    const found = lane.match(shape)
    if (found !== null) return name(...found.slice(1))
  }
  return null
}

/** Those of a ticket are also those of its pull requests and their branches. */
export const lanesOf = (memory: Pick<Memory, 'pullRequestsOf'>, named: string): string[] => {
  const pullRequest = named.match(/^([^#\s]+)#(\d+)$/)
  if (pullRequest !== null) return [`github:${pullRequest[1]}:pr:${pullRequest[2]}`]
  const ticket = named.toUpperCase()
  if (!isTicket(ticket)) return []
  const linked = memory
    .pullRequestsOf(ticket)
    .flatMap(({ repo, number, branch }) => [`github:${repo}:pr:${number}`, `github:${repo}:ref:refs/heads/${branch}`])
  return [`jira:${ticket}`, `clock:${ticket}`, ...linked]
}
