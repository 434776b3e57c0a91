/** What polls find, as deliveries in the shape of webhooks. The next poll makes the same ids. Pure. */
import type { StatusCategory } from '../../../handlers/handler.ts'
import { jiraCommandLines } from '../../../handlers/jira-lines.ts'
import type { Ticket } from '../../domain.ts'
import type { Requester } from '../../schema/action.ts'
import type { PolledDelivery } from '../catch-up.ts'
import type { Change, IssueWithChanges, JiraComment } from './answers.ts'
import { jiraLane } from './events.ts'
import type { SearchedIssue } from './issues.ts'

/** The event of what a project held before the bot watched it: it is shown in the inbox, and not acted on. */
export const FIRST_LOOK = 'first look'

const delivery = (id: string, body: { webhookEvent: string; [more: string]: unknown }) => ({
  ...{ source: 'jira' as const, id, event: body.webhookEvent },
  lane: jiraLane(body),
  body: JSON.stringify(body),
})

const issueDelivery = (
  id: string,
  { ticket, assignee, labels }: IssueWithChanges,
  status: { category: StatusCategory; name: string | null },
  {
    at,
    by,
    changelog,
    late = false,
  }: { at: number; by: Requester | null; changelog: { id?: string; items: object[] } | null; late?: boolean },
): PolledDelivery =>
  delivery(id, {
    webhookEvent: changelog === null ? 'jira:issue_created' : 'jira:issue_updated',
    timestamp: at,
    user: { accountId: by?.who ?? null, displayName: by?.name ?? null },
    issue: {
      key: ticket,
      fields: {
        status: { name: status.name, statusCategory: { key: status.category } },
        assignee: { accountId: assignee },
        labels,
      },
    },
    changelog,
    ...(late ? { late } : {}),
  })

const changeDelivery = (issue: IssueWithChanges, change: Change, category: StatusCategory, late: boolean) => {
  const { id, at, by, fields, fromStatus, toName, from } = change
  const previous = { status: { from: fromStatus }, assignee: {}, Key: { fromString: from } }
  const items = fields.map(field => ({ field, ...previous[field] }))
  return issueDelivery(
    `poll:${issue.ticket}:${id}`,
    issue,
    { category, name: toName },
    { at, by, changelog: { id, items }, late },
  )
}
const createdDelivery = (issue: IssueWithChanges, late: boolean) =>
  issueDelivery(
    `poll:${issue.ticket}:created`,
    issue,
    { category: issue.category, name: issue.statusName },
    {
      ...{ at: issue.createdAt, by: null, changelog: null, late },
    },
  )
const commentDelivery = (ticket: Ticket, { id, at, body }: JiraComment) =>
  delivery(`poll:${ticket}:comment:${id}`, {
    webhookEvent: 'comment_created',
    issue: { key: ticket },
    comment: { id, body, created: new Date(at).toISOString() },
  })

/** `at`: of Jira's clock, epoch ms. */
export const firstLookDelivery = (issue: IssueWithChanges, at: number): PolledDelivery => ({
  ...issueDelivery(
    `first:${issue.ticket}`,
    issue,
    { category: issue.category, name: issue.statusName },
    {
      at,
      by: null,
      changelog: { items: [{ field: 'status' }] },
    },
  ),
  event: FIRST_LOOK,
})

/**
 * An issue's creation, changes and commands since `since` (epoch ms), each with the name of the change (see events.ts). `late`:
 * they are found by catching up.
 */
export const deliveriesOf = async (
  issue: SearchedIssue,
  since: number,
  { categoryOf, late }: { categoryOf: (status: string) => Promise<StatusCategory>; late: boolean },
): Promise<{ change: string; delivery: PolledDelivery }[]> => {
  const deliveries: { change: string; delivery: PolledDelivery }[] = []
  // The status that it was created in is unknown once it has moved; then its changes are enough.
  if (issue.createdAt >= since && issue.changes.length === 0)
    deliveries.push({ change: `created:${issue.ticket}`, delivery: createdDelivery(issue, late) })
  for (const change of issue.changes) {
    if (change.at < since) continue
    const category = change.to === null ? issue.category : await categoryOf(change.to)
    deliveries.push({ change: `changed:${change.id}`, delivery: changeDelivery(issue, change, category, late) })
  }
  for (const comment of issue.comments)
    if (comment.at >= since && jiraCommandLines(comment.body).length > 0)
      deliveries.push({
        change: `comment:${comment.id}`,
        delivery: commentDelivery(issue.ticket, comment),
      })
  return deliveries
}
