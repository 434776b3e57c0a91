/** What holds for every command, for docs/cli.md and the manual page. */
type Rows = readonly (readonly [name: string, text: string])[]

export const exitStatuses: Rows = [
  ['0', 'Done, or nothing to do.'],
  ['1', 'Failed. stderr says why and what to do next.'],
  ['2', 'Wrong usage. Nothing was done.'],
  ['130', 'Ctrl-C was pressed twice. The next command or the runner recovers the interrupted operation.'],
  ['other', 'agent-swarm ssh exits with the status of the shell or the command in the machine.'],
]
export const environment: Rows = [
  ['AGENT_SWARM_HOME', 'The folder of all files of agent-swarm (~/.agent-swarm). An absolute path.'],
  ['AGENT_SWARM_PROVIDER', 'The hypervisor. Default: the first one that is available.'],
  ['NO_COLOR', 'Set to anything: no colors.'],
  ['COLUMNS', 'The width of help in a pipe (80).'],
  ['LC_ALL, LC_CTYPE, LANG', 'A UTF-8 locale shows symbols; any other shows ASCII.'],
]
export const files: Rows = [
  ['~/.agent-swarm/config.yaml', 'The settings.'],
  ['~/.agent-swarm/registry.db', 'The environments, and the journal of operations.'],
  ['~/.agent-swarm/backups/', 'Backups of both databases, the newest seven of each.'],
  ['~/.agent-swarm/rescued/', 'Unsaved work that was rescued before a delete.'],
  ['~/.agent-swarm/logs/', 'The output of commands in the background (--detach).'],
  ['~/.ssh/agent-swarm.config', 'The machines as hosts of ssh (ssh --config --install).'],
]
