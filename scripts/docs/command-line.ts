/** What is true of every command, as the page and the manual page tell it. */
type Rows = readonly (readonly [name: string, says: string])[]

export const exitStatuses: Rows = [
  ['0', 'Done, or there was nothing to do.'],
  ['1', 'It failed, and stderr says why and what can be done.'],
  ['2', 'Wrong usage: nothing was done.'],
  ['130', 'Ctrl-C was pressed twice: what was under way is settled by the next command or the runner.'],
  ['any', 'agent-swarm ssh passes the status of the shell or of the command on.'],
]
export const environment: Rows = [
  ['AGENT_SWARM_HOME', 'Where everything is kept (~/.agent-swarm). An absolute path.'],
  ['AGENT_SWARM_PROVIDER', 'The hypervisor: kvm or synthetic. Without it, the first that is available.'],
  ['NO_COLOR', 'Set to anything: no colours.'],
]
export const files: Rows = [
  ['~/.agent-swarm/config.yaml', 'The settings.'],
  ['~/.agent-swarm/registry.db', 'Which environments there are, and the journal of what was done to them.'],
  ['~/.agent-swarm/rescued/', 'Work that was saved before a delete.'],
  ['~/.agent-swarm/logs/', 'What commands say that go on in the background (--detach).'],
  ['~/.ssh/agent-swarm.config', 'The machines as hosts of ssh (ssh --config --install).'],
]
