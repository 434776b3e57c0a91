/** What a repository takes away from the operator's agent: `agent` in `.github/agent-swarm.yml` of its default branch. */
import type { EnvironmentKey } from '../../domain.ts'
import { fail } from '../../errors.ts'
import { MAX_REPOSITORY_FILE, REPOSITORY_FILE, readProjectFile } from '../../schema/repository-file.ts'
import type { RepositoryAgent } from '../../schema/workspace.ts'
import type { GitGateway } from '../git-gateway/gateway.ts'

/** Undefined: nothing. Throws where that cannot be read: a file with errors may say that no agent shall start. */
export const repositoryAgent =
  (gateway: Pick<GitGateway, 'readFile'>) =>
  async (repo: string, ticket: EnvironmentKey): Promise<RepositoryAgent | undefined> => {
    const content = await gateway.readFile({ ticket, repo, path: REPOSITORY_FILE, most: MAX_REPOSITORY_FILE })
    const { agent, problems } = await readProjectFile(content ?? '')
    if (problems.length === 0) return agent
    throw fail(
      'refused',
      `reading what ${repo} says of agents: ${problems.join(' ').replace(/\.$/, '')}`,
      `Correct ${REPOSITORY_FILE} on its default branch`,
    )
  }
