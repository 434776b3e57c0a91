/** How git in a machine reaches a repository. */
import type { Config } from '../../config/config.ts'
import type { Ticket } from '../../domain.ts'
import type { GitGateway } from '../git-gateway/gateway.ts'

export type ProjectAccess = {
  /** What the remotes of the repository begin with: `https://github.com/`. */
  remote: string
  /** What git in the machine asks in its place while `work` runs; null: the remote itself. */
  through: string | null
  /** Whether `through` goes on answering afterwards. Otherwise git is left with the remote. */
  stays: boolean
  /** How people push from the machine, when not through us. */
  note: string | null
  /** A file of the default branch, or null when there is none of at most so many bytes. Null: what the machine has cloned is read. */
  readDefaultFile: ((path: string, most: number) => Promise<string | null>) | null
  /** The projects by which branches of the repository name their tickets. Null: what this home's settings say. */
  projects: (() => Promise<readonly string[]>) | null
}

/** Gives the access to `work`, and takes it back afterwards unless it stays. */
export type WithProjectAccess = <T>(
  machine: { ticket: Ticket; vmId: string; repo: string; signal: AbortSignal },
  work: (access: ProjectAccess) => Promise<T>,
) => Promise<T>

/** The web address that belongs to the API's: github.com, or a GitHub Enterprise Server. */
export const remoteOf = (apiUrl: string | null): string => {
  const { protocol, host } = new URL(apiUrl ?? 'https://api.github.com')
  return host === 'api.github.com' ? 'https://github.com/' : `${protocol}//${host}/`
}

/** Through the gateway, at an address of the machine's. */
export const accessThrough = (
  gateway: Pick<GitGateway, 'readFile' | 'projectsOf'>,
  { ticket, repo }: { ticket: Ticket; repo: string },
  address: string,
  { githubApiUrl }: Pick<Config, 'githubApiUrl'>,
  { stays, note }: Pick<ProjectAccess, 'stays' | 'note'> = { stays: true, note: null },
): ProjectAccess => ({
  ...{ remote: remoteOf(githubApiUrl), through: `${address}/`, stays, note },
  readDefaultFile: (path, most) => gateway.readFile({ ticket, repo, path, most }),
  projects: () => gateway.projectsOf({ ticket, repo }),
})

/** Without a link: what everybody may read can be cloned. */
export const plainAccess =
  (apiUrl: string | null): WithProjectAccess =>
  (_machine, work) =>
    work({
      ...{ remote: remoteOf(apiUrl), through: null, stays: true, readDefaultFile: null, projects: null },
      note: 'git push works while agent-swarm up runs on this host, or with your own key: ssh -A',
    })
