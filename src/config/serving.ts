/**
 * Which repositories may act at all (GITHUB_REPOSITORIES), and on which projects (JIRA_PROJECTS). A repository that a `*` lets in
 * acts only on projects whose map names it: otherwise everybody who may create a repository could command every ticket. Pure.
 */

/** `repositories` and the values of `projects`: `acme/shop`, or `acme/*` for all of an owner. */
export type Serving = {
  repositories: readonly string[]
  /** By project: the repositories that serve it. */
  projects: Readonly<Record<string, readonly string[]>>
  /** The projects whose repositories a map names, in the operator's order. */
  mapped: readonly string[]
}

export const ownerOf = (repository: string): string => repository.slice(0, repository.indexOf('/')).toLowerCase()
export const isWildcard = (repository: string): boolean => repository.endsWith('/*')

const lets = (entry: string, repo: string): boolean =>
  isWildcard(entry) ? ownerOf(entry) === ownerOf(repo) : entry.toLowerCase() === repo.toLowerCase()

/** `names`: those that the repository has or had. */
export const isListed = (names: readonly string[], repositories: readonly string[]): boolean =>
  repositories.some(entry => names.some(name => lets(entry, name)))

export const isOwnerListed = (owner: string, repositories: readonly string[]): boolean =>
  repositories.some(entry => ownerOf(entry) === owner.toLowerCase())

/** The projects that a repository serves. `names`: those that it has or had. */
export const servedProjects = (names: readonly string[], { repositories, projects }: Serving): string[] =>
  isListed(names, repositories) ? Object.keys(projects).filter(key => isListed(names, projects[key] ?? [])) : []

/** `DROP:acme/shop+acme/api` */
const parseEntry = (entry: string): { key: string; map: readonly string[] | null } => {
  const [key = '', map] = entry.split(':')
  return { key: key.toUpperCase(), map: map === undefined ? null : map.split('+') }
}

/** The keys of JIRA_PROJECTS, each once. */
export const projectKeys = (entries: readonly string[]): string[] => [
  ...new Set(entries.map(entry => parseEntry(entry).key)),
]

export const readServing = (repositories: readonly string[], entries: readonly string[]): Serving => {
  const named = repositories.filter(entry => !isWildcard(entry))
  const projects: Record<string, string[]> = {}
  const parsed = entries.map(parseEntry)
  for (const { key, map } of parsed) projects[key] = [...new Set([...(projects[key] ?? []), ...(map ?? named)])]
  return { repositories, projects, mapped: parsed.flatMap(({ key, map }) => (map === null ? [] : [key])) }
}

/** The repositories that serve a project, in the operator's order; `acme/*` where all of an owner's do. */
export const servingRepositories = (project: string, { repositories, projects }: Serving): string[] => [
  ...new Set(
    (projects[project] ?? []).flatMap(entry => {
      if (!isWildcard(entry)) return isListed([entry], repositories) ? [entry] : []
      const listed = repositories.filter(repository => ownerOf(repository) === ownerOf(entry))
      return listed.some(isWildcard) ? [entry] : listed
    }),
  ),
]

/** What of the lists cannot be meant, one sentence each. */
export const servingProblems = ({ repositories, projects }: Serving): string[] =>
  Object.entries(projects).flatMap(([key, served]) => {
    if (served.length === 0) {
      const [entry = 'acme/*'] = repositories
      const owner = entry.slice(0, entry.indexOf('/'))
      return [
        `JIRA_PROJECTS: no repository serves ${key}, because GITHUB_REPOSITORIES lists none by its full name. Name those that serve it, for example JIRA_PROJECTS=${key}:${owner}/shop. ${key}:${owner}/* lets everybody who may create a repository there act on its tickets.`,
      ]
    }
    const strangers = served.filter(entry =>
      isWildcard(entry) ? !isOwnerListed(ownerOf(entry), repositories) : !isListed([entry], repositories),
    )
    return strangers.map(
      entry =>
        `JIRA_PROJECTS: ${entry} shall serve ${key}, and GITHUB_REPOSITORIES does not list it. Add ${entry} there, or remove it here.`,
    )
  })

/** Repositories of `pool` that may not act at all, one sentence each. Without a list, the bot decides. */
export const poolProblems = (
  pools: readonly { repository: string | null }[],
  { repositories }: Pick<Serving, 'repositories'>,
): string[] =>
  pools.flatMap(({ repository }) =>
    repository === null || repositories.length === 0 || isListed([repository], repositories)
      ? []
      : [`pool: GITHUB_REPOSITORIES does not list ${repository}. Add it there, or remove it here.`],
  )

/** What works and is dangerous, one sentence each. */
export const servingWarnings = ({ projects }: Serving): string[] =>
  Object.entries(projects).flatMap(([key, served]) =>
    served
      .filter(isWildcard)
      .map(
        entry =>
          `JIRA_PROJECTS: every repository of ${entry.slice(0, -2)} serves ${key}, also those that somebody creates later. Whoever can write to one of them can command the tickets of ${key}.`,
      ),
  )
