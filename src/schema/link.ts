/** What the runner and a machine agree on: the ports of the link on the machine's loopback, and where our files lie in it. */

/** Each is HTTP/1.1. `requests`: what `swarm` in the machine asks for. */
export const LINK_PORTS = { git: 17_701, model: 17_702, requests: 17_703 } as const
export type LinkService = keyof typeof LINK_PORTS

/** Root's, for everybody to read: `swarm`'s own files. */
export const GUEST_LIBRARY = '/usr/local/lib/agent-swarm'
/** The ssh user's: logs of setup and start, and the agent's files. */
export const GUEST_STATE = '/var/lib/agent-swarm'
/** In GUEST_STATE: the note that was written before the last restore. */
export const NOTE_BEFORE_RESTORE = 'note-before-restore.txt'
