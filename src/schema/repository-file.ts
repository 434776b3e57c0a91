/**
 * `.github/agent-swarm.yml`: its name, its size, and the members that say what a machine is made of and how it gets its project. The bot reads the whole
 * file (src/bot/rules/repository-file.ts) and reports its errors; the runner reads these members from its mirror.
 */
import * as v from 'valibot'
import { closedObject, imageName, integer } from './forms.ts'
import { member, type RepositoryAgent, repositoryAgent, type Workspace, workspace } from './workspace.ts'
import { problemsOf, readYaml, type YamlFile } from './yaml.ts'

export const REPOSITORY_FILE = '.github/agent-swarm.yml'
/** Characters. */
const MAX_LENGTH = 16_000
/** Bytes. */
export const MAX_REPOSITORY_FILE = 4 * MAX_LENGTH

export const machineMembers = {
  baseImage: member(
    imageName,
    "The image that machines are cloned from. The runner's hypervisor must have it. Default: the runner's own.",
    'node-24',
  ),
  size: member(
    closedObject({
      cpus: member(integer(1, 64), 'Virtual CPUs.', 4),
      memoryMiB: member(integer(256, 1_048_576), 'Memory, in MiB.', 8192),
      diskGiB: member(integer(2, 16_384), 'Disk, in GiB.', 60),
    }),
    "The size of new machines, within the runner's limits (`maxCpus`, `maxMemoryMiB`, `maxDiskGiB`). Default of each member: the runner's own.",
    { cpus: 4 },
  ),
}
export const projectMembers = {
  workspace: member(
    workspace,
    "How a machine gets this project. The operator's own `workspace` of this repository wins over it.",
    { setup: 'npm ci', ports: [3000] },
  ),
  agent: member(
    repositoryAgent,
    "What this repository takes away from the operator's agent, and its prompt. Without an agent of the operator, it means nothing.",
    { rounds: 1 },
  ),
}

/** The file as YAML; one that is no mapping is a problem. */
export const readFileOfRepository = async (content: string, name: string): Promise<YamlFile> => {
  const file = await readYaml(content, name, MAX_LENGTH)
  const isMapping = typeof file.value === 'object' && !Array.isArray(file.value)
  return file.problems.length > 0 || isMapping
    ? file
    : { ...file, problems: [`${name} must be lines of "name: value".`] }
}

const projectFile = v.object({ ...machineMembers, ...projectMembers })

/** Missing members are not in the file. With problems, nothing of the file counts. */
type ProjectFile = Omit<v.InferOutput<typeof projectFile>, 'workspace' | 'agent'> & {
  workspace: Workspace | undefined
  agent: RepositoryAgent | undefined
  problems: string[]
}

/** The members of a file that the runner needs. The others are the bot's. */
export const readProjectFile = async (content: string, name = REPOSITORY_FILE): Promise<ProjectFile> => {
  const file = await readFileOfRepository(content, name)
  const nothing = (problems: string[]): ProjectFile => ({ workspace: undefined, agent: undefined, problems })
  if (file.problems.length > 0) return nothing(file.problems)
  const parsed = v.safeParse(projectFile, file.value)
  if (!parsed.success) return nothing(problemsOf(file, parsed.issues))
  const { workspace, agent, ...machine } = parsed.output
  return { ...machine, workspace, agent, problems: [] }
}
