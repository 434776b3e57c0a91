/**
 * What Jira's answers must hold: everything that decides something. An answer without it is none, and is asked for again. Fields
 * that a project hides are missing in its issues. https://developer.atlassian.com/cloud/jira/platform/rest/v3/
 */
import * as v from 'valibot'

const { object, array, optional, nullish, string, number, boolean } = v

const status = object({ id: optional(string()), name: string(), statusCategory: object({ key: string() }) })
const person = nullish(object({ accountId: optional(string()), displayName: optional(string()) }))
/** A service desk's customers and what apps did have no account. */
const author = nullish(
  object({ accountId: optional(string()), displayName: optional(string()), accountType: optional(string()) }),
)
const history = object({
  ...{ id: string(), author, created: string() },
  items: array(
    object({ field: string(), from: nullish(string()), to: nullish(string()), fromString: nullish(string()) }),
  ),
})
const changelog = object({ histories: array(history), total: optional(number()) })
export const comment = object({
  ...{ id: string(), author, created: string(), updated: string(), body: v.unknown() },
  visibility: nullish(object({ type: string(), value: string() })),
  jsdPublic: optional(boolean()),
})
const fields = object({
  status,
  assignee: person,
  labels: nullish(array(string())),
  updated: optional(string()),
  created: optional(string()),
  summary: nullish(string()),
  comment: optional(object({ comments: array(comment), total: number() })),
})
export const issue = object({ key: string(), fields })
const issueWithChanges = object({
  key: string(),
  fields: object({ ...fields.entries, created: string() }),
  changelog,
})
export const issues = object({ issues: array(issueWithChanges) })
export const foundIssues = object({ ...issues.entries, nextPageToken: nullish(string()), isLast: optional(boolean()) })
/** Its text has any form. */
export const issueText = object({ key: string(), fields: v.looseObject({}) })
export const changes = object({ values: array(history), isLast: optional(boolean()) })
export const comments = object({ comments: array(comment), isLast: optional(boolean()) })
export const statuses = array(object({ id: string(), statusCategory: object({ key: string() }) }))
export const allFields = array(object({ id: string(), name: string() }))
export const transitions = object({
  transitions: array(
    object({
      ...{ id: string(), isAvailable: optional(boolean()) },
      to: object({ name: string(), statusCategory: object({ key: string() }) }),
      fields: optional(v.record(string(), v.looseObject({}))),
    }),
  ),
})
/** What was created. Links have numbers. */
export const created = object({ id: v.union([string(), number()]) })
export const account = object({ accountId: string() })
export const project = object({ key: string(), name: nullish(string()) })
export const projects = object({ values: array(object({ key: string() })) })
export const permissions = object({ permissions: v.record(string(), object({ havePermission: boolean() })) })
export const serverInfo = object({ serverTime: string() })

/** A refusal by Jira itself. A proxy or the gateway in front of it has other words. */
export const refusal = v.union([object({ errorMessages: array(string()) }), object({ errors: v.looseObject({}) })])
