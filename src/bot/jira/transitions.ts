/** Moves issues along their workflow. https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/ */
import type * as v from 'valibot'
import type { StatusCategory } from '../../../handlers/handler.ts'
import type { Ticket } from '../../domain.ts'
import { categoryOf } from './answers.ts'
import type { Ask } from './request.ts'
import * as shapes from './shapes.ts'

/** `to`: the status that it leads to. `needs`: the names of the fields that it asks for and that have no default. */
export type Transition = { id: string; to: { name: string; category: StatusCategory }; needs: string[] }

type Listed = v.InferOutput<typeof shapes.transitions>['transitions'][number]
const transitionIn = ({ id, to, fields = {} }: Listed): Transition => ({
  id,
  to: { name: to.name, category: categoryOf(to.statusCategory.key) },
  needs: Object.entries(fields)
    .filter(([, field]) => field.required === true && field.hasDefaultValue !== true)
    .map(([key, field]) => (typeof field.name === 'string' ? field.name : key)),
})

export const openTransitions = (ask: Ask) => ({
  /** The transitions that our account may make from the status that the issue has. */
  transitions: async (ticket: Ticket): Promise<Transition[]> => {
    const answer = await ask(`reading the transitions of ${ticket} in Jira`, {
      shape: shapes.transitions,
      url: `/rest/api/3/issue/${ticket}/transitions`,
      searchParams: { expand: 'transitions.fields' },
    })
    return answer.transitions.filter(({ isAvailable }) => isAvailable !== false).map(transitionIn)
  },
  transition: async (ticket: Ticket, id: string): Promise<void> => {
    await ask(`moving ${ticket} in Jira`, {
      url: `/rest/api/3/issue/${ticket}/transitions`,
      method: 'POST',
      shape: null,
      body: { transition: { id } },
    })
  },
})
