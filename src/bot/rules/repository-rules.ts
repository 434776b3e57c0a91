/**
 * Which rules hold where, now. A repository's file is read from its default branch, and from nowhere else: nobody's pull
 * request changes the rules that it is judged by. What was read is remembered; GitHub is asked again with its ETag.
 */
import type { Rules } from '../../../handlers/handler.ts'
import { projectOf, type Ticket } from '../../domain.ts'
import type { Log } from '../../log.ts'
import type { Memory } from '../../store/sqlite/memory.ts'
import { githubFailure, type Octokit, statusOf } from '../github/client.ts'
import { parts } from '../inbox/facts.ts'
import { REPOSITORY_FILE, type Read, readRepositoryFile } from './repository-file.ts'

/** So old may be what is known of a file. Milliseconds. */
const FRESH_MS = 5 * 60_000

/** The file as GitHub has it; null where there is none. */
type Found = { content: string; etag: string | null } | { problem: string; etag: string | null } | null

const fetchFile = async (octokit: Octokit, repo: string, etag: string | null): Promise<Found | 'unchanged'> => {
  try {
    // Without a ref: the default branch.
    const { data, headers } = await octokit.request(`GET /repos/{owner}/{repo}/contents/${REPOSITORY_FILE}`, {
      ...parts(repo),
      headers: etag === null ? {} : { 'if-none-match': etag },
    })
    const { type, size, content } = data as { type?: unknown; size?: unknown; content?: unknown }
    const found = typeof headers.etag === 'string' ? headers.etag : null
    if (type !== 'file' || typeof content !== 'string')
      return { problem: `${REPOSITORY_FILE} is no file.`, etag: found }
    // Of a large one, GitHub sends no content.
    if (typeof size === 'number' && size > 1_000_000)
      return { problem: `${REPOSITORY_FILE} is too large.`, etag: found }
    return { content: Buffer.from(content, 'base64').toString('utf8'), etag: found }
  } catch (error) {
    if (statusOf(error) === 304) return 'unchanged'
    if (statusOf(error) === 404) return null
    throw error
  }
}

export const openRepositoryRules = ({
  memory,
  standard,
  clientFor,
  onProblems,
  clock,
  log,
}: {
  memory: Memory
  /** What holds where no file says anything. */
  standard: Rules
  clientFor: (repo: string) => Promise<Octokit | null>
  /** A repository's mistakes are others than before. */
  onProblems: (repo: string) => void
  clock: () => number
  log: Log
}) => {
  const parsed = new Map<string, { content: string; read: Read }>()
  const asking = new Map<string, Promise<void>>()

  const parse = async (repo: string, content: string): Promise<Read> => {
    const known = parsed.get(repo)
    if (known?.content === content) return known.read
    const read = await readRepositoryFile(content, standard)
    parsed.set(repo, { content, read })
    return read
  }

  const refresh = async (repo: string): Promise<void> => {
    const octokit = await clientFor(repo)
    if (octokit === null) return
    const known = memory.repositoryFile(repo)
    const found = await fetchFile(octokit, repo, known?.etag ?? null).catch(error => {
      const failure = githubFailure(error, `reading ${REPOSITORY_FILE} of ${repo}`, clock())
      if (known === null) throw failure
      log.warn({ repo }, `${failure.message}; what was known of it holds on`)
      return 'unread' as const
    })
    if (found === 'unread') return
    if (found === 'unchanged') {
      if (known !== null) memory.setRepositoryFile(repo, { ...known, checkedAt: clock() })
      return
    }
    const read =
      found === null
        ? { rules: standard, problems: [] }
        : 'problem' in found
          ? { rules: null, problems: [found.problem] }
          : await readRepositoryFile(found.content, standard)
    memory.setRepositoryFile(repo, {
      etag: found?.etag ?? null,
      // One with mistakes leaves what was there before.
      good: found === null ? null : read.rules !== null && 'content' in found ? found.content : (known?.good ?? null),
      problems: read.problems,
      checkedAt: clock(),
    })
    if (JSON.stringify(read.problems) === JSON.stringify(known?.problems ?? [])) return
    for (const problem of read.problems) log.warn({ repo }, problem)
    onProblems(repo)
  }
  /** Asked once at a time. */
  const refreshed = (repo: string): Promise<void> => {
    const under = asking.get(repo) ?? refresh(repo).finally(() => asking.delete(repo))
    asking.set(repo, under)
    return under
  }

  const rulesOf = async (repo: string): Promise<Rules> => {
    const known = memory.repositoryFile(repo)
    if (known === null || clock() - known.checkedAt > FRESH_MS) await refreshed(repo)
    const good = memory.repositoryFile(repo)?.good ?? null
    return (good === null ? null : (await parse(repo, good)).rules) ?? standard
  }

  /** The first repository by name whose file names the project. */
  const namesProject = async (project: string): Promise<string | null> => {
    for (const { repo, good } of memory.repositoryFiles()) {
      if (good !== null && (await parse(repo, good)).named.includes(project)) return repo
    }
    return null
  }

  return {
    rulesOf,
    /** The repository of the ticket's pull requests says what holds for it, then the one whose file names its project. */
    rulesOfTicket: async (ticket: Ticket): Promise<Rules> => {
      const linked = memory.pullRequestsOf(ticket)
      const link = linked.findLast(one => one.state === 'open') ?? linked.at(-1)
      const repo = link?.repo ?? (await namesProject(projectOf(ticket)))
      return repo === null ? standard : rulesOf(repo)
    },
    /** Its default branch has moved. */
    changed: refreshed,
  }
}
