/** Moves issues along their workflow. https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/ */
import type { StatusCategory } from '../../../handlers/handler.ts'
import type { Ticket } from '../../domain.ts'
import { categoryOf, list, member, text } from './answers.ts'
import type { Ask } from './request.ts'

/** `to`: the status that it leads to. `needs`: the names of the fields that it asks for and that have no default. */
export type Transition = { id: string; to: { name: string; category: StatusCategory }; needs: string[] }

const transitionIn = (value: unknown): Transition | null => {
  const [id, name] = [text(member(value, 'id')), text(member(value, 'to', 'name'))]
  const fields = member(value, 'fields')
  if (id === null || name === null || member(value, 'isAvailable') === false) return null
  return {
    id,
    to: { name, category: categoryOf(member(value, 'to', 'statusCategory', 'key')) },
    needs: Object.entries(typeof fields === 'object' && fields !== null ? fields : {})
      .filter(([, field]) => member(field, 'required') === true && member(field, 'hasDefaultValue') !== true)
      .map(([key, field]) => text(member(field, 'name')) ?? key),
  }
}

export const openTransitions = (ask: Ask) => ({
  /** The transitions that our account may make from the status that the issue has. */
  transitions: async (ticket: Ticket): Promise<Transition[]> => {
    const answer = await ask(`reading the transitions of ${ticket} in Jira`, {
      url: `/rest/api/3/issue/${ticket}/transitions`,
      searchParams: { expand: 'transitions.fields' },
    })
    return list(member(answer, 'transitions')).flatMap(value => transitionIn(value) ?? [])
  },
  transition: async (ticket: Ticket, id: string): Promise<void> => {
    await ask(`moving ${ticket} in Jira`, {
      url: `/rest/api/3/issue/${ticket}/transitions`,
      method: 'POST',
      answersNothing: true,
      body: { transition: { id } },
    })
  },
})
