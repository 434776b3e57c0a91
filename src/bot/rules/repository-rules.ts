/**
 * Which rules are in effect where. A repository's file is read from its default branch only, so that no pull request changes the
 * rules that it is judged by. The file is remembered, and read again with its ETag.
 */
import * as v from 'valibot'
import type { Rules } from '../../../handlers/handler.ts'
import { isWithin } from '../../clock.ts'
import {
  isListed,
  isOwnerListed,
  isWildcard,
  type Serving,
  servedProjects,
  servingRepositories,
} from '../../config/serving.ts'
import { projectOf, type Ticket } from '../../domain.ts'
import type { Log } from '../../log.ts'
import { REPOSITORY_FILE } from '../../schema/repository-file.ts'
import type { KnownPullRequest, RepositoryFile, Store } from '../../store/port.ts'
import { githubFailure, type Octokit, parts, statusOf } from '../github/client.ts'
import { type ParsedRules, readRepositoryFile } from './repository-file.ts'

/** How long a file is used before it is read again. Milliseconds. */
const FRESH_MS = 5 * 60_000
/** After a failure the last known file is used for as long: a GitHub that hangs is not waited for at each event. */
const UNREADABLE_MS = 60_000

type RulesContext = {
  store: Pick<Store, 'repositories' | 'pullRequests'>
  /** The rules where no file says anything, with all projects of the bot. */
  standard: Rules
  serving: Serving
  clientFor: (repo: string) => Promise<Octokit | null>
  /** A repository's file has other errors than before. */
  onProblems: (repo: string) => Promise<void>
  clock: () => number
  log: Log
}

/** The rules of a repository without a file: it acts on tickets of the projects that it serves, and of no other. */
const standardOf = async (
  { store, standard, serving }: Pick<RulesContext, 'store' | 'standard' | 'serving'>,
  repo: string,
): Promise<Rules> => ({
  ...standard,
  projects: servedProjects(await store.repositories.namesOf(repo), serving),
})

/** The file as GitHub has it; null when there is none. */
type FetchedFile = { content: string; etag: string | null } | { problem: string; etag: string | null } | null

const contentResponse = v.object({
  type: v.literal('file'),
  size: v.optional(v.number(), 0),
  content: v.string(),
})
/** GitHub sends no content of a file that is larger, in bytes. */
const LARGEST = 1_000_000

const fetchFile = async (octokit: Octokit, repo: string, etag: string | null): Promise<FetchedFile | 'unchanged'> => {
  try {
    // Without `ref`, this is the default branch.
    const { data, headers } = await octokit.request(`GET /repos/{owner}/{repo}/contents/${REPOSITORY_FILE}`, {
      ...parts(repo),
      headers: etag === null ? {} : { 'if-none-match': etag },
    })
    const tag = typeof headers.etag === 'string' ? headers.etag : null
    const file = v.safeParse(contentResponse, data)
    if (!file.success) return { problem: `${REPOSITORY_FILE} is not a file.`, etag: tag }
    if (file.output.size > LARGEST) return { problem: `${REPOSITORY_FILE} is too large.`, etag: tag }
    return { content: Buffer.from(file.output.content, 'base64').toString('utf8'), etag: tag }
  } catch (error) {
    if (statusOf(error) === 304) return 'unchanged'
    if (statusOf(error) === 404) return null
    throw error
  }
}

/** What to record of the file. A file with errors leaves the last good content in effect. */
const recordOf = async (
  fetched: FetchedFile,
  known: RepositoryFile | null,
  standard: Rules,
  now: number,
): Promise<RepositoryFile> => {
  if (fetched === null) return { etag: null, good: null, problems: [], checkedAt: now }
  const previous = { etag: fetched.etag, good: known?.good ?? null, checkedAt: now }
  if ('problem' in fetched) return { ...previous, problems: [fetched.problem] }
  const { rules, problems } = await readRepositoryFile(fetched.content, standard)
  return { ...previous, problems, good: rules === null ? previous.good : fetched.content }
}

/** False: it could not be read, and what is known of it stays in effect. */
const refresh = async (context: RulesContext, repo: string): Promise<boolean> => {
  const { store, clientFor, onProblems, clock, log } = context
  const octokit = await clientFor(repo)
  if (octokit === null) return true
  const known = await store.repositories.file(repo)
  const fetched = await fetchFile(octokit, repo, known?.etag ?? null).catch(error => {
    const failure = githubFailure(error, `reading ${REPOSITORY_FILE} of ${repo}`, clock())
    if (known === null) throw failure
    log.warn({ repo }, `${failure.message}; its last known version stays in effect`)
    return 'unreadable' as const
  })
  if (fetched === 'unreadable') return false
  if (fetched === 'unchanged') {
    if (known !== null) await store.repositories.setFile(repo, { ...known, checkedAt: clock() })
    return true
  }
  const record = await recordOf(fetched, known, await standardOf(context, repo), clock())
  await store.repositories.setFile(repo, record)
  if (JSON.stringify(record.problems) === JSON.stringify(known?.problems ?? [])) return true
  for (const problem of record.problems) log.warn({ repo }, problem)
  await onProblems(repo)
  return true
}

export const openRepositoryRules = (context: RulesContext) => {
  const { store, standard, serving, clock } = context
  const parsed = new Map<string, { content: string; projects: string; result: ParsedRules }>()
  const refreshing = new Map<string, Promise<void>>()
  /** When a file could not be read, epoch ms. */
  const failed = new Map<string, number>()

  const parse = async (repo: string, content: string): Promise<ParsedRules> => {
    const ofRepository = await standardOf(context, repo)
    const projects = ofRepository.projects.join()
    const known = parsed.get(repo)
    if (known?.content === content && known.projects === projects) return known.result
    const result = await readRepositoryFile(content, ofRepository)
    parsed.set(repo, { content, projects, result })
    return result
  }
  /** One request at a time. */
  const refreshOnce = (repo: string): Promise<void> => {
    const note = (isRead: boolean) => void (isRead ? failed.delete(repo) : failed.set(repo, clock()))
    const running =
      refreshing.get(repo) ??
      refresh(context, repo)
        .then(note)
        .finally(() => refreshing.delete(repo))
    refreshing.set(repo, running)
    return running
  }
  const rulesOf = async (repo: string): Promise<Rules> => {
    const ofRepository = await standardOf(context, repo)
    // What serves nothing has nothing to say.
    if (ofRepository.projects.length === 0) return ofRepository
    const known = await store.repositories.file(repo)
    const isUnreadable = isWithin(failed.get(repo) ?? Number.NEGATIVE_INFINITY, UNREADABLE_MS, clock())
    if (known === null || !(isUnreadable || isWithin(known.checkedAt, FRESH_MS, clock()))) await refreshOnce(repo)
    const good = (await store.repositories.file(repo))?.good ?? null
    return (good === null ? null : (await parse(repo, good)).rules) ?? ofRepository
  }
  const serves = async (repo: string, project: string): Promise<boolean> =>
    (await standardOf(context, repo)).projects.includes(project)
  /** The first repository, by name, that serves the project and whose file names it. */
  const repositoryNaming = async (project: string): Promise<string | null> => {
    for (const { repo, good } of await store.repositories.files())
      if (good !== null && (await serves(repo, project)) && (await parse(repo, good)).projects.includes(project))
        return repo
    return null
  }
  /** The repository of the ticket's pull request: of the last open one, or else of the last. */
  const repositoryOf = async (ticket: Ticket): Promise<string | null> => {
    const served: KnownPullRequest[] = []
    for (const link of await store.pullRequests.ofTicket(ticket))
      if (await serves(link.repo, projectOf(ticket))) served.push(link)
    return (served.findLast(({ state }) => state === 'open') ?? served.at(-1))?.repo ?? null
  }

  /** The projects that the repository serves, by the operator's word and by its own file as it was last read. No request. */
  const projectsNow = async (repo: string): Promise<readonly string[]> => {
    const { projects } = await standardOf(context, repo)
    const good = projects.length === 0 ? null : ((await store.repositories.file(repo))?.good ?? null)
    return (good === null ? null : (await parse(repo, good)).rules?.projects) ?? projects
  }
  const servesNow = async (repo: string, project: string): Promise<boolean> =>
    (await projectsNow(repo)).includes(project)

  return {
    standard,
    rulesOf,
    projectsNow,
    servesNow,
    /**
     * The repositories that serve a project, in the operator's order, by their present names; `acme/*` for all of an owner.
     * `isMapped`: the operator named them for this project. No request.
     */
    repositoriesFor: async (project: string): Promise<{ repositories: string[]; isMapped: boolean }> => {
      const repositories: string[] = []
      for (const entry of servingRepositories(project, serving)) {
        const name = isWildcard(entry) ? entry : await store.repositories.presentName(entry)
        if (isWildcard(entry) || (await servesNow(name, project))) repositories.push(name)
      }
      return { repositories: [...new Set(repositories)], isMapped: serving.mapped.includes(project) }
    },
    /**
     * The rules of the repository with the ticket's pull request, or else of the one whose file names its project. Which projects
     * exist is the operator's word alone.
     */
    rulesOfTicket: async (ticket: Ticket): Promise<Rules> => {
      const repo = (await repositoryOf(ticket)) ?? (await repositoryNaming(projectOf(ticket)))
      return repo === null ? standard : { ...(await rulesOf(repo)), projects: standard.projects }
    },
    /** The default branch of a repository has moved. */
    rulesChanged: refreshOnce,
    /** Whether the repository may act at all, under this name or one that it had. */
    isListed: async (repo: string): Promise<boolean> =>
      isListed(await store.repositories.namesOf(repo), serving.repositories),
    isOwnerListed: (owner: string): boolean => isOwnerListed(owner, serving.repositories),
  }
}
