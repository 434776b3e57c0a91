/** The hidden first line of our comments on GitHub, by which they are found again. */
import type { Ticket } from '../domain.ts'

const PREFIX = '<!-- agent-swarm:'

export const statusMarker = (ticket: Ticket): string => `${PREFIX}status:${ticket} -->`
export const replyMarker = (commentId: number): string => `${PREFIX}reply:${commentId} -->`
export const agentMarker = (run: string): string => `${PREFIX}agent:${run} -->`
export const roundsMarker = (ticket: Ticket): string => `${PREFIX}rounds:${ticket} -->`
/** Anybody can copy a marker: it proves nothing about the author. */
export const isMarked = (body: string): boolean => body.startsWith(PREFIX)
